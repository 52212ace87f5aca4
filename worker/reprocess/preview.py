"""A preview of a reprocessing: what would be read and written by each way, how long it takes, and what has no source.

Times come from this deployment's own latest batches of the same way; without any there is no estimate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.reprocess.lacking import GAP, WAY_CODES, Lacking
from worker.reprocess.request import write_job
from worker.reprocess.target import IDENTITY, read_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from worker.ledger.batches import Way
    from worker.reprocess.request import ReprocessRequest
    from worker.reprocess.target import Target

LATEST_BATCHES = 50  # from which a rate is taken

# Bytes of a row with its index entries, without scores; measured with benchmarks/reprocess.py.
PREDICTION_BYTES = 150
EMBEDDING_BYTES = 370
MEAN_CROP_BYTES = 24_000  # of a lossless crop of 112 x 112 pixels, on average

_RATE = text("""
    SELECT sum(face_count) AS faces, sum(extract(epoch FROM finished_at - started_at))::double precision AS seconds
    FROM (SELECT face_count, finished_at, started_at FROM unit
          WHERE job_id IS NOT NULL AND way = :way AND state = 'done' ORDER BY unit_id DESC LIMIT :latest) AS latest""")
_ANALYSIS_RATE = text("""
    SELECT count(*) AS files, sum(extract(epoch FROM finished_at - started_at))::double precision AS seconds
    FROM (SELECT finished_at, started_at FROM unit
          WHERE state = 'done' AND stage = 'analyse' AND finished_at IS NOT NULL
          ORDER BY finished_at DESC LIMIT :latest) AS latest""")
_FILES = """
    SELECT count(*) AS files, coalesce(sum(m.byte_size), 0) AS bytes, coalesce(sum(q.face_count), 0) AS faces
    FROM ({query}) AS q JOIN media_file AS m USING (media_id) WHERE NOT q.is_sealed"""
_MEDIA_BYTES = """
    SELECT count(*) AS files, coalesce(sum(m.byte_size), 0) AS bytes
    FROM (SELECT DISTINCT a.media_id FROM lacking AS l JOIN analysis AS a USING (analysis_id) WHERE {any}) AS d
    JOIN media_file AS m USING (media_id)"""
_PEOPLE = text("""
    SELECT count(DISTINCT p.person_id) FROM lacking AS l JOIN face_embedding AS e USING (face_id)
    JOIN appearance AS p USING (appearance_id)""")
_CORRECTIONS = text("""
    SELECT count(DISTINCT c.correction_id) FROM correction AS c JOIN correction_anchor AS k USING (correction_id)
    WHERE c.undone_at IS NULL AND k.media_id IN (
        SELECT a.media_id FROM lacking JOIN analysis AS a USING (analysis_id))""")


@dataclass(frozen=True, slots=True, kw_only=True)
class WayPreview:
    """The cost of one way."""

    way: str
    faces: int
    """Of ``media``, files."""
    read_bytes: int
    written_bytes: int
    hours: float | None
    """Of one worker process; None where this deployment has no batch of the way to take a rate from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The preview of a reprocessing."""

    release: str
    ways: list[WayPreview]
    gaps: dict[str, int] = field(default_factory=dict)
    """Faces without a source, by reason."""
    people: int = 0
    """People whose appearances have a face that lacks something."""
    corrections: int = 0
    """Corrections that hold and are anchored in a file that gets new embeddings or faces."""

    def as_dict(self) -> dict[str, object]:
        """Return all values for JSON."""
        return asdict(self)


def preview(session: Session, request: ReprocessRequest) -> Preview:
    """Compute a preview; the caller rolls the transaction back.

    Raises:
        UsageError: no face fits the request, or the release lacks a head.
    """
    target = read_target(session, request.release_id, request.tasks)
    job_id = write_job(session, request, "preview")
    lacking = Lacking(session, target, request, job_id)
    ways = [] if request.has_faces else _media(session, lacking)
    lacking.find_faces()
    columns = lacking.face_columns
    for way, code in WAY_CODES.items():
        ways += _way(session, target, way, {column: f"{column} = {code}" for column in columns}, columns)
    any_gap = " OR ".join(f"{column} = {GAP}" for column in columns)
    found = session.execute(text(f"SELECT reason, count(*) FROM lacking WHERE {any_gap} GROUP BY reason ORDER BY 1"))  # noqa: S608 - columns of this package
    new_trunk = bool(session.execute(text("SELECT EXISTS (SELECT FROM lacking WHERE w_identity > 0)")).scalar_one())
    return Preview(
        release=target.name,
        ways=ways,
        gaps={str(reason): int(count) for reason, count in found},
        people=int(session.execute(_PEOPLE).scalar_one()),
        corrections=int(session.execute(_CORRECTIONS).scalar_one()) if new_trunk else 0,
    )


def _media(session: Session, lacking: Lacking) -> list[WayPreview]:
    query, values = lacking.media_query()
    row = session.execute(text(_FILES.format(query=query)), values).one()
    if not row.files:
        return []
    rate = session.execute(_ANALYSIS_RATE, {"latest": LATEST_BATCHES}).one()
    hours = row.files * rate.seconds / rate.files / 3600 if rate.files and rate.seconds else None
    written = int(row.faces) * (EMBEDDING_BYTES + 5 * PREDICTION_BYTES + MEAN_CROP_BYTES)
    read = int(row.bytes)
    return [WayPreview(way="media", faces=int(row.files), read_bytes=read, written_bytes=written, hours=hours)]


def _way(
    session: Session, target: Target, way: Way, conditions: Mapping[str, str], columns: Mapping[str, str]
) -> list[WayPreview]:
    """Return the preview of a way of faces; none where no face takes it."""
    any_of = " OR ".join(conditions.values())
    sums = ", ".join(f"count(*) FILTER (WHERE {condition}) AS {column}" for column, condition in conditions.items())
    row = session.execute(text(f"SELECT count(*) AS faces, {sums} FROM lacking WHERE {any_of}")).one()  # noqa: S608 - columns of this package
    if not row.faces:
        return []
    rows = {columns[column]: int(getattr(row, column)) for column in conditions}
    read, written = _bytes(target, way, int(row.faces), rows)
    if way == "file":
        read = int(session.execute(text(_MEDIA_BYTES.format(any=any_of))).one().bytes)
    rate = session.execute(_RATE, {"way": way, "latest": LATEST_BATCHES}).one()
    hours = int(row.faces) * rate.seconds / float(rate.faces) / 3600 if rate.faces and rate.seconds else None
    return [WayPreview(way=way, faces=int(row.faces), read_bytes=read, written_bytes=written, hours=hours)]


def _bytes(target: Target, way: Way, faces: int, rows: Mapping[str, int]) -> tuple[int, int]:
    """Return the bytes that are read and written for faces, given the rows of each task."""
    if way == "file":
        return 0, faces * MEAN_CROP_BYTES
    scores = {task: 2 * len(head.branch.labels) for task, head in target.heads.items()}
    written = sum(count * (PREDICTION_BYTES + scores[task]) for task, count in rows.items() if task != IDENTITY)
    if way == "reading":
        return sum(count * scores[task] for task, count in rows.items() if task != IDENTITY), sum(
            count * PREDICTION_BYTES for task, count in rows.items() if task != IDENTITY
        )
    written += rows.get(IDENTITY, 0) * EMBEDDING_BYTES
    return faces * (256 if way == "embedding" else MEAN_CROP_BYTES), written
