"""Jobs that can be cancelled, and turns: the order in which units of several jobs are leased.

Every unit gets a turn, counted in frames within its job, so that among equal priorities jobs go forward side by side.
Units that wait get theirs here. A program of the version before that still submits writes units with turn 0: they come
first, as they always did.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.job ADD COLUMN cancelled_at TIMESTAMP WITH TIME ZONE;

ALTER TABLE facet.analysis
    DROP CONSTRAINT ck_analysis_state,
    ADD CONSTRAINT ck_analysis_state CHECK (state IN ('pending', 'done', 'rejected', 'quarantined', 'cancelled'));

ALTER TABLE facet.unit
    ADD COLUMN turn BIGINT DEFAULT 0 NOT NULL,
    DROP CONSTRAINT ck_unit_state,
    ADD CONSTRAINT ck_unit_state CHECK (state IN ('pending', 'leased', 'done', 'rejected', 'quarantined', 'cancelled'));

DROP INDEX facet.ix_unit_lease;

UPDATE facet.unit AS u
SET turn = placed.turn
FROM (
    SELECT w.unit_id, row_number() OVER (PARTITION BY i.job_id ORDER BY w.unit_id) - 1 AS turn
    FROM facet.unit AS w
    JOIN (SELECT analysis_id, min(job_id) AS job_id FROM facet.job_item GROUP BY analysis_id) AS i USING (analysis_id)
    WHERE w.state = 'pending'
) AS placed
WHERE u.unit_id = placed.unit_id;

CREATE INDEX ix_unit_lease ON facet.unit (priority DESC, turn, unit_id) WHERE state IN ('pending', 'leased');
CREATE INDEX ix_unit_tried ON facet.unit (priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND attempts > 0;
"""

# What was cancelled becomes what the version before knows: a file that was refused.
DOWN = """
DROP INDEX facet.ix_unit_tried, facet.ix_unit_lease;
UPDATE facet.unit SET state = 'rejected' WHERE state = 'cancelled';
UPDATE facet.analysis SET state = 'rejected' WHERE state = 'cancelled';
ALTER TABLE facet.unit
    DROP COLUMN turn,
    DROP CONSTRAINT ck_unit_state,
    ADD CONSTRAINT ck_unit_state CHECK (state IN ('pending', 'leased', 'done', 'rejected', 'quarantined'));
ALTER TABLE facet.analysis
    DROP CONSTRAINT ck_analysis_state,
    ADD CONSTRAINT ck_analysis_state CHECK (state IN ('pending', 'done', 'rejected', 'quarantined'));
ALTER TABLE facet.job DROP COLUMN cancelled_at;
CREATE INDEX ix_unit_lease ON facet.unit (priority DESC, unit_id) WHERE state IN ('pending', 'leased');
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
