"""Attempts at identifying an analysis; changes of regroupings that were settled go.

A worker of the version before goes on as it did, without counting attempts.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.release ADD COLUMN identifying BIGINT[];
ALTER TABLE facet.analysis
    ADD COLUMN identify_attempts INTEGER DEFAULT 0 NOT NULL,
    ADD COLUMN identify_error TEXT;
CREATE INDEX ix_analysis_unidentified ON facet.analysis (release_id) WHERE identify_attempts > 0;

DELETE FROM facet.regroup_change AS c USING facet.regroup_proposal AS p
    WHERE p.proposal_id = c.proposal_id AND p.state <> 'open';
"""

DOWN = """
DROP INDEX facet.ix_analysis_unidentified;
ALTER TABLE facet.analysis DROP COLUMN identify_error, DROP COLUMN identify_attempts;
ALTER TABLE facet.release DROP COLUMN identifying;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
