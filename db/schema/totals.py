"""Totals of people: the view ``people`` shows them without reading appearances.

Triggers note every person whose appearances change (``person_change``), whichever program changes them: until a noted
person is counted, the view computes the totals from the appearances. Identification, corrections, regrouping and
erasure count noted people at the end of their transactions. Sums are exact decimals: adding one appearance at a time
gives the same as a recount, to the last digit.
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

# One statement, so one snapshot: the appearances that it sees are those of the notes that it deletes. A person to
# whom appearances were only added is not counted again: a well-known one may have a hundred thousand. Of a person that
# lost some, or whose appearances changed, all are counted. Nothing in it is joined but by the key of a table, and all
# parts are grouped at the end: PostgreSQL cannot know how many notes there are, and would join them row by row.
_COUNT = text("""
WITH noted AS (
    DELETE FROM facet.person_change RETURNING person_id, appearance_id
),
note AS (
    SELECT DISTINCT person_id, appearance_id, bool_or(appearance_id IS NULL) OVER (PARTITION BY person_id) AS afresh
    FROM noted
),
changed AS (
    SELECT n.person_id, n.afresh, p.release_id
    FROM (SELECT DISTINCT person_id, afresh FROM note) AS n
    CROSS JOIN LATERAL (SELECT release_id FROM facet.person WHERE person_id = n.person_id OFFSET 0) AS p
),
kept AS (
    SELECT t.*
    FROM changed AS c
    CROSS JOIN LATERAL (SELECT * FROM facet.person_total WHERE person_id = c.person_id OFFSET 0) AS t
    WHERE NOT c.afresh
),
share AS (
    SELECT true AS afresh, s.*
    FROM changed AS c
    CROSS JOIN LATERAL (SELECT * FROM facet.person_share WHERE person_id = c.person_id OFFSET 0) AS s
    WHERE c.afresh
    UNION ALL
    SELECT false, s.*
    FROM note AS n
    CROSS JOIN LATERAL (SELECT * FROM facet.person_share WHERE appearance_id = n.appearance_id OFFSET 0) AS s
    WHERE NOT n.afresh AND s.person_id = n.person_id
),
file AS (
    SELECT person_id, media_id, bool_or(afresh) AS afresh, count(*) FILTER (WHERE is_new) AS added,
           count(*) FILTER (WHERE NOT is_new) AS there
    FROM (
        SELECT person_id, media_id, afresh, true AS is_new FROM share
        UNION ALL
        SELECT s.person_id, s.media_id, false, false
        FROM (SELECT DISTINCT media_id FROM share WHERE NOT afresh) AS m
        CROSS JOIN LATERAL (
            SELECT person_id, media_id FROM facet.person_share WHERE media_id = m.media_id OFFSET 0
        ) AS s
    ) AS seen
    GROUP BY person_id, media_id
    HAVING bool_or(is_new)
),
vote AS (
    SELECT person_id, head, label, sum(votes) AS votes
    FROM (
        SELECT person_id, head, label, votes::numeric
        FROM kept
        CROSS JOIN LATERAL (VALUES ('gender', gender_votes), ('ethnicity', ethnicity_votes)) AS h (head, counted)
        CROSS JOIN LATERAL jsonb_each(h.counted) AS v (label, votes)
        UNION ALL
        SELECT person_id, 'gender', gender, gender_votes FROM share WHERE gender IS NOT NULL
        UNION ALL
        SELECT person_id, 'ethnicity', ethnicity, ethnicity_votes FROM share WHERE ethnicity IS NOT NULL
    ) AS votes
    GROUP BY person_id, head, label
),
part (person_id, release_id, appearances, files, faces, seconds, age_sum, age_weight, quality, appearance_id, face_id,
      head, label, votes) AS (
    SELECT person_id, release_id, 0, 0, 0, 0::numeric, NULL::numeric, NULL::numeric, NULL::real, NULL::bigint,
           NULL::bigint, NULL, NULL, NULL::numeric
    FROM changed
    UNION ALL
    SELECT person_id, NULL, appearance_count, media_count, face_count, screen_seconds, age_sum, age_weight,
           best_quality, best_appearance_id, best_face_id, NULL, NULL, NULL
    FROM kept
    UNION ALL
    SELECT person_id, NULL, 1, 0, face_count, screen_seconds, age_sum, age_weight, quality, appearance_id, best_face_id,
           NULL, NULL, NULL
    FROM share
    UNION ALL
    SELECT person_id, NULL, 0, 1, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM file
    WHERE afresh OR added = there
    UNION ALL
    SELECT person_id, NULL, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, head, label, votes
    FROM vote
)
INSERT INTO facet.person_total (
    person_id, release_id, appearance_count, media_count, face_count, screen_seconds, age_sum, age_weight, best_quality,
    best_appearance_id, best_face_id, gender, gender_votes, ethnicity, ethnicity_votes)
SELECT person_id, max(release_id), sum(appearances), sum(files), sum(faces), sum(seconds), sum(age_sum),
       sum(age_weight), max(quality),
       (array_agg(appearance_id ORDER BY quality DESC, appearance_id) FILTER (WHERE appearance_id IS NOT NULL))[1],
       (array_agg(face_id ORDER BY quality DESC, appearance_id) FILTER (WHERE appearance_id IS NOT NULL))[1],
       (array_agg(label ORDER BY votes DESC, label) FILTER (WHERE head = 'gender'))[1],
       coalesce(jsonb_object_agg(label, votes) FILTER (WHERE head = 'gender'), '{}'),
       (array_agg(label ORDER BY votes DESC, label) FILTER (WHERE head = 'ethnicity'))[1],
       coalesce(jsonb_object_agg(label, votes) FILTER (WHERE head = 'ethnicity'), '{}')
FROM part
GROUP BY person_id
ON CONFLICT (person_id) DO UPDATE SET
    release_id = excluded.release_id, appearance_count = excluded.appearance_count, media_count = excluded.media_count,
    face_count = excluded.face_count, screen_seconds = excluded.screen_seconds, age_sum = excluded.age_sum,
    age_weight = excluded.age_weight, best_quality = excluded.best_quality,
    best_appearance_id = excluded.best_appearance_id, best_face_id = excluded.best_face_id, gender = excluded.gender,
    gender_votes = excluded.gender_votes, ethnicity = excluded.ethnicity, ethnicity_votes = excluded.ethnicity_votes
""")

_DIFFERENCES = text("""
SELECT r.person_id, to_jsonb(t) AS kept, to_jsonb(r) AS counted
FROM facet.person_recount AS r
LEFT JOIN facet.person_total AS t USING (person_id)
WHERE r.person_id NOT IN (SELECT n.person_id FROM facet.person_change AS n)
  AND (coalesce(t.appearance_count, 0), coalesce(t.media_count, 0), coalesce(t.face_count, 0),
       coalesce(t.screen_seconds, 0), t.age_sum, t.age_weight, t.best_quality, t.best_appearance_id, t.best_face_id,
       t.gender, coalesce(t.gender_votes, '{}'), t.ethnicity, coalesce(t.ethnicity_votes, '{}'))
      IS DISTINCT FROM
      (r.appearance_count, r.media_count, r.face_count, r.screen_seconds, r.age_sum, r.age_weight, r.best_quality,
       r.best_appearance_id, r.best_face_id, r.gender, r.gender_votes, r.ethnicity, r.ethnicity_votes)
ORDER BY r.person_id
LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class TotalDifference:
    """A person whose totals differ from a recount."""

    person_id: int
    kept: dict[str, object] | None
    """Its row of ``person_total``; None where there is none."""
    counted: dict[str, object]
    """The same, computed from the appearances."""


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
    session.execute(text("INSERT INTO facet.person_change (person_id) SELECT person_id FROM facet.person"))
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
