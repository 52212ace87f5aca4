"""Statistics of appearances' answers, from which PostgreSQL estimates what a question reads.

Labels of all heads are in one column, and each belongs to one head: without knowing so, PostgreSQL expects a fifth of
the rows with a label, and looks each up in an index where a hash join is faster. The number of labels that it counts is
that of all heads, where a question groups by those of one.
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

UP = """
CREATE STATISTICS facet.st_appearance_prediction_label (dependencies)
    ON reading_id, label FROM facet.appearance_prediction;
ALTER TABLE facet.appearance_prediction ALTER COLUMN label SET (n_distinct = 3);
ANALYZE facet.appearance_prediction;
"""

DOWN = """
DROP STATISTICS facet.st_appearance_prediction_label;
ALTER TABLE facet.appearance_prediction ALTER COLUMN label RESET (n_distinct);
ANALYZE facet.appearance_prediction;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
