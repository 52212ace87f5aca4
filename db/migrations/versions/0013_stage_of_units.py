"""The stage of a unit: the finish stage of an analysis is a unit of its own, with a lease and attempts.

A worker of the version before serves another release, since the version of the pipeline grew with it, and so never
leases a unit of the new stage.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.unit
    ADD COLUMN stage TEXT DEFAULT 'analyse' NOT NULL,
    ADD CONSTRAINT ck_unit_stage CHECK (stage IN ('analyse', 'finish'));
"""

# The version before joins faces when it stores the last unit of an analysis. So where all ranges have ended, they are
# analysed once more.
DOWN = """
CREATE TEMPORARY TABLE unjoined ON COMMIT DROP AS
    SELECT analysis_id, CASE state WHEN 'cancelled' THEN 'cancelled' ELSE 'pending' END AS state
    FROM facet.unit WHERE stage = 'finish' AND state IN ('pending', 'leased', 'cancelled');
DELETE FROM facet.face USING unjoined WHERE face.analysis_id = unjoined.analysis_id;
DELETE FROM facet.scene_cut USING unjoined WHERE scene_cut.analysis_id = unjoined.analysis_id;
UPDATE facet.unit SET state = unjoined.state, attempts = 0, owner = NULL, lease_until = NULL, finished_at = NULL,
        frame_count = 0, face_count = 0
    FROM unjoined
    WHERE unit.analysis_id = unjoined.analysis_id AND stage = 'analyse' AND unit.state = 'done';
DELETE FROM facet.unit WHERE stage = 'finish';
ALTER TABLE facet.unit DROP COLUMN stage;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
