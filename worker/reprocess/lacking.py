"""Rows that a release lacks, and the source of each: the one place where these queries are written.

The source of a face is the cheapest that gives what a fresh analysis would give: scores that another reading of the
head stored, the stored embedding, the crop, the file (whose crop is cut again). A face without any is a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.analysis.store.face_blocks import HEADS
from worker.reprocess.request import as_regex
from worker.reprocess.target import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from worker.ledger.batches import Way
    from worker.reprocess.request import ReprocessRequest
    from worker.reprocess.target import HeadTarget, Target

READING, EMBEDDING, CROPS, FILE, GAP, PASSED = 1, 2, 3, 4, 5, 6
WAY_CODES: Mapping[Way, int] = {"reading": READING, "embedding": EMBEDDING, "crops": CROPS, "file": FILE}
"""The ways of faces, as the temporary table has them; 0 is nothing to do, PASSED was given up by the same job."""
NO_SOURCE = "no_source"
SEALED = "sealed"

# A value for each task, and for the embedding. Without an embedding, all heads come with it in one pass.
_FACES = """
    CREATE TEMPORARY TABLE lacking ON COMMIT DROP AS
    SELECT * FROM (
        SELECT f.face_id, f.analysis_id,
               CASE WHEN m.sealed_at IS NOT NULL THEN '{sealed}: a person in its file was erased, and its crop is gone'
                    ELSE '{no_source}: its crop is gone, and its file was refused' END AS reason,
               CASE WHEN e.face_id IS NULL THEN s.source ELSE 0 END AS w_identity {columns}
        FROM face AS f
        JOIN analysis AS a USING (analysis_id)
        JOIN media_file AS m ON m.media_id = a.media_id
        LEFT JOIN crop_strip AS c ON c.unit_id = f.unit_id AND c.strip_no = f.strip_no
        LEFT JOIN face_embedding AS e
            ON e.face_id = f.face_id AND e.trunk_id = :trunk_id AND e.embedding IS NOT NULL
        {joins}
        CROSS JOIN LATERAL (
            SELECT CASE WHEN c.unit_id IS NOT NULL THEN {crops}
                        WHEN m.sealed_at IS NOT NULL OR m.reason IS NOT NULL THEN {gap}
                        WHEN EXISTS (SELECT FROM reprocess_gap AS g WHERE g.job_id = :job_id
                                     AND g.analysis_id = f.analysis_id) THEN {passed}
                        ELSE {file} END AS source) AS s
        WHERE a.finder_id = :finder_id AND a.is_current AND f.dropped_reason IS NULL {scope}
    ) AS every
    WHERE w_identity {sum} > 0"""
_COLUMN = """,
               CASE WHEN p{n}.face_id IS NOT NULL THEN 0 WHEN e.face_id IS NULL THEN s.source
                    WHEN {stored} THEN {reading} {from_embedding} ELSE s.source END AS w{n}"""
_JOIN = """
        LEFT JOIN prediction AS p{n} ON p{n}.face_id = f.face_id AND p{n}.reading_id = {reading_id}"""
_STORED = """EXISTS (SELECT FROM prediction AS o WHERE o.face_id = f.face_id AND o.scores IS NOT NULL
                                 AND o.reading_id IN ({others}))"""

# Appearances of which no face can be filled in any more, or needs to. Faces without a source are left out of them:
# otherwise one such face would cost a whole appearance its answer.
_APPEARANCES = """
    CREATE TEMPORARY TABLE lacking_appearances ON COMMIT DROP AS
    SELECT * FROM (
        SELECT p.appearance_id, p.face_count {columns}
        FROM appearance AS p JOIN analysis AS a USING (analysis_id)
        JOIN media_file AS m ON m.media_id = a.media_id
        WHERE p.trunk_id = :trunk_id AND p.embedding IS NOT NULL AND a.finder_id = :finder_id AND a.is_current {scope}
    ) AS every
    WHERE {any}"""
_APPEARANCE_COLUMN = """,
               NOT EXISTS (SELECT FROM appearance_prediction AS x
                           WHERE x.appearance_id = p.appearance_id AND x.reading_id = {reading_id})
               AND NOT EXISTS (
                   SELECT FROM face_embedding AS e
                   WHERE e.appearance_id = p.appearance_id AND e.trunk_id = :trunk_id AND e.embedding IS NOT NULL
                     AND e.face_id NOT IN ({gaps})
                     AND NOT EXISTS (SELECT FROM prediction AS q
                                     WHERE q.face_id = e.face_id AND q.reading_id = {reading_id}))
               AND EXISTS (
                   SELECT FROM face_embedding AS e JOIN prediction AS q ON q.face_id = e.face_id
                   WHERE e.appearance_id = p.appearance_id AND e.trunk_id = :trunk_id AND e.embedding IS NOT NULL
                     AND q.reading_id = {reading_id}) AS {w}"""

_UNJOINED = """
    CREATE TEMPORARY TABLE unjoined ON COMMIT DROP AS
    SELECT a.analysis_id, a.face_count
    FROM analysis AS a JOIN media_file AS m ON m.media_id = a.media_id
    WHERE a.finder_id = :finder_id AND a.is_current {scope}
      AND EXISTS (SELECT FROM face AS f JOIN face_embedding AS e USING (face_id)
                  WHERE f.analysis_id = a.analysis_id AND e.trunk_id = :trunk_id)
      AND NOT EXISTS (SELECT FROM appearance AS p WHERE p.analysis_id = a.analysis_id AND p.trunk_id = :trunk_id)
      AND NOT EXISTS (
          SELECT FROM face AS f
          WHERE f.analysis_id = a.analysis_id AND f.dropped_reason IS NULL AND f.face_id NOT IN ({gaps}) AND (
              NOT EXISTS (SELECT FROM face_embedding AS e
                          WHERE e.face_id = f.face_id AND e.trunk_id = :trunk_id AND e.embedding IS NOT NULL)
              {faces_lack}))"""
_FACE_LACKS = """OR NOT EXISTS (SELECT FROM prediction AS q
                              WHERE q.face_id = f.face_id AND q.reading_id = {reading_id})"""
# Of the table ``lacking``: faces that have no source, also in a file that this job could not read.
_GAPS = "SELECT g.face_id FROM lacking AS g WHERE g.{w} IN ({gap}, {passed})"
_WITHOUT_PERSON = """
    SELECT count(*) AS appearances, coalesce(sum(p.face_count), 0) AS faces
    FROM appearance AS p JOIN analysis AS a USING (analysis_id)
    JOIN media_file AS m ON m.media_id = a.media_id
    WHERE p.trunk_id = :trunk_id AND p.person_id IS NULL AND p.embedding IS NOT NULL AND a.is_current
      AND NOT EXISTS (SELECT FROM identify_failure AS i
                      WHERE i.analysis_id = p.analysis_id AND i.trunk_id = p.trunk_id) {scope}"""

GAP_FACE = """EXISTS (
    SELECT FROM face AS i JOIN analysis AS n USING (analysis_id) JOIN media_file AS m ON m.media_id = n.media_id
    WHERE i.face_id = {face}.face_id
      AND NOT EXISTS (SELECT FROM crop_strip AS c WHERE c.unit_id = i.unit_id AND c.strip_no = i.strip_no)
      AND (m.sealed_at IS NOT NULL OR m.reason IS NOT NULL
           OR EXISTS (SELECT FROM reprocess_gap AS g WHERE g.job_id = :job_id AND g.analysis_id = i.analysis_id)))"""
"""Condition on a row with a face's number: its crop is gone, and its file cannot be read."""

_CHOSEN = "AND {chosen} IN (SELECT r.face_id FROM reprocess_face AS r WHERE r.job_id = :job_id)"

# Files that were analysed under other finders; of several analyses that of the active release.
_MEDIA = """
    SELECT DISTINCT ON (m.media_id) m.media_id, a.analysis_id, m.uri, m.sealed_at IS NOT NULL AS is_sealed,
           a.face_count
    FROM analysis AS a JOIN media_file AS m ON m.media_id = a.media_id
    WHERE a.is_current AND a.finder_id <> :finder_id AND m.reason IS NULL {scope}
      AND NOT EXISTS (SELECT FROM analysis AS o WHERE o.media_id = m.media_id AND o.finder_id = :finder_id)
      AND NOT EXISTS (SELECT FROM reprocess_gap AS g WHERE g.job_id = :job_id AND g.analysis_id = a.analysis_id)
    ORDER BY m.media_id, a.finder_id = (SELECT finder_id FROM release WHERE active) DESC, a.analysis_id DESC"""


class Lacking:
    """The queries of one job, in one transaction.

    Args:
        session: whose transaction holds the temporary tables.
        target: the release.
        request: of the job.
        job_id: 0 for a preview, which has no job.
    """

    def __init__(self, session: Session, target: Target, request: ReprocessRequest, job_id: int) -> None:
        self._session, self._target, self._request = session, target, request
        self._key = {
            "job_id": job_id,
            "trunk_id": target.ids.trunk_id,
            "finder_id": target.ids.finder_id,
            "media": None if request.media is None else as_regex(request.media),
            "of_job": request.of_job,
        }
        self.tasks = {f"w{n}": task for n, task in enumerate(target.heads)}
        """Of the columns of `lacking`; that of the embedding is ``w_identity``."""
        # the plans of these statements are for whole tables
        session.execute(text("SET LOCAL work_mem = '256MB'"))
        session.execute(text("SET LOCAL jit = off"))

    @property
    def face_columns(self) -> dict[str, str]:
        """Columns of the faces' temporary table with their tasks."""
        return {"w_identity": IDENTITY, **self.tasks}

    @property
    def appearance_columns(self) -> dict[str, str]:
        """Columns of the appearances' temporary table with their tasks: of heads that appearances aggregate."""
        return {column: task for column, task in self.tasks.items() if task in HEADS}

    def find_faces(self) -> int:
        """Write kept faces that lack something to the table ``lacking``; return their number."""
        heads = list(self._target.heads.values())
        statement = _FACES.format(
            columns="".join(_column(n, head) for n, head in enumerate(heads)),
            joins="".join(_JOIN.format(n=n, reading_id=head.reading_id) for n, head in enumerate(heads)),
            sum="".join(f"+ w{n}" for n in range(len(heads))),
            scope=self._scope(chosen="f.face_id"),
            crops=CROPS,
            gap=GAP,
            passed=PASSED,
            file=FILE,
            sealed=SEALED,
            no_source=NO_SOURCE,
        )
        self._run(statement)
        self._run("ANALYZE lacking")
        return int(self._session.execute(text("SELECT count(*) FROM lacking")).scalar_one())

    def find_appearances(self) -> int:
        """Write appearances that lack an answer of a head to the table ``lacking_appearances``; return their number.

        The table ``lacking`` of `find_faces` tells which faces have no source.
        """
        heads = self._target.heads
        shown = {column: heads[task].reading_id for column, task in self.appearance_columns.items()}
        if not shown:
            return 0
        columns = (
            _APPEARANCE_COLUMN.format(w=column, reading_id=reading, gaps=_gaps(column))
            for column, reading in shown.items()
        )
        statement = _APPEARANCES.format(columns="".join(columns), any=" OR ".join(shown), scope=self._scope())
        self._run(statement)
        return int(self._session.execute(text("SELECT count(*) FROM lacking_appearances")).scalar_one())

    def find_unjoined(self) -> int:
        """Write analyses without appearances under the trunk, whose faces are filled in, to the table ``unjoined``.

        The table ``lacking`` of `find_faces` tells which faces have no source.
        """
        lacks = "".join(_FACE_LACKS.format(reading_id=head.reading_id) for head in self._target.heads.values())
        self._run(_UNJOINED.format(scope=self._scope(), faces_lack=lacks, gaps=_gaps("w_identity")))
        return int(self._session.execute(text("SELECT count(*) FROM unjoined")).scalar_one())

    def count_without_person(self) -> tuple[int, int]:
        """Return how many appearances of the trunk have no person yet, and of how many faces they are."""
        row = self._session.execute(text(_WITHOUT_PERSON.format(scope=self._scope())), self._key).one()
        return int(row.appearances), int(row.faces)

    def media_query(self) -> tuple[str, Mapping[str, object]]:
        """Return the query of the files that no analysis under the finder exists of, with its values."""
        return _MEDIA.format(scope=self._scope()), self._key

    def _scope(self, chosen: str | None = None) -> str:
        """Return the conditions that limit the job; they read ``m``, and the face's number as ``chosen``."""
        parts = []
        if self._request.media is not None:
            parts.append("AND m.uri ~ :media")
        if self._request.of_job is not None:
            parts.append("AND m.media_id IN (SELECT i.media_id FROM job_item AS i WHERE i.job_id = :of_job)")
        if self._request.has_faces and chosen is not None:
            parts.append(_CHOSEN.format(chosen=chosen))
        return " ".join(parts)

    def _run(self, statement: str) -> None:
        self._session.execute(text(statement), self._key)


def _gaps(column: str) -> str:
    return _GAPS.format(w=column, gap=GAP, passed=PASSED)


def _column(n: int, head: HeadTarget) -> str:
    others = ", ".join(map(str, head.others))
    return _COLUMN.format(
        n=n,
        stored=_STORED.format(others=others) if others else "false",
        reading=READING,
        from_embedding=f"WHEN true THEN {EMBEDDING}" if head.reads_embedding else "",
    )
