"""People that a user has hidden from the page, and indexes for lists of people in the orders that it offers."""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE facet.person
    ADD COLUMN hidden_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN hidden_by TEXT;
CREATE INDEX ix_person_hidden ON facet.person (person_id) WHERE hidden_at IS NOT NULL;
CREATE INDEX ix_person_total_appearances ON facet.person_total (trunk_id, appearance_count, person_id);
CREATE INDEX ix_person_total_seconds ON facet.person_total
    (trunk_id, (screen_seconds::double precision), person_id);
"""

DOWN = """
DROP INDEX facet.ix_person_total_seconds;
DROP INDEX facet.ix_person_total_appearances;
DROP INDEX facet.ix_person_hidden;
ALTER TABLE facet.person
    DROP COLUMN hidden_at,
    DROP COLUMN hidden_by;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute(DOWN)
