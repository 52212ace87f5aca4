"""Totals of people: the view ``people`` shows them without reading appearances.

``person_total`` has a row for each person and trunk, ``person_reading`` one for each person and reading of age, gender
and ethnicity: of all releases that are stored, so that another one is shown at once. The means and elected labels
of the latter stand in the former, too.

Triggers note every person whose appearances, or their answers, change (``person_change``), whichever program changes
them: until a noted person is counted, the view computes the totals from the appearances. Identification, corrections,
regrouping, reprocessing and erasure count noted people at the end of their transactions. Sums are exact decimals:
adding one appearance at a time gives the same as a recount, to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

TOTALS_LOCK = 0x746F74616C  # "total": two at once would each miss what the other has not yet written

_NOTED = text("SELECT EXISTS (SELECT FROM facet.person_change)")
_NOTE_ALL = text("""
INSERT INTO facet.person_change (person_id, trunk_id)
SELECT p.person_id, l.layer_id FROM facet.person AS p JOIN facet.layer AS l ON l.kind = 'trunk'
""")

# Parts of `_COUNT`. Nothing in it is joined but by the key of a table, and all parts are grouped at the end: PostgreSQL
# cannot know how many notes there are, and would join them row by row.
_NOTES = """
noted AS (
    DELETE FROM facet.person_change RETURNING person_id, trunk_id, appearance_id, reading_id
),
note AS (
    SELECT DISTINCT person_id, trunk_id, appearance_id, reading_id,
           coalesce(
               bool_or(appearance_id IS NULL) FILTER (WHERE reading_id IS NULL)
                   OVER (PARTITION BY person_id, trunk_id),
               false
           ) AS afresh
    FROM noted
),
changed AS (
    SELECT n.person_id, n.trunk_id, n.afresh
    FROM (SELECT DISTINCT person_id, trunk_id, afresh FROM note) AS n
    CROSS JOIN LATERAL (SELECT FROM facet.person WHERE person_id = n.person_id OFFSET 0) AS p
)"""

_SHARES = """
share AS (
    SELECT true AS afresh, s.*
    FROM changed AS c
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_share WHERE person_id = c.person_id AND trunk_id = c.trunk_id OFFSET 0
    ) AS s
    WHERE c.afresh
    UNION ALL
    SELECT false, s.*
    FROM note AS n
    CROSS JOIN LATERAL (SELECT * FROM facet.person_share WHERE appearance_id = n.appearance_id OFFSET 0) AS s
    WHERE NOT n.afresh AND n.reading_id IS NULL AND s.person_id = n.person_id
),
file AS (
    SELECT person_id, trunk_id, media_id, bool_or(afresh) AS afresh, count(*) FILTER (WHERE is_new) AS added,
           count(*) FILTER (WHERE NOT is_new) AS there
    FROM (
        SELECT person_id, trunk_id, media_id, afresh, true AS is_new FROM share
        UNION ALL
        SELECT s.person_id, s.trunk_id, s.media_id, false, false
        FROM (SELECT DISTINCT media_id FROM share WHERE NOT afresh) AS m
        CROSS JOIN LATERAL (
            SELECT person_id, trunk_id, media_id FROM facet.person_share WHERE media_id = m.media_id OFFSET 0
        ) AS s
    ) AS seen
    GROUP BY person_id, trunk_id, media_id
    HAVING bool_or(is_new)
)"""

# The answers that are read again: all of a person under a trunk, or those under one reading; and those that were added,
# with their appearance or alone.
_READINGS = """
reread AS (
    SELECT n.person_id, n.trunk_id, n.reading_id
    FROM (
        SELECT DISTINCT person_id, trunk_id, reading_id
        FROM note
        WHERE NOT afresh AND reading_id IS NOT NULL AND appearance_id IS NULL
    ) AS n
    CROSS JOIN LATERAL (SELECT FROM facet.person WHERE person_id = n.person_id OFFSET 0) AS p
),
found AS (
    SELECT true AS afresh, v.*
    FROM changed AS c
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_vote WHERE person_id = c.person_id AND trunk_id = c.trunk_id OFFSET 0
    ) AS v
    WHERE c.afresh
    UNION ALL
    SELECT true, person_id, trunk_id, NULL, reading_id, NULL, NULL, NULL, NULL
    FROM reread
    UNION ALL
    SELECT true, v.*
    FROM reread AS r
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_vote WHERE person_id = r.person_id AND reading_id = r.reading_id OFFSET 0
    ) AS v
    UNION ALL
    SELECT DISTINCT false, v.*
    FROM note AS n
    CROSS JOIN LATERAL (SELECT * FROM facet.person_vote WHERE appearance_id = n.appearance_id OFFSET 0) AS v
    WHERE NOT n.afresh AND v.person_id = n.person_id AND (n.reading_id IS NULL OR n.reading_id = v.reading_id)
),
vote AS (
    SELECT *
    FROM (SELECT *, bool_or(afresh) OVER (PARTITION BY person_id, reading_id) AS is_reread FROM found) AS f
    WHERE afresh OR NOT is_reread
),
ballot (person_id, trunk_id, reading_id, value_sum, value_weight, label, votes) AS (
    SELECT person_id, trunk_id, reading_id, value_sum, value_weight, label, votes
    FROM vote
    UNION ALL
    -- What was counted before stays where answers were only added.
    SELECT a.person_id, a.trunk_id, a.reading_id, k.value_sum, k.value_weight, NULL, NULL
    FROM (SELECT DISTINCT person_id, trunk_id, reading_id FROM vote WHERE NOT afresh) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_reading WHERE person_id = a.person_id AND reading_id = a.reading_id OFFSET 0
    ) AS k
    UNION ALL
    SELECT a.person_id, a.trunk_id, a.reading_id, NULL, NULL, b.label, b.votes::numeric
    FROM (SELECT DISTINCT person_id, trunk_id, reading_id FROM vote WHERE NOT afresh) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_reading WHERE person_id = a.person_id AND reading_id = a.reading_id OFFSET 0
    ) AS k
    CROSS JOIN LATERAL jsonb_each(k.votes) AS b (label, votes)
    UNION ALL
    -- Rows that may have lost their last answer are emptied.
    SELECT k.person_id, c.trunk_id, k.reading_id, NULL, NULL, NULL, NULL
    FROM changed AS c
    CROSS JOIN LATERAL (
        SELECT r.person_id, r.reading_id
        FROM facet.person_reading AS r
        JOIN facet.layer AS g ON g.layer_id = r.reading_id
        JOIN facet.layer AS h ON h.layer_id = g.parent_id
        WHERE r.person_id = c.person_id AND h.parent_id = c.trunk_id
        OFFSET 0
    ) AS k
    WHERE c.afresh
),
counted AS (
    SELECT person_id, trunk_id, reading_id, sum(value_sum) AS value_sum, sum(value_weight) AS value_weight,
           (array_agg(label ORDER BY votes DESC, label) FILTER (WHERE label IS NOT NULL))[1] AS label,
           coalesce(jsonb_object_agg(label, votes) FILTER (WHERE label IS NOT NULL), '{}') AS votes
    FROM (
        SELECT person_id, trunk_id, reading_id, label, sum(value_sum) AS value_sum, sum(value_weight) AS value_weight,
               sum(votes) AS votes
        FROM ballot
        GROUP BY person_id, trunk_id, reading_id, label
    ) AS b
    GROUP BY person_id, trunk_id, reading_id
),
stored AS (
    INSERT INTO facet.person_reading (person_id, reading_id, value_sum, value_weight, label, votes)
    SELECT person_id, reading_id, value_sum, value_weight, label, votes
    FROM counted
    ON CONFLICT (person_id, reading_id) DO UPDATE SET
        value_sum = excluded.value_sum, value_weight = excluded.value_weight, label = excluded.label,
        votes = excluded.votes
)"""

_TOTALS = """
part (person_id, trunk_id, appearances, files, faces, seconds, quality, appearance_id, face_id, known, answers) AS (
    SELECT person_id, trunk_id, 0, 0, 0, 0::numeric, NULL::real, NULL::bigint, NULL::bigint, NULL::jsonb, NULL::jsonb
    FROM changed
    UNION ALL
    SELECT t.person_id, t.trunk_id, t.appearance_count, t.media_count, t.face_count, t.screen_seconds, t.best_quality,
           t.best_appearance_id, t.best_face_id, t.answers, NULL
    FROM changed AS c
    CROSS JOIN LATERAL (
        SELECT * FROM facet.person_total WHERE person_id = c.person_id AND trunk_id = c.trunk_id OFFSET 0
    ) AS t
    WHERE NOT c.afresh
    UNION ALL
    SELECT person_id, trunk_id, 1, 0, face_count, screen_seconds, quality, appearance_id, best_face_id, NULL, NULL
    FROM share
    UNION ALL
    SELECT person_id, trunk_id, 0, 1, 0, 0, NULL, NULL, NULL, NULL, NULL
    FROM file
    WHERE afresh OR added = there
    UNION ALL
    SELECT person_id, trunk_id, 0, 0, 0, 0, NULL, NULL, NULL, NULL, jsonb_object_agg(
               reading_id, coalesce(to_jsonb(label), to_jsonb((value_sum / value_weight)::real)))
    FROM counted
    GROUP BY person_id, trunk_id
)"""

# One statement, so one snapshot: the appearances that it sees are those of the notes that it deletes. A person to
# whom appearances were only added is not counted again: a well-known one may have a hundred thousand. Of a person that
# lost some, or whose appearances changed, all are counted.
_COUNT = text(f"""
WITH {_NOTES.strip()},
{_SHARES.strip()},
{_READINGS.strip()},
{_TOTALS.strip()}
INSERT INTO facet.person_total (
    person_id, trunk_id, appearance_count, media_count, face_count, screen_seconds, best_quality, best_appearance_id,
    best_face_id, answers)
SELECT person_id, trunk_id, sum(appearances), sum(files), sum(faces), sum(seconds), max(quality),
       (array_agg(appearance_id ORDER BY quality DESC, appearance_id) FILTER (WHERE appearance_id IS NOT NULL))[1],
       (array_agg(face_id ORDER BY quality DESC, appearance_id) FILTER (WHERE appearance_id IS NOT NULL))[1],
       jsonb_strip_nulls(
           coalesce((array_agg(known) FILTER (WHERE known IS NOT NULL))[1], '{{}}')
           || coalesce((array_agg(answers) FILTER (WHERE answers IS NOT NULL))[1], '{{}}'))
FROM part
GROUP BY person_id, trunk_id
ON CONFLICT (person_id, trunk_id) DO UPDATE SET
    appearance_count = excluded.appearance_count, media_count = excluded.media_count,
    face_count = excluded.face_count, screen_seconds = excluded.screen_seconds,
    best_quality = excluded.best_quality, best_appearance_id = excluded.best_appearance_id,
    best_face_id = excluded.best_face_id, answers = excluded.answers
""")  # noqa: S608 - constants

_DIFFERENCES = text("""
SELECT r.person_id, to_jsonb(t) AS kept, to_jsonb(r) AS counted
FROM facet.person_recount AS r
LEFT JOIN facet.person_total AS t USING (person_id, trunk_id)
WHERE (r.person_id, r.trunk_id) NOT IN (SELECT n.person_id, n.trunk_id FROM facet.person_change AS n)
  AND (coalesce(t.appearance_count, 0), coalesce(t.media_count, 0), coalesce(t.face_count, 0),
       coalesce(t.screen_seconds, 0), t.best_quality, t.best_appearance_id, t.best_face_id)
      IS DISTINCT FROM
      (r.appearance_count, r.media_count, r.face_count, r.screen_seconds, r.best_quality, r.best_appearance_id,
       r.best_face_id)
UNION ALL
SELECT person_id, to_jsonb(t), to_jsonb(r)
FROM facet.person_reading_recount AS r
FULL JOIN facet.person_reading AS t USING (person_id, reading_id)
WHERE (t.value_sum, t.value_weight, t.label, coalesce(t.votes, '{}'))
      IS DISTINCT FROM (r.value_sum, r.value_weight, r.label, coalesce(r.votes, '{}'))
  AND person_id NOT IN (SELECT n.person_id FROM facet.person_change AS n)
UNION ALL
SELECT t.person_id, to_jsonb(t), jsonb_build_object('answers', k.answers)
FROM facet.person_total AS t
LEFT JOIN (
    SELECT r.person_id, h.parent_id AS trunk_id,
           jsonb_object_agg(r.reading_id, coalesce(to_jsonb(r.label), to_jsonb((r.value_sum / r.value_weight)::real)))
    FROM facet.person_reading AS r
    JOIN facet.layer AS g ON g.layer_id = r.reading_id
    JOIN facet.layer AS h ON h.layer_id = g.parent_id
    GROUP BY r.person_id, h.parent_id
) AS k (person_id, trunk_id, answers) USING (person_id, trunk_id)
WHERE t.answers <> jsonb_strip_nulls(coalesce(k.answers, '{}'))
  AND t.person_id NOT IN (SELECT n.person_id FROM facet.person_change AS n)
ORDER BY person_id
LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class TotalDifference:
    """A person whose totals differ from a recount."""

    person_id: int
    kept: dict[str, object] | None
    """Its row of ``person_total`` or ``person_reading``; None where there is none."""
    counted: dict[str, object] | None
    """The same, computed from the appearances; None where they come to none."""


def count_people(session: Session | Connection) -> None:
    """Count the people whose appearances changed, in the caller's transaction.

    Args:
        session: an open session, READ COMMITTED; waits for another program that counts.
    """
    if not session.execute(_NOTED).scalar_one():
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": TOTALS_LOCK})
    session.execute(_COUNT)


def count_people_if_free(session: Session | Connection) -> bool:
    """Count the people whose appearances changed; returns False where another program is counting.

    Args:
        session: an open session, READ COMMITTED.
    """
    free = session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": TOTALS_LOCK}).scalar_one()
    if free:
        session.execute(_COUNT)
    return bool(free)


def recount_people(session: Session | Connection) -> None:
    """Count all people again, in the caller's transaction: after rows were loaded without triggers.

    Args:
        session: an open session, READ COMMITTED.
    """
    session.execute(_NOTE_ALL)
    count_people(session)


def find_differences(session: Session | Connection, *, limit: int = 20) -> list[TotalDifference]:
    """Recount all people and return those whose totals differ.

    People that are noted as changed are left out: the view computes their totals.

    Args:
        session: an open session; all releases are read, which takes some seconds for a million appearances.
        limit: of the people returned.
    """
    rows = session.execute(_DIFFERENCES, {"limit": limit})
    return [TotalDifference(row.person_id, row.kept, row.counted) for row in rows]
