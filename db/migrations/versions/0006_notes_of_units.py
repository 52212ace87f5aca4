"""Notes of a unit: the parts of a file that were not analysed, and results that are doubtful."""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE facet.unit ADD COLUMN notes TEXT[]")


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute("ALTER TABLE facet.unit DROP COLUMN notes")
