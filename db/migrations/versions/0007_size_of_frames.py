"""The size of the frame with each face: images of one file may differ in size and in the shape of their pixels.

Older rows have none; for them the view shows the size of the file's first frame.
"""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE facet.face ADD COLUMN frame_width INTEGER, ADD COLUMN frame_height INTEGER")


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute("ALTER TABLE facet.face DROP COLUMN frame_height, DROP COLUMN frame_width")
