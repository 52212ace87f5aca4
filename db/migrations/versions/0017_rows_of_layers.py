"""Rows of results name the layer of a release that decided them, and a face takes a third of the room.

Releases become choices of layers, with fingerprints from their manifests. Probabilities become 16-bit codes, embeddings
halve, and no row repeats columns of its analysis. Workers of the version before have to be stopped.
"""

from __future__ import annotations

from alembic import op

from db.migrations.to_layers.back import to_releases
from db.migrations.to_layers.steps import to_layers
from db.schema.views import drop_views

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    drop_views(op.get_bind())
    to_layers(op.get_bind())


def downgrade() -> None:
    drop_views(op.get_bind())
    to_releases(op.get_bind())
