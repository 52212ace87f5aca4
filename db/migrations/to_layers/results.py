"""Copies results from the tables of version 0016 into those of 0017, block by block.

A statement reads one block of ids, so that none takes longer than some minutes, however large the archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.bulk.arrays import Codes, RealArray, read_rows, write_rows
from db.errors import DatabaseUnsuitable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sqlalchemy import Connection, TextClause

BLOCK = 50_000  # ids of a statement

STRIPS = text("""
INSERT INTO facet.crop_strip (unit_id, strip_no, uri)
SELECT unit_id, row_number() OVER (PARTITION BY unit_id ORDER BY length(crop_uri), crop_uri) - 1, crop_uri
FROM (
    SELECT DISTINCT unit_id, crop_uri
    FROM facet_0016.face
    WHERE unit_id >= :first AND unit_id < :last AND crop_uri IS NOT NULL AND crop_index IS NOT NULL
) AS strips
""")


def _point(place: int) -> str:
    """Return the SQL of the code of one number of the landmarks, by its place from 1."""
    axis = "x" if place % 2 else "y"
    side = f"CASE WHEN f.{axis}2 > f.{axis}1 THEN f.{axis}2::float8 - f.{axis}1 ELSE 1 END"
    code = f"round((f.landmarks[{place}]::float8 - f.{axis}1) / ({side}) * 16384) + 16384"
    # The same 16 bits, signed, as int2send takes them.
    return f"int2send(((least(greatest({code}, 0), 65535)::int + 32768) % 65536 - 32768)::int2)"


FACES = text(f"""
INSERT INTO facet.face (
    face_id, analysis_id, unit_id, at_seconds, frame_index, hold_seconds, x1, y1, x2, y2, detection_score, quality,
    frame_width, frame_height, strip_no, crop_index, face_no, landmarks, dropped_reason)
SELECT f.face_id, f.analysis_id, f.unit_id, f.at_seconds, f.frame_index, f.hold_seconds, f.x1, f.y1, f.x2, f.y2,
       f.detection_score, f.quality, f.frame_width, f.frame_height, s.strip_no,
       CASE WHEN s.strip_no IS NOT NULL THEN f.crop_index END, f.face_no,
       {" || ".join(_point(place) for place in range(1, 11))}, f.dropped_reason
FROM facet_0016.face AS f
LEFT JOIN facet.crop_strip AS s ON s.unit_id = f.unit_id AND s.uri = f.crop_uri AND f.crop_index IS NOT NULL
WHERE f.face_id >= :first AND f.face_id < :last
""")  # noqa: S608 - constants

EMBEDDINGS = text("""
INSERT INTO facet.face_embedding (face_id, trunk_id, appearance_id, embedding)
SELECT f.face_id, r.trunk_id, f.appearance_id, f.embedding::halfvec(128)
FROM facet_0016.face AS f
JOIN facet.release AS r USING (release_id)
WHERE f.face_id >= :first AND f.face_id < :last AND (f.embedding IS NOT NULL OR f.appearance_id IS NOT NULL)
""")

APPEARANCES = text("""
INSERT INTO facet.appearance (
    appearance_id, analysis_id, media_id, start_seconds, end_seconds, screen_seconds, best_face_id, person_id, trunk_id,
    ordinal, face_count, quality, embedding)
SELECT p.appearance_id, p.analysis_id, p.media_id, p.start_seconds, p.end_seconds, p.screen_seconds, p.best_face_id,
       p.person_id, r.trunk_id, p.ordinal, p.face_count, p.quality, p.embedding::halfvec(128)
FROM facet_0016.appearance AS p
JOIN facet.release AS r USING (release_id)
WHERE p.appearance_id >= :first AND p.appearance_id < :last
""")

_MEAN_CODE = "round((ln(p.share) - ln(1 - p.share)) * 1024) + 32768"
ANSWERS = text(f"""
INSERT INTO facet.appearance_prediction (
    appearance_id, reading_id, label, value, low, high, confidence, shares, scores)
SELECT p.appearance_id, c.reading_id, v.label, v.value, v.low, v.high, v.confidence, v.shares,
       CASE WHEN v.means IS NOT NULL THEN (
           SELECT string_agg(
               int2send(((CASE WHEN p.share <= 0 THEN 0 WHEN p.share >= 1 THEN 65535
                               ELSE least(greatest({_MEAN_CODE}, 0), 65535) END::int + 32768) % 65536 - 32768)::int2),
               '' ORDER BY l.place)
           FROM unnest(h.labels) WITH ORDINALITY AS l (label, place)
           CROSS JOIN LATERAL (SELECT coalesce((v.means ->> l.label)::float8, 0) AS share) AS p
       ) END
FROM facet_0016.appearance AS p
CROSS JOIN LATERAL (VALUES
    ('age', NULL, p.age, p.age_low, p.age_high, NULL, NULL::jsonb, NULL::jsonb),
    ('gender', p.gender, NULL, NULL, NULL, p.gender_confidence, NULL, NULL),
    ('ethnicity', p.ethnicity, NULL, NULL, NULL, p.ethnicity_confidence, NULL, NULL),
    ('emotion', p.emotion, NULL, NULL, NULL, p.emotion_confidence, p.emotions, NULL),
    ('attributes', NULL, NULL, NULL, NULL, NULL, NULL, p.attributes)
) AS v (task, label, value, low, high, confidence, shares, means)
JOIN facet.release_reading AS c ON c.release_id = p.release_id AND c.task = v.task
JOIN facet.layer AS h ON h.layer_id = c.head_id
WHERE p.appearance_id >= :first AND p.appearance_id < :last
  AND coalesce(v.label, v.value::text, v.confidence::text, v.shares::text, v.means::text) IS NOT NULL
""")  # noqa: S608 - constants

HEADS = text("""
SELECT c.release_id, c.task, c.reading_id, cardinality(h.labels) AS length, h.labels, g.spec ->> 'kind' AS kind,
       coalesce((g.spec ->> 'temperature')::float8, 1) AS temperature
FROM facet.release_reading AS c
JOIN facet.layer AS h ON h.layer_id = c.head_id
JOIN facet.layer AS g ON g.layer_id = c.reading_id
ORDER BY c.release_id, c.task
""")

CODED = "CREATE TEMPORARY TABLE coded (face_id bigint PRIMARY KEY, scores bytea NOT NULL) ON COMMIT DROP"

# Probabilities at the temperature of the branch; of attributes, those in JSON where there is no array.
PROBABILITIES = """
SELECT face_id, probabilities
FROM (
    SELECT q.face_id, coalesce(q.probabilities, (
        SELECT array_agg(coalesce((q.attributes ->> l.label)::real, 0) ORDER BY l.place)
        FROM unnest(%(labels)s::text[]) WITH ORDINALITY AS l (label, place)
        WHERE q.attributes IS NOT NULL
    )) AS probabilities
    FROM facet_0016.prediction AS q
    WHERE q.face_id >= %(first)s AND q.face_id < %(last)s AND q.release_id = %(release_id)s AND q.head = %(task)s
) AS found
WHERE probabilities IS NOT NULL
"""

PREDICTIONS = text("""
INSERT INTO facet.prediction (face_id, reading_id, confidence, value, low, high, label, scores)
SELECT q.face_id, :reading_id, q.confidence, q.value, q.low, q.high, q.label, c.scores
FROM facet_0016.prediction AS q
LEFT JOIN coded AS c USING (face_id)
WHERE q.face_id >= :first AND q.face_id < :last AND q.release_id = :release_id AND q.head = :task
""")

# Rows of a head that the manifest of their release does not name.
UNNAMED = text("""
SELECT r.name, q.head, count(*) AS rows
FROM facet_0016.prediction AS q
JOIN facet.release AS r USING (release_id)
LEFT JOIN facet.release_reading AS c ON c.release_id = q.release_id AND c.task = q.head
WHERE q.face_id >= :first AND q.face_id < :last AND c.task IS NULL
GROUP BY r.name, q.head
""")
UNNAMED_ANSWERS = text("""
SELECT r.name, v.task AS head, count(*) AS rows
FROM facet_0016.appearance AS p
JOIN facet.release AS r USING (release_id)
CROSS JOIN LATERAL (VALUES
    ('age', p.age IS NOT NULL), ('gender', p.gender IS NOT NULL), ('ethnicity', p.ethnicity IS NOT NULL),
    ('emotion', p.emotion IS NOT NULL OR p.emotions IS NOT NULL), ('attributes', p.attributes IS NOT NULL)
) AS v (task, is_there)
LEFT JOIN facet.release_reading AS c ON c.release_id = p.release_id AND c.task = v.task
WHERE p.appearance_id >= :first AND p.appearance_id < :last AND v.is_there AND c.task IS NULL
GROUP BY r.name, v.task
""")


def copy_results(connection: Connection) -> None:
    """Copy faces, embeddings, predictions and appearances.

    Args:
        connection: an open connection; the caller commits.

    Raises:
        DatabaseUnsuitable: there are predictions of a head that the manifest of their release does not name.
    """
    connection.exec_driver_sql(CODED)
    heads = [dict(row._mapping) for row in connection.execute(HEADS)]  # noqa: SLF001 - the documented way
    for block in _blocks(connection, "facet.unit", "unit_id"):
        connection.execute(STRIPS, block)
    for block in _blocks(connection, "facet_0016.face", "face_id"):
        connection.execute(FACES, block)
        connection.execute(EMBEDDINGS, block)
        _refuse_unnamed(connection, UNNAMED, block)
        for head in heads:
            _copy_predictions(connection, block | head)
    for block in _blocks(connection, "facet_0016.appearance", "appearance_id"):
        _refuse_unnamed(connection, UNNAMED_ANSWERS, block)
        connection.execute(APPEARANCES, block)
        connection.execute(ANSWERS, block)


def _copy_predictions(connection: Connection, head: dict[str, object]) -> None:
    length = int(str(head["length"]))
    session = Session(connection)
    rows = read_rows(session, PROBABILITIES, {"face_id": "bigint", "probabilities": RealArray(length)}, head)
    connection.exec_driver_sql("TRUNCATE coded")
    if len(rows):
        scores = encode(rows["probabilities"], str(head["kind"]), float(str(head["temperature"])))
        columns = {"face_id": rows["face_id"], "scores": scores}
        write_rows(session, "coded", {"face_id": "bigint", "scores": Codes(length)}, columns)
    connection.execute(PREDICTIONS, head)


def encode(probabilities: NDArray[np.float32], kind: str, temperature: float) -> NDArray[np.uint16]:
    """Return the codes of a head's scores before the temperature.

    Args:
        probabilities: (N, K) at the temperature.
        kind: softmax, age or multilabel.
        temperature: of the branch.
    """
    wide = probabilities.astype(np.float64)
    with np.errstate(divide="ignore"):
        if kind == "multilabel":
            values = (np.log(wide) - np.log1p(-wide)) * temperature * 1024 + 32768
        else:
            logits = np.log(wide) * temperature
            logits -= logits.max(axis=1, keepdims=True)
            values = (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits) * 2048
    return np.rint(np.clip(values, 0, 65535)).astype(np.uint16)


def _blocks(connection: Connection, table: str, key: str) -> Iterator[dict[str, object]]:
    """Yield ranges of ids that cover a table, without those that hold no row."""
    after = -1
    while True:
        first = connection.execute(
            text(f"SELECT min({key}) FROM {table} WHERE {key} > :after"),  # noqa: S608 - constants
            {"after": after},
        ).scalar()
        if first is None:
            return
        yield {"first": first, "last": first + BLOCK}
        after = first + BLOCK - 1


def _refuse_unnamed(connection: Connection, query: TextClause, block: dict[str, object]) -> None:
    found = connection.execute(query, block).first()
    if found is not None:
        raise DatabaseUnsuitable(
            f"{found.rows} answers of head {found.head} under release {found.name}, whose manifest has no such "
            "branch; expected one for each head: delete these rows, or restore the manifest"
        )
