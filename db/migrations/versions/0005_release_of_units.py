"""The release on the unit's row, leading the indexes from which units are leased.

A worker serves one release. Before, it found the first units of all releases and looked for its own among them: those
of a release that no worker serves lay in front of it. Units that were not begun, those that ended and those that were
given up have indexes of their own, so that neither counting the first nor finding the last reads the others.

Programs of the version before cannot submit while this is in place; their workers go on.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UP = """
DROP INDEX facet.ix_unit_tried, facet.ix_unit_lease, facet.ix_unit_finished_at;

ALTER TABLE facet.analysis
    ADD CONSTRAINT uq_analysis_analysis_id_release_id UNIQUE (analysis_id, release_id);

ALTER TABLE facet.unit ADD COLUMN release_id BIGINT;
UPDATE facet.unit AS u
SET release_id = a.release_id
FROM facet.analysis AS a
WHERE a.analysis_id = u.analysis_id;
ALTER TABLE facet.unit
    ALTER COLUMN release_id SET NOT NULL,
    DROP CONSTRAINT fk_unit_analysis_id_analysis,
    ADD CONSTRAINT fk_unit_analysis_id_release_id_analysis FOREIGN KEY (analysis_id, release_id)
        REFERENCES facet.analysis (analysis_id, release_id) ON DELETE CASCADE;

CREATE INDEX ix_unit_lease ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state = 'pending' AND attempts = 0;
CREATE INDEX ix_unit_tried ON facet.unit (release_id, priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND attempts > 0;
CREATE INDEX ix_unit_quarantined ON facet.unit (release_id, analysis_id) WHERE state = 'quarantined';
CREATE INDEX ix_unit_finished_at ON facet.unit (finished_at) WHERE finished_at IS NOT NULL;
"""

DOWN = """
DROP INDEX facet.ix_unit_finished_at, facet.ix_unit_quarantined;
DROP INDEX facet.ix_unit_tried, facet.ix_unit_lease;
ALTER TABLE facet.unit
    DROP CONSTRAINT fk_unit_analysis_id_release_id_analysis,
    ADD CONSTRAINT fk_unit_analysis_id_analysis FOREIGN KEY (analysis_id)
        REFERENCES facet.analysis (analysis_id) ON DELETE CASCADE,
    DROP COLUMN release_id;
ALTER TABLE facet.analysis DROP CONSTRAINT uq_analysis_analysis_id_release_id;
CREATE INDEX ix_unit_lease ON facet.unit (priority DESC, turn, unit_id) WHERE state IN ('pending', 'leased');
CREATE INDEX ix_unit_tried ON facet.unit (priority DESC, turn, unit_id)
    WHERE state IN ('pending', 'leased') AND attempts > 0;
CREATE INDEX ix_unit_finished_at ON facet.unit (finished_at);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
