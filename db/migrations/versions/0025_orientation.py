"""Orientation of files: how their stored pixels lie, so that places can be stated in the stored frame."""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.media_file
    ADD COLUMN orientation SMALLINT
        CONSTRAINT ck_media_file_orientation CHECK (orientation BETWEEN 1 AND 8);
"""

DOWN = """
ALTER TABLE facet.media_file DROP COLUMN orientation;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
