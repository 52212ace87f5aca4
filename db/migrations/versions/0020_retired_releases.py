"""Releases that are retired: when, and how far the removal of their rows has come."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.release
    ADD COLUMN retire_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN retirement JSONB;
"""

DOWN = """
ALTER TABLE facet.release
    DROP COLUMN retire_at,
    DROP COLUMN retirement;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
