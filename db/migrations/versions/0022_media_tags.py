"""Metadata of files: when and where they were taken, with which camera, and their titles."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.media_file
    ADD COLUMN taken_at TIMESTAMP WITHOUT TIME ZONE,
    ADD COLUMN camera TEXT,
    ADD COLUMN latitude DOUBLE PRECISION,
    ADD COLUMN longitude DOUBLE PRECISION,
    ADD COLUMN title TEXT,
    ADD COLUMN tags JSONB;
"""

DOWN = """
ALTER TABLE facet.media_file
    DROP COLUMN taken_at,
    DROP COLUMN camera,
    DROP COLUMN latitude,
    DROP COLUMN longitude,
    DROP COLUMN title,
    DROP COLUMN tags;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
