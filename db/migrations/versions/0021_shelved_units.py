"""Units that wait for paused jobs alone are shelved: no index that workers read has them."""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.job ADD COLUMN shelf_next BIGINT;
UPDATE facet.job SET shelf_next = 1 WHERE paused_at IS NOT NULL;
CREATE INDEX ix_job_shelf_next ON facet.job (job_id) WHERE shelf_next IS NOT NULL;
ALTER TABLE facet.unit
    ADD COLUMN shelved BOOLEAN NOT NULL DEFAULT false,
    ADD CONSTRAINT ck_unit_shelved CHECK (NOT shelved OR (state = 'pending' AND attempts = 0));
DROP INDEX facet.ix_unit_lease, facet.ix_unit_reprocess;
CREATE INDEX ix_unit_lease ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state = 'pending' AND attempts = 0 AND stage <> 'reprocess' AND NOT shelved;
CREATE INDEX ix_unit_reprocess ON facet.unit (priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND stage = 'reprocess' AND NOT shelved;
CREATE INDEX ix_unit_shelved ON facet.unit (release_id, priority DESC, turn) WHERE shelved;
"""

DOWN = """
DROP INDEX facet.ix_unit_shelved, facet.ix_unit_reprocess, facet.ix_unit_lease;
CREATE INDEX ix_unit_lease ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state = 'pending' AND attempts = 0 AND stage <> 'reprocess';
CREATE INDEX ix_unit_reprocess ON facet.unit (priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND stage = 'reprocess';
ALTER TABLE facet.unit DROP CONSTRAINT ck_unit_shelved, DROP COLUMN shelved;
DROP INDEX facet.ix_job_shelf_next;
ALTER TABLE facet.job DROP COLUMN shelf_next;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
