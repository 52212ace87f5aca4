"""Cuts what a release lacks into batches, in phases: faces, then their appearances, then people.

A job is planned when it begins, and again whenever its last batch has ended: what came in meanwhile is found, too.
Where nothing is left, it ends. Everything is decided by the rows, so a worker that dies while it plans costs nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.reprocess import files
from worker.reprocess.lacking import GAP, WAY_CODES, Lacking
from worker.reprocess.request import read_request, write_job
from worker.reprocess.target import read_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.ledger.batches import Way
    from worker.reprocess.request import ReprocessRequest

FACES_PER_BATCH: Mapping[Way, int] = {"reading": 4096, "embedding": 4096, "crops": 4096, "file": 1024}
"""Some seconds of work, so that a batch that is tried again costs little."""
FACES_OF_APPEARANCES = 8192
MAX_STALLED_ROUNDS = 3  # in which as much is lacking as before: then batches fill in nothing, for a reason unknown here

_JOBS = text("""
    SELECT job_id FROM job
    WHERE kind = 'reprocess' AND finished_at IS NULL AND cancelled_at IS NULL AND paused_at IS NULL
      AND (cast(:jobs AS bigint[]) IS NULL OR job_id = ANY (cast(:jobs AS bigint[])))
      AND NOT EXISTS (SELECT FROM unit AS u WHERE u.job_id = job.job_id AND u.state IN ('pending', 'leased'))
    ORDER BY job_id""")
# One worker plans at a time; a job that another one plans, pauses or cancels is left to it.
_JOB = text("""
    SELECT job_id, release_id, options FROM job
    WHERE job_id = :job_id AND finished_at IS NULL AND cancelled_at IS NULL AND paused_at IS NULL
      AND NOT EXISTS (SELECT FROM unit AS u WHERE u.job_id = job.job_id AND u.state IN ('pending', 'leased'))
    FOR NO KEY UPDATE SKIP LOCKED""")
_CLOCK = text("""
    SELECT coalesce(min(turn), 0) FROM unit
    WHERE state IN ('pending', 'leased') AND stage = 'reprocess' AND NOT shelved AND state = 'pending' AND attempts = 0
      AND priority = :priority""")
_NOTE = text("UPDATE job SET options = options || cast(:options AS jsonb), written_at = now() WHERE job_id = :job_id")
_OPEN_FILES = text("""
    SELECT EXISTS (SELECT FROM job_item JOIN analysis USING (analysis_id)
                   WHERE job_id = :job_id AND state = 'pending')""")
_IS_ACTIVE = text("SELECT EXISTS (SELECT FROM release WHERE active AND trunk_id = :trunk_id)")
_END = text("""
    UPDATE job SET submission = :how, finished_at = now(), written_at = now() WHERE job_id = :job_id""")
_FORGET = text("DELETE FROM reprocess_face WHERE job_id = :job_id")
_FOUND_GAPS = text("""
    SELECT reason, sum(face_count) AS faces FROM reprocess_gap WHERE job_id = :job_id
    GROUP BY reason ORDER BY reason""")
_GAPS = """
    INSERT INTO reprocess_gap (job_id, analysis_id, reason, face_count)
    SELECT :job_id, analysis_id, reason, count(*) FROM lacking WHERE {any} GROUP BY analysis_id, reason
    ON CONFLICT (job_id, analysis_id, reason) DO UPDATE SET face_count = excluded.face_count"""

_BATCHES = """
    INSERT INTO unit (release_id, stage, job_id, way, tasks, priority, turn, first_id, last_id, ids, face_count)
    SELECT :release_id, 'reprocess', :job_id, :way, array_remove(ARRAY[{tasks}]::text[], NULL), :priority,
           :turn + batch * :size, min({key}), max({key}), CASE WHEN :limited THEN array_agg({key} ORDER BY {key}) END,
           {faces}
    FROM (SELECT l.*, {batch} AS batch FROM {table} AS l
          WHERE ({any}) AND NOT EXISTS (
              SELECT FROM unit AS q WHERE q.job_id = :job_id AND q.way = :way AND q.state = 'quarantined'
                AND l.{key} BETWEEN q.first_id AND q.last_id)) AS cut
    GROUP BY batch ORDER BY batch RETURNING face_count"""
_OF_FACES = "(row_number() OVER (ORDER BY l.face_id) - 1) / :size"
_OF_SUMS = "(sum(l.face_count) OVER (ORDER BY l.{key}) - l.face_count)::bigint / :size"
_PEOPLE = text("""
    INSERT INTO unit (release_id, stage, job_id, way, priority, turn, first_id, last_id, face_count)
    VALUES (:release_id, 'reprocess', :job_id, 'people', :priority, :turn, 0, 0, :faces)""")


@dataclass(slots=True)
class Planned:
    """The result of planning a job."""

    batches: int = 0
    faces: int = 0
    files: int = 0
    """Files that are analysed under a new finder."""
    has_ended: bool = False
    by_way: dict[Way, int] = field(default_factory=dict)
    """Faces."""


@dataclass(frozen=True, slots=True)
class Started:
    """A job that was written and planned."""

    job_id: int | None
    """None where nothing can be filled in, so that no job was written."""
    gaps: Mapping[str, int]
    """Faces without a source, by reason, where there is no job to name them."""


def start(session: Session, request: ReprocessRequest, name: str) -> Started:
    """Write a job and plan its first batches; nothing is written where nothing can be filled in.

    Raises:
        UsageError: no face fits the request, or the release lacks a head.
    """
    with session.begin_nested() as written:
        job_id = write_job(session, request, name)
        planned = plan(session, job_id)
        if planned is None or not planned.has_ended:
            return Started(job_id, {})
        gaps = {str(row.reason): int(row.faces) for row in session.execute(_FOUND_GAPS, {"job_id": job_id})}
        written.rollback()
    return Started(None, gaps)


def read_unplanned(session: Session, jobs: Sequence[int] | None = None) -> list[int]:
    """Return the reprocess jobs that have no open batch and have not ended."""
    return list(session.scalars(_JOBS, {"jobs": None if jobs is None else list(jobs)}))


def plan(session: Session, job_id: int) -> Planned | None:
    """Plan what is lacking now, or end the job where nothing is.

    Returns:
        None where another worker plans the job, or it has open batches, is paused or has ended.
    """
    row = session.execute(_JOB, {"job_id": job_id}).first()
    if row is None:
        return None
    return _Planner(session, row).run()


class _Planner:
    def __init__(self, session: Session, job: Row[tuple[object, ...]]) -> None:
        self._session, self._job_id, self._options = session, int(job.job_id), job.options
        self._request: ReprocessRequest = read_request(session, self._job_id, int(job.release_id))
        self._target = read_target(session, int(job.release_id), self._request.tasks)
        self._lacking = Lacking(session, self._target, self._request, self._job_id)
        self._turn = int(session.execute(_CLOCK, {"priority": self._request.priority}).scalar_one())
        self._planned = Planned()

    def run(self) -> Planned:
        if not self._request.has_faces:
            self._planned.files = files.plan_files(self._session, self._lacking, self._target, self._request)
        self._plan_faces()
        if not self._planned.batches and self._request.sample is None:
            self._plan_appearances()
        self._note_progress()
        if not self._planned.batches and not self._has_open_files():
            self._end("ended")
        return self._planned

    def _plan_faces(self) -> None:
        if not self._lacking.find_faces():
            return
        columns = self._lacking.face_columns
        for way, code in WAY_CODES.items():
            self._cut(way, "face_id", {f"{column} = {code}": task for column, task in columns.items()})
        any_gap = " OR ".join(f"{column} = {GAP}" for column in columns)
        self._session.execute(text(_GAPS.format(any=any_gap)), {"job_id": self._job_id})

    def _plan_appearances(self) -> None:
        """Plan what is computed from the rows of faces, once those are there."""
        if self._lacking.find_unjoined():
            self._cut("joining", "analysis_id", {"true": None})
        elif self._lacking.find_appearances():
            self._cut("appearances", "appearance_id", dict(self._lacking.appearance_columns))
        if self._planned.batches:
            return
        if self._session.execute(_IS_ACTIVE, {"trunk_id": self._target.ids.trunk_id}).scalar_one():
            return  # workers identify them at any time
        appearances, faces = self._lacking.count_without_person()
        if appearances and not self._has_open_files():
            values = self._values("people") | {"faces": faces}
            self._session.execute(_PEOPLE, values)
            self._count("people", [faces])

    def _cut(self, way: Way, key: str, conditions: Mapping[str, str | None]) -> None:
        """Insert the batches of one way.

        Args:
            way: how they are computed.
            key: column of the numbers that they are ranges of.
            conditions: on a row that lacks something, with the task that is lacking.
        """
        tables = {"face_id": "lacking", "appearance_id": "lacking_appearances", "analysis_id": "unjoined"}
        tasks = (f"CASE WHEN bool_or({condition}) THEN '{task}' END" for condition, task in conditions.items() if task)
        statement = _BATCHES.format(
            tasks=", ".join(tasks),
            key=key,
            table=tables[key],
            any=" OR ".join(conditions),
            batch=_OF_FACES if key == "face_id" else _OF_SUMS.format(key=key),
            faces="count(*)" if key == "face_id" else "sum(face_count)",
        )
        values = self._values(way) | {"limited": self._request.is_limited or self._request.has_faces}
        self._count(way, self._session.scalars(text(statement), values).all())

    def _values(self, way: Way) -> dict[str, object]:
        return {
            "release_id": self._target.ids.release_id,
            "job_id": self._job_id,
            "way": way,
            "priority": self._request.priority,
            "turn": self._turn,
            "size": FACES_PER_BATCH.get(way, FACES_OF_APPEARANCES),
        }

    def _count(self, way: Way, counts: Sequence[int]) -> None:
        faces = sum(int(count) for count in counts)
        self._planned.batches += len(counts)
        self._planned.faces += faces
        self._turn += faces
        if faces:
            self._planned.by_way[way] = faces

    def _note_progress(self) -> None:
        """Abandon a job whose batches fill in nothing."""
        planned = dict(sorted(self._planned.by_way.items()))
        same = bool(planned) and self._options.get("planned") == planned
        stalled = int(self._options.get("stalled", 0)) + 1 if same else 0
        options = json.dumps({"planned": planned, "stalled": stalled})
        self._session.execute(_NOTE, {"job_id": self._job_id, "options": options})
        if stalled >= MAX_STALLED_ROUNDS:
            self._session.execute(
                text("DELETE FROM unit WHERE job_id = :id AND state = 'pending'"), {"id": self._job_id}
            )
            self._end("broken")

    def _has_open_files(self) -> bool:
        return bool(self._session.execute(_OPEN_FILES, {"job_id": self._job_id}).scalar_one())

    def _end(self, how: str) -> None:
        self._planned.has_ended = True
        self._session.execute(_END, {"job_id": self._job_id, "how": how})
        self._session.execute(_FORGET, {"job_id": self._job_id})
