"""Totals of people, and triggers that note whose appearances changed.

All people are noted: the end of the upgrade, or the first identification, counts them (``db.schema.totals``). Triggers
run for programs of the version before as well.
"""

from __future__ import annotations

from alembic import op

from db.schema.views import drop_views

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE facet.person_total (
    person_id BIGINT NOT NULL,
    release_id BIGINT NOT NULL,
    appearance_count BIGINT NOT NULL,
    media_count BIGINT NOT NULL,
    face_count BIGINT NOT NULL,
    screen_seconds NUMERIC NOT NULL,
    age_sum NUMERIC,
    age_weight NUMERIC,
    best_quality REAL,
    best_appearance_id BIGINT,
    best_face_id BIGINT,
    gender TEXT,
    gender_votes JSONB DEFAULT '{}' NOT NULL,
    ethnicity TEXT,
    ethnicity_votes JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_person_total PRIMARY KEY (person_id),
    CONSTRAINT fk_person_total_person_id_person FOREIGN KEY(person_id)
        REFERENCES facet.person (person_id) ON DELETE CASCADE
);

CREATE TABLE facet.person_change (
    person_id BIGINT NOT NULL,
    appearance_id BIGINT
);
"""

# Row by row and on a condition: a unit's appearances, which have no person yet, and the many updates that concern no
# appearance call nothing. An appearance that joins a person is noted with its number, everything else as a recount.
TRIGGERS = """
CREATE FUNCTION facet.note_person_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.person_id IS NOT NULL THEN
        INSERT INTO facet.person_change (person_id) VALUES (OLD.person_id);
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.person_id IS DISTINCT FROM NEW.person_id AND NEW.person_id IS NOT NULL THEN
        INSERT INTO facet.person_change (person_id, appearance_id) VALUES (NEW.person_id, NEW.appearance_id);
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO facet.person_change (person_id) VALUES (NEW.person_id);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION facet.note_people_of_analysis() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO facet.person_change (person_id)
    SELECT DISTINCT person_id FROM facet.appearance WHERE analysis_id = NEW.analysis_id AND person_id IS NOT NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER note_added AFTER INSERT ON facet.appearance
    FOR EACH ROW WHEN (NEW.person_id IS NOT NULL) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_removed AFTER DELETE ON facet.appearance
    FOR EACH ROW WHEN (OLD.person_id IS NOT NULL) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_changed AFTER UPDATE ON facet.appearance
    FOR EACH ROW WHEN (
        (OLD.person_id IS NOT NULL OR NEW.person_id IS NOT NULL)
        AND (OLD.person_id, OLD.media_id, OLD.analysis_id, OLD.start_seconds, OLD.end_seconds, OLD.face_count,
             OLD.best_face_id, OLD.age, OLD.gender, OLD.gender_confidence, OLD.ethnicity, OLD.ethnicity_confidence,
             OLD.quality)
            IS DISTINCT FROM
            (NEW.person_id, NEW.media_id, NEW.analysis_id, NEW.start_seconds, NEW.end_seconds, NEW.face_count,
             NEW.best_face_id, NEW.age, NEW.gender, NEW.gender_confidence, NEW.ethnicity, NEW.ethnicity_confidence,
             NEW.quality)
    ) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_shown AFTER UPDATE ON facet.analysis
    FOR EACH ROW WHEN (
        OLD.is_current IS DISTINCT FROM NEW.is_current
        OR OLD.sample_interval_seconds IS DISTINCT FROM NEW.sample_interval_seconds
    ) EXECUTE FUNCTION facet.note_people_of_analysis();

INSERT INTO facet.person_change (person_id) SELECT person_id FROM facet.person;
"""

DOWN = """
DROP TRIGGER note_shown ON facet.analysis;
DROP TRIGGER note_changed ON facet.appearance;
DROP TRIGGER note_removed ON facet.appearance;
DROP TRIGGER note_added ON facet.appearance;
DROP FUNCTION facet.note_people_of_analysis(), facet.note_person_change();
DROP TABLE facet.person_change, facet.person_total;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(TRIGGERS)


def downgrade() -> None:
    drop_views(op.get_bind())
    op.execute(DOWN)
