"""Whether all files of a job were written, and why a submission refused a file: on the item, not on the file.

Units change several times each, and leases read the first rows of an index: dead rows are removed there early.
"""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.job
    ADD COLUMN submission TEXT DEFAULT 'ended' NOT NULL,
    ADD COLUMN written_at TIMESTAMP WITH TIME ZONE,
    ADD CONSTRAINT ck_job_submission CHECK (submission IN ('open', 'ended', 'broken'));

ALTER TABLE facet.job_item ADD COLUMN reason TEXT;
UPDATE facet.job_item AS i
SET reason = m.reason
FROM facet.media_file AS m
WHERE m.media_id = i.media_id AND i.analysis_id IS NULL AND m.reason IS NOT NULL AND m.sha256 IS NOT NULL;
CREATE INDEX ix_job_item_refused ON facet.job_item (job_id) WHERE analysis_id IS NULL;

CREATE INDEX ix_media_file_refused_uri ON facet.media_file (md5(uri)) WHERE sha256 IS NULL;

ALTER TABLE facet.unit SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
"""

DOWN = """
ALTER TABLE facet.unit RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
DROP INDEX facet.ix_media_file_refused_uri, facet.ix_job_item_refused;
ALTER TABLE facet.job_item DROP COLUMN reason;
ALTER TABLE facet.job DROP COLUMN written_at, DROP COLUMN submission;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute(DOWN)
