"""Jobs that reprocess faces: their batches are units without an analysis, and jobs can be paused.

A worker of the version before joins units to their analyses, and so never leases a batch.
"""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.job
    ADD COLUMN kind TEXT DEFAULT 'submission' NOT NULL,
    ADD COLUMN release_id BIGINT,
    ADD COLUMN paused_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN speed TEXT DEFAULT 'full' NOT NULL,
    ADD CONSTRAINT ck_job_kind CHECK (kind IN ('submission', 'reprocess')),
    ADD CONSTRAINT ck_job_speed CHECK (speed IN ('low', 'normal', 'full')),
    ADD CONSTRAINT ck_job_release CHECK ((kind = 'reprocess') = (release_id IS NOT NULL)),
    ADD CONSTRAINT fk_job_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id);
CREATE INDEX ix_job_paused ON facet.job (job_id) WHERE paused_at IS NOT NULL;
CREATE INDEX ix_job_reprocess ON facet.job (job_id) WHERE kind = 'reprocess' AND finished_at IS NULL;

CREATE TABLE facet.reprocess_face (
    job_id BIGINT NOT NULL,
    face_id BIGINT NOT NULL,
    CONSTRAINT pk_reprocess_face PRIMARY KEY (job_id, face_id),
    CONSTRAINT fk_reprocess_face_job_id_job FOREIGN KEY (job_id) REFERENCES facet.job (job_id) ON DELETE CASCADE
);

CREATE TABLE facet.reprocess_gap (
    job_id BIGINT NOT NULL,
    analysis_id BIGINT NOT NULL,
    reason TEXT NOT NULL,
    face_count BIGINT NOT NULL,
    CONSTRAINT pk_reprocess_gap PRIMARY KEY (job_id, analysis_id, reason),
    CONSTRAINT fk_reprocess_gap_job_id_job FOREIGN KEY (job_id) REFERENCES facet.job (job_id) ON DELETE CASCADE,
    CONSTRAINT fk_reprocess_gap_analysis_id_analysis FOREIGN KEY (analysis_id)
        REFERENCES facet.analysis (analysis_id) ON DELETE CASCADE
);
CREATE INDEX ix_reprocess_gap_analysis_id ON facet.reprocess_gap (analysis_id);

ALTER TABLE facet.unit
    ALTER COLUMN analysis_id DROP NOT NULL,
    ADD COLUMN job_id BIGINT,
    ADD COLUMN way TEXT,
    ADD COLUMN tasks TEXT[],
    ADD COLUMN first_id BIGINT,
    ADD COLUMN last_id BIGINT,
    ADD COLUMN ids BIGINT[],
    DROP CONSTRAINT ck_unit_stage,
    ADD CONSTRAINT ck_unit_stage CHECK (stage IN ('analyse', 'finish', 'reprocess')),
    ADD CONSTRAINT ck_unit_way
        CHECK (way IN ('reading', 'embedding', 'crops', 'file', 'appearances', 'joining', 'people')),
    ADD CONSTRAINT ck_unit_batch CHECK (
        CASE WHEN stage = 'reprocess' THEN analysis_id IS NULL AND job_id IS NOT NULL AND way IS NOT NULL
                 AND first_id <= last_id
             ELSE analysis_id IS NOT NULL AND job_id IS NULL END),
    ADD CONSTRAINT fk_unit_job_id_job FOREIGN KEY (job_id) REFERENCES facet.job (job_id) ON DELETE CASCADE;
CREATE INDEX ix_unit_reprocess ON facet.unit (priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND stage = 'reprocess';
CREATE INDEX ix_unit_job_id ON facet.unit (job_id) WHERE job_id IS NOT NULL;
DROP INDEX facet.ix_unit_lease;
CREATE INDEX ix_unit_lease ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state = 'pending' AND attempts = 0 AND stage <> 'reprocess';
"""

# Rows that batches stored stay: they belong to layers.
DOWN = """
DELETE FROM facet.job WHERE kind = 'reprocess';
DROP INDEX facet.ix_unit_lease;
CREATE INDEX ix_unit_lease ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state = 'pending' AND attempts = 0;
DROP INDEX facet.ix_unit_job_id, facet.ix_unit_reprocess;
ALTER TABLE facet.unit
    DROP CONSTRAINT ck_unit_batch, DROP CONSTRAINT ck_unit_way, DROP CONSTRAINT ck_unit_stage,
    ADD CONSTRAINT ck_unit_stage CHECK (stage IN ('analyse', 'finish')),
    DROP COLUMN ids, DROP COLUMN last_id, DROP COLUMN first_id, DROP COLUMN tasks, DROP COLUMN way,
    DROP COLUMN job_id,
    ALTER COLUMN analysis_id SET NOT NULL;
DROP TABLE facet.reprocess_gap, facet.reprocess_face;
DROP INDEX facet.ix_job_reprocess, facet.ix_job_paused;
ALTER TABLE facet.job DROP COLUMN speed, DROP COLUMN paused_at, DROP COLUMN release_id, DROP COLUMN kind;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    drop_views(op.get_bind())  # the view of jobs shows the columns that go
    op.execute(DOWN)
