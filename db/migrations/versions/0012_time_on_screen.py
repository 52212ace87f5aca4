"""The time that the frame of a face stands for, and the time that an appearance is on screen.

Older rows have neither; the views count one sampling step for them, as they did.
"""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE facet.face ADD COLUMN hold_seconds DOUBLE PRECISION")
    op.execute("ALTER TABLE facet.appearance ADD COLUMN screen_seconds DOUBLE PRECISION")


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute("ALTER TABLE facet.appearance DROP COLUMN screen_seconds")
    op.execute("ALTER TABLE facet.face DROP COLUMN hold_seconds")
