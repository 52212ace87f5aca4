"""The way back from migration 0017: the tables as they were.

A row of a finder, a trunk or a reading becomes one of a single release: of the active one if it has the layer, else of
the newest. Rows that only other releases show are lost, and embeddings keep the precision that they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.migrations.to_layers import old_tables
from db.migrations.to_layers.triggers import DROP, OLD

if TYPE_CHECKING:
    from sqlalchemy import Connection

BACK_ASIDE = """
SET CONSTRAINTS ALL IMMEDIATE;
CREATE SCHEMA facet_0017;
ALTER TABLE facet.regroup_change DROP CONSTRAINT fk_regroup_change_appearance_id_appearance;
ALTER TABLE facet.face SET SCHEMA facet_0017;
ALTER TABLE facet.crop_strip SET SCHEMA facet_0017;
ALTER TABLE facet.face_embedding SET SCHEMA facet_0017;
ALTER TABLE facet.prediction SET SCHEMA facet_0017;
ALTER TABLE facet.appearance SET SCHEMA facet_0017;
ALTER TABLE facet.appearance_prediction SET SCHEMA facet_0017;
DROP TABLE facet.person_total, facet.person_reading, facet.person_change;
"""

BACK_LEDGER = """
ALTER TABLE facet.release ADD COLUMN people_erased BIGINT DEFAULT 0 NOT NULL, ADD COLUMN identifying BIGINT[];
UPDATE facet.release AS r
SET people_erased = t.people_erased, identifying = t.identifying
FROM facet.trunk_state AS t
WHERE t.trunk_id = r.trunk_id;

-- Each finder and each trunk gets one release: the active one if it has it, else the newest.
CREATE TEMPORARY TABLE owner ON COMMIT DROP AS
SELECT DISTINCT ON (finder_id) finder_id, release_id, trunk_id
FROM facet.release
ORDER BY finder_id, active DESC, release_id DESC;

ALTER TABLE facet.unit DROP CONSTRAINT fk_unit_analysis_id_analysis, DROP CONSTRAINT fk_unit_release_id_release;
ALTER TABLE facet.analysis ADD COLUMN release_id BIGINT;
UPDATE facet.analysis AS a SET release_id = o.release_id FROM owner AS o WHERE o.finder_id = a.finder_id;
UPDATE facet.unit AS u SET release_id = a.release_id FROM facet.analysis AS a WHERE a.analysis_id = u.analysis_id;
ALTER TABLE facet.analysis
    DROP CONSTRAINT uq_analysis_analysis_id_media_id CASCADE,
    DROP COLUMN finder_id CASCADE,
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT uq_analysis_media_id_release_id_sampling UNIQUE (media_id, release_id, sampling),
    ADD CONSTRAINT uq_analysis_analysis_id_media_id_release_id UNIQUE (analysis_id, media_id, release_id),
    ADD CONSTRAINT uq_analysis_analysis_id_release_id UNIQUE (analysis_id, release_id),
    ADD CONSTRAINT fk_analysis_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id);
CREATE INDEX ix_analysis_release_id ON facet.analysis (release_id);
CREATE UNIQUE INDEX uq_analysis_current ON facet.analysis (media_id, release_id) WHERE is_current;
CREATE INDEX ix_analysis_superseded ON facet.analysis (release_id)
    WHERE state = 'done' AND NOT is_current AND NOT retired;
CREATE INDEX ix_analysis_unidentified ON facet.analysis (release_id) WHERE identify_attempts > 0;
ALTER TABLE facet.unit ADD CONSTRAINT fk_unit_analysis_id_release_id_analysis FOREIGN KEY (analysis_id, release_id)
    REFERENCES facet.analysis (analysis_id, release_id) ON DELETE CASCADE;
"""

BACK_PEOPLE = """
ALTER TABLE facet.person
    ADD COLUMN release_id BIGINT,
    ADD COLUMN embedding_sum VECTOR(128),
    ADD COLUMN embedding_weight REAL DEFAULT 0 NOT NULL,
    ADD COLUMN is_good BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN revision BIGINT DEFAULT 0 NOT NULL;
UPDATE facet.person AS p
SET release_id = e.release_id, embedding_sum = e.embedding_sum, embedding_weight = e.embedding_weight,
    is_good = e.is_good, revision = e.revision
FROM (
    SELECT DISTINCT ON (n.person_id) n.*, o.release_id
    FROM facet.person_embedding AS n
    JOIN owner AS o USING (trunk_id)
    JOIN facet.release AS r ON r.release_id = o.release_id
    ORDER BY n.person_id, r.active DESC, o.release_id DESC
) AS e
WHERE e.person_id = p.person_id;
-- People of a trunk that no release shows any more.
DELETE FROM facet.person WHERE release_id IS NULL;
ALTER TABLE facet.person
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT fk_person_release_id_release FOREIGN KEY (release_id) REFERENCES facet.release (release_id);
DROP INDEX facet.ix_person_named;
CREATE INDEX ix_person_release_id ON facet.person (release_id);
CREATE INDEX ix_person_revision ON facet.person (release_id, revision);
CREATE INDEX ix_person_named ON facet.person (release_id) WHERE name IS NOT NULL;

DELETE FROM facet.person_alike AS k
USING facet.person AS p
WHERE p.person_id = k.first_person_id AND NOT EXISTS (
    SELECT FROM owner AS o WHERE o.release_id = p.release_id AND o.trunk_id = k.trunk_id
);
ALTER TABLE facet.person_alike
    DROP COLUMN trunk_id,
    ADD CONSTRAINT pk_person_alike PRIMARY KEY (first_person_id, second_person_id);

ALTER TABLE facet.regroup_proposal ADD COLUMN release_id BIGINT;
UPDATE facet.regroup_proposal AS p SET release_id = o.release_id FROM owner AS o WHERE o.trunk_id = p.trunk_id;
DELETE FROM facet.regroup_proposal WHERE release_id IS NULL;
ALTER TABLE facet.regroup_proposal
    DROP COLUMN trunk_id,
    ALTER COLUMN release_id SET NOT NULL,
    ADD CONSTRAINT fk_regroup_proposal_release_id_release FOREIGN KEY (release_id)
        REFERENCES facet.release (release_id);
CREATE UNIQUE INDEX uq_regroup_proposal_open ON facet.regroup_proposal (release_id) WHERE state = 'open';
"""

# Labels and temperature of the heads of the releases that rows are given to.
DECODERS = """
CREATE TEMPORARY TABLE decoder ON COMMIT DROP AS
SELECT c.release_id, c.task, c.head_id, c.reading_id, h.labels, g.spec ->> 'kind' AS kind,
       coalesce((g.spec ->> 'temperature')::float8, 1) AS temperature
FROM owner AS o
JOIN facet.release_reading AS c USING (release_id)
JOIN facet.layer AS h ON h.layer_id = c.head_id
JOIN facet.layer AS g ON g.layer_id = c.reading_id;

CREATE FUNCTION facet_0017.weights(scores bytea, kind text, temperature float8) RETURNS float8[]
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT array_agg(
        CASE kind
            WHEN 'multilabel' THEN 1 / (1 + exp((32768 - code) / 1024.0 / greatest(temperature, 0.05)))
            ELSE exp(-code / 2048.0 / greatest(temperature, 0.05))
        END ORDER BY place)
    FROM (
        SELECT place, (get_byte(scores, 2 * place) * 256 + get_byte(scores, 2 * place + 1))::float8 AS code
        FROM generate_series(0, octet_length(scores) / 2 - 1) AS place
    ) AS codes
$$;

CREATE FUNCTION facet_0017.named(labels text[], weights float8[]) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT jsonb_object_agg(label, round(weight * 10000) / 10000) FROM unnest(labels, weights) AS l (label, weight)
$$;
"""

BACK_RESULTS = """
INSERT INTO facet.face (
    face_id, analysis_id, unit_id, media_id, release_id, frame_index, at_seconds, face_no, frame_width, frame_height,
    hold_seconds, x1, y1, x2, y2, landmarks, detection_score, quality, dropped_reason, appearance_id, crop_uri,
    crop_index, embedding)
SELECT f.face_id, f.analysis_id, f.unit_id, a.media_id, a.release_id, f.frame_index, f.at_seconds, f.face_no,
       f.frame_width, f.frame_height, f.hold_seconds, f.x1, f.y1, f.x2, f.y2,
       (
           SELECT array_agg((
               CASE WHEN mod(p.place, 2) = 0 THEN f.x1 ELSE f.y1 END
               + (get_byte(f.landmarks, 2 * p.place) * 256 + get_byte(f.landmarks, 2 * p.place + 1) - 16384) / 16384.0
               * CASE WHEN mod(p.place, 2) = 0 THEN CASE WHEN f.x2 > f.x1 THEN f.x2 - f.x1 ELSE 1 END
                      ELSE CASE WHEN f.y2 > f.y1 THEN f.y2 - f.y1 ELSE 1 END END)::real ORDER BY p.place)
           FROM generate_series(0, 9) AS p (place)
       ),
       f.detection_score, f.quality, f.dropped_reason, e.appearance_id, s.uri,
       CASE WHEN s.uri IS NOT NULL THEN f.crop_index END, e.embedding::vector(128)
FROM facet_0017.face AS f
JOIN facet.analysis AS a USING (analysis_id)
JOIN owner AS o USING (release_id)
LEFT JOIN facet_0017.crop_strip AS s ON s.unit_id = f.unit_id AND s.strip_no = f.strip_no
LEFT JOIN facet_0017.face_embedding AS e ON e.face_id = f.face_id AND e.trunk_id = o.trunk_id;

INSERT INTO facet.prediction (
    face_id, head, release_id, label, value, low, high, confidence, probabilities, attributes)
SELECT q.face_id, d.task, d.release_id, q.label, q.value, q.low, q.high, q.confidence,
       (SELECT array_agg((w.weight / CASE d.kind WHEN 'multilabel' THEN 1 ELSE t.total END)::real ORDER BY w.place)
        FROM unnest(s.weights) WITH ORDINALITY AS w (weight, place)
        CROSS JOIN (SELECT sum(u) AS total FROM unnest(s.weights) AS u) AS t),
       CASE d.kind WHEN 'multilabel' THEN facet_0017.named(d.labels, s.weights) END
FROM facet_0017.prediction AS q
JOIN decoder AS d USING (reading_id)
CROSS JOIN LATERAL (
    SELECT facet_0017.weights(coalesce(q.scores, (
        SELECT n.scores
        FROM facet_0017.prediction AS n
        JOIN facet.layer AS l ON l.layer_id = n.reading_id
        WHERE n.face_id = q.face_id AND n.scores IS NOT NULL AND l.parent_id = d.head_id
        LIMIT 1
    )), d.kind, d.temperature) AS weights
    OFFSET 0
) AS s;

INSERT INTO facet.appearance (
    appearance_id, analysis_id, media_id, release_id, ordinal, start_seconds, end_seconds, screen_seconds, face_count,
    best_face_id, age, age_low, age_high, gender, gender_confidence, ethnicity, ethnicity_confidence, emotion,
    emotion_confidence, emotions, attributes, quality, embedding, person_id)
SELECT p.appearance_id, p.analysis_id, p.media_id, o.release_id, p.ordinal, p.start_seconds, p.end_seconds,
       p.screen_seconds, p.face_count, p.best_face_id, age.value, age.low, age.high, gender.label, gender.confidence,
       ethnicity.label, ethnicity.confidence, emotion.label, emotion.confidence, emotion.shares,
       facet_0017.named(attributes.labels, facet_0017.weights(attributes.scores, 'multilabel', 1)), p.quality,
       p.embedding::vector(128), p.person_id
FROM facet_0017.appearance AS p
JOIN facet.analysis AS a USING (analysis_id)
JOIN owner AS o ON o.release_id = a.release_id AND o.trunk_id = p.trunk_id
LEFT JOIN (
    SELECT q.*, d.release_id, d.labels FROM facet_0017.appearance_prediction AS q JOIN decoder AS d USING (reading_id)
    WHERE d.task = 'age'
) AS age ON age.appearance_id = p.appearance_id AND age.release_id = o.release_id
LEFT JOIN (
    SELECT q.*, d.release_id, d.labels FROM facet_0017.appearance_prediction AS q JOIN decoder AS d USING (reading_id)
    WHERE d.task = 'gender'
) AS gender ON gender.appearance_id = p.appearance_id AND gender.release_id = o.release_id
LEFT JOIN (
    SELECT q.*, d.release_id, d.labels FROM facet_0017.appearance_prediction AS q JOIN decoder AS d USING (reading_id)
    WHERE d.task = 'ethnicity'
) AS ethnicity ON ethnicity.appearance_id = p.appearance_id AND ethnicity.release_id = o.release_id
LEFT JOIN (
    SELECT q.*, d.release_id, d.labels FROM facet_0017.appearance_prediction AS q JOIN decoder AS d USING (reading_id)
    WHERE d.task = 'emotion'
) AS emotion ON emotion.appearance_id = p.appearance_id AND emotion.release_id = o.release_id
LEFT JOIN (
    SELECT q.*, d.release_id, d.labels FROM facet_0017.appearance_prediction AS q JOIN decoder AS d USING (reading_id)
    WHERE d.task = 'attributes'
) AS attributes ON attributes.appearance_id = p.appearance_id AND attributes.release_id = o.release_id;
-- People of other trunks.
UPDATE facet.appearance AS p
SET person_id = NULL
FROM facet.person AS n
WHERE n.person_id = p.person_id AND n.release_id <> p.release_id;

SELECT setval('facet.face_face_id_seq', nextval('facet_0017.face_face_id_seq'), false),
       setval('facet.appearance_appearance_id_seq', nextval('facet_0017.appearance_appearance_id_seq'), false);
"""

BACK_ENDS = """
DELETE FROM facet.regroup_change AS c
WHERE NOT EXISTS (SELECT FROM facet.appearance AS p WHERE p.appearance_id = c.appearance_id);
ALTER TABLE facet.regroup_change
    ADD CONSTRAINT fk_regroup_change_appearance_id_appearance FOREIGN KEY (appearance_id)
        REFERENCES facet.appearance (appearance_id) ON DELETE CASCADE;
DROP SCHEMA facet_0017 CASCADE;
ALTER TABLE facet.release
    DROP COLUMN alias, DROP COLUMN finder_id, DROP COLUMN trunk_id, DROP COLUMN retired_at;
DROP TABLE facet.release_history, facet.release_reading, facet.trunk_state, facet.person_embedding, facet.layer;
INSERT INTO facet.person_change (person_id) SELECT person_id FROM facet.person;
"""


def to_releases(connection: Connection) -> None:
    """Replace rows named by layers by rows named by releases.

    Args:
        connection: an open connection; the caller commits.
    """
    for statements in (
        DROP, BACK_ASIDE, BACK_LEDGER, BACK_PEOPLE, DECODERS, old_tables.OLD_RESULTS, BACK_RESULTS, old_tables.OLD_KEYS,
        old_tables.OLD_FOREIGN_KEYS, BACK_ENDS, OLD,
    ):  # fmt: skip
        connection.exec_driver_sql(statements)
