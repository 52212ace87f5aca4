"""When each piece of upkeep last ended, so that upkeep that stopped is noticed."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE facet.upkeep_run (
    name TEXT NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    runs BIGINT DEFAULT 1 NOT NULL,
    CONSTRAINT pk_upkeep_run PRIMARY KEY (name)
);
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE facet.upkeep_run")
