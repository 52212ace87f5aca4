"""The triggers that note whose totals changed: those of migration 0017, and those that it replaces."""

from __future__ import annotations

# Row by row and on a condition: a unit's appearances, which have no person yet, and the many updates that concern no
# appearance call nothing. An appearance that joins a person is noted with its number, everything else as a recount.
# Answers are noted by statement: they come thousands at a time, and most belong to appearances without a person.
NEW = """
CREATE FUNCTION facet.note_person_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.person_id IS NOT NULL THEN
        INSERT INTO facet.person_change (person_id, trunk_id) VALUES (OLD.person_id, OLD.trunk_id);
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.person_id IS DISTINCT FROM NEW.person_id AND NEW.person_id IS NOT NULL THEN
        INSERT INTO facet.person_change (person_id, trunk_id, appearance_id)
        VALUES (NEW.person_id, NEW.trunk_id, NEW.appearance_id);
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO facet.person_change (person_id, trunk_id) VALUES (NEW.person_id, NEW.trunk_id);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION facet.note_people_of_analysis() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO facet.person_change (person_id, trunk_id)
    SELECT DISTINCT person_id, trunk_id
    FROM facet.appearance
    WHERE analysis_id = NEW.analysis_id AND person_id IS NOT NULL;
    RETURN NULL;
END $$;

CREATE FUNCTION facet.note_answers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO facet.person_change (person_id, trunk_id, appearance_id, reading_id)
    SELECT DISTINCT s.person_id, s.trunk_id, CASE TG_OP WHEN 'INSERT' THEN c.appearance_id END, c.reading_id
    FROM changed AS c
    JOIN facet.layer AS g ON g.layer_id = c.reading_id AND g.task IN ('age', 'gender', 'ethnicity')
    CROSS JOIN LATERAL (
        SELECT person_id, trunk_id FROM facet.appearance WHERE appearance_id = c.appearance_id OFFSET 0
    ) AS s
    WHERE s.person_id IS NOT NULL;
    RETURN NULL;
END $$;

CREATE TRIGGER note_added AFTER INSERT ON facet.appearance
    FOR EACH ROW WHEN (NEW.person_id IS NOT NULL) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_removed AFTER DELETE ON facet.appearance
    FOR EACH ROW WHEN (OLD.person_id IS NOT NULL) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_changed AFTER UPDATE ON facet.appearance
    FOR EACH ROW WHEN (
        (OLD.person_id IS NOT NULL OR NEW.person_id IS NOT NULL)
        AND (OLD.person_id, OLD.trunk_id, OLD.media_id, OLD.analysis_id, OLD.start_seconds, OLD.end_seconds,
             OLD.screen_seconds, OLD.face_count, OLD.best_face_id, OLD.quality)
            IS DISTINCT FROM
            (NEW.person_id, NEW.trunk_id, NEW.media_id, NEW.analysis_id, NEW.start_seconds, NEW.end_seconds,
             NEW.screen_seconds, NEW.face_count, NEW.best_face_id, NEW.quality)
    ) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_shown AFTER UPDATE ON facet.analysis
    FOR EACH ROW WHEN (
        OLD.is_current IS DISTINCT FROM NEW.is_current
        OR OLD.sample_interval_seconds IS DISTINCT FROM NEW.sample_interval_seconds
    ) EXECUTE FUNCTION facet.note_people_of_analysis();
CREATE TRIGGER note_answers_added AFTER INSERT ON facet.appearance_prediction
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION facet.note_answers();
CREATE TRIGGER note_answers_changed AFTER UPDATE ON facet.appearance_prediction
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION facet.note_answers();
CREATE TRIGGER note_answers_removed AFTER DELETE ON facet.appearance_prediction
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION facet.note_answers();
"""

_OLD_COLUMNS = (
    "person_id", "media_id", "analysis_id", "start_seconds", "end_seconds", "face_count", "best_face_id", "age",
    "gender", "gender_confidence", "ethnicity", "ethnicity_confidence", "quality", "screen_seconds",
)  # fmt: skip

OLD = f"""
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
        AND ({", ".join(f"OLD.{column}" for column in _OLD_COLUMNS)})
            IS DISTINCT FROM ({", ".join(f"NEW.{column}" for column in _OLD_COLUMNS)})
    ) EXECUTE FUNCTION facet.note_person_change();
CREATE TRIGGER note_shown AFTER UPDATE ON facet.analysis
    FOR EACH ROW WHEN (
        OLD.is_current IS DISTINCT FROM NEW.is_current
        OR OLD.sample_interval_seconds IS DISTINCT FROM NEW.sample_interval_seconds
    ) EXECUTE FUNCTION facet.note_people_of_analysis();
"""  # noqa: S608 - constants

DROP = """
DROP TRIGGER note_shown ON facet.analysis;
DROP FUNCTION facet.note_people_of_analysis() CASCADE;
DROP FUNCTION facet.note_person_change() CASCADE;
DROP FUNCTION IF EXISTS facet.note_answers() CASCADE;
"""
