"""Stamps of files: their state in the file system at submission, so that an overwritten one is noticed.

Files that were submitted before have no stamp: videos among them are hashed once more by each process that reads them.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE facet.media_file ADD COLUMN stamp TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE facet.media_file DROP COLUMN stamp")
