"""The time on screen of an appearance counts for its person: a change of it is noted, too."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

COLUMNS = (
    "person_id", "media_id", "analysis_id", "start_seconds", "end_seconds", "face_count", "best_face_id", "age",
    "gender", "gender_confidence", "ethnicity", "ethnicity_confidence", "quality",
)  # fmt: skip


def make_trigger(columns: tuple[str, ...]) -> None:
    before, after = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    op.execute("DROP TRIGGER note_changed ON facet.appearance")
    op.execute(f"""
        CREATE TRIGGER note_changed AFTER UPDATE ON facet.appearance
        FOR EACH ROW WHEN (
            (OLD.person_id IS NOT NULL OR NEW.person_id IS NOT NULL)
            AND ({before}) IS DISTINCT FROM ({after})
        ) EXECUTE FUNCTION facet.note_person_change()""")


def upgrade() -> None:
    make_trigger((*COLUMNS, "screen_seconds"))


def downgrade() -> None:
    make_trigger(COLUMNS)
