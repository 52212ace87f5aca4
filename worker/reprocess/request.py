"""The request of a reprocess job, and the row that keeps it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.reader.run_query import run_query
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from worker.ledger.batches import Speed

_INSERT = text("""
    INSERT INTO job (name, kind, release_id, speed, submission, written_at, options)
    VALUES (:name, 'reprocess', :release_id, :speed, 'open', now(), cast(:options AS jsonb)) RETURNING job_id""")
_INSERT_FACES = text("""
    INSERT INTO reprocess_face (job_id, face_id) SELECT DISTINCT cast(:job_id AS bigint), id
    FROM unnest(cast(:faces AS bigint[])) AS chosen(id)""")
_OPTIONS = text("SELECT options FROM job WHERE job_id = :job_id")
_OF_PERSON = text("""
    SELECT e.face_id FROM face_embedding AS e JOIN appearance AS s USING (appearance_id)
    WHERE s.person_id = :person_id""")
# Faces are drawn in turns from the groups, so that a rare group is as well represented as a common one. A hash of the
# number decides which of a group: the same sample for the same archive.
_SAMPLE = text("""
    SELECT face_id FROM (
        SELECT s.face_id, row_number() OVER (PARTITION BY s.gender, s.ethnicity, s.decade, s.quality, s.job_id
                                             ORDER BY hashint8(s.face_id), s.face_id) AS place
        FROM (
            SELECT f.face_id, f.gender, f.ethnicity, floor(f.age / 10) AS decade, floor(f.quality * 4) AS quality,
                   (SELECT min(i.job_id) FROM job_item AS i WHERE i.media_id = f.media_id) AS job_id
            FROM faces AS f
            WHERE f.dropped_reason IS NULL
              AND (cast(:faces AS bigint[]) IS NULL OR f.face_id = ANY (cast(:faces AS bigint[])))
              AND (cast(:media AS text) IS NULL OR f.media_id IN (SELECT media_id FROM media_file WHERE uri ~ :media))
              AND (cast(:job AS bigint) IS NULL OR f.media_id IN (SELECT media_id FROM job_item WHERE job_id = :job))
        ) AS s
    ) AS drawn
    ORDER BY place, hashint8(face_id), face_id LIMIT :count""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReprocessRequest:
    """Rows to fill in, and how."""

    release_id: int
    tasks: tuple[str, ...] | None = None
    """Heads of the release; None for all."""
    media: str | None = None
    """Glob of the files' addresses."""
    of_job: int | None = None
    """Only files of this job."""
    faces: tuple[int, ...] | None = None
    """Only these faces."""
    sample: int | None = None
    """Only so many faces, of all groups; appearances and people are left as they are."""
    priority: int = 0
    speed: Speed = "full"

    @property
    def is_limited(self) -> bool:
        """Whether the job is for some faces alone, so that its batches name them."""
        return self.media is not None or self.of_job is not None or self.has_faces

    @property
    def has_faces(self) -> bool:
        """Whether the faces of the job are chosen one by one, when it is written."""
        return self.faces is not None or self.sample is not None

    def as_json(self) -> str:
        """Return the options as the job's row keeps them."""
        kept = {"tasks": self.tasks, "media": self.media, "of_job": self.of_job, "sample": self.sample}
        kept |= {"priority": self.priority, "chosen": self.has_faces, "release_id": self.release_id}
        return json.dumps(kept)


def write_job(session: Session, request: ReprocessRequest, name: str) -> int:
    """Write a reprocess job, whose batches are planned later; return its number.

    Raises:
        UsageError: no face fits the request.
    """
    chosen = choose_faces(session, request)
    values = {"name": name, "release_id": request.release_id, "speed": request.speed, "options": request.as_json()}
    job_id = int(session.execute(_INSERT, values).scalar_one())
    if chosen is not None:
        if not chosen:
            raise UsageError('no face fits; see which there are with `facet sql "SELECT count(*) FROM faces"`')
        session.execute(_INSERT_FACES, {"job_id": job_id, "faces": list(chosen)})
    return job_id


def choose_faces(session: Session, request: ReprocessRequest) -> Sequence[int] | None:
    """Return the faces to which a job is limited; None for all that its other limits leave."""
    faces = None if request.faces is None else list(request.faces)
    if request.sample is None:
        return faces
    media = None if request.media is None else as_regex(request.media)
    limits = {"faces": faces, "media": media, "job": request.of_job, "count": request.sample}
    return session.scalars(_SAMPLE, limits).all()


def faces_of_person(session: Session, person_id: int) -> tuple[int, ...]:
    """Return the faces of a person, under all trunks."""
    return tuple(session.scalars(_OF_PERSON, {"person_id": person_id}))


def faces_where(reader_url: str, condition: str) -> tuple[int, ...]:
    """Return the faces that a condition on the view ``faces`` fits.

    Args:
        reader_url: of the database; the query is run as a reader runs queries, so that it may change nothing.
        condition: SQL.

    Raises:
        QueryError: it is no condition.
    """
    query = f"SELECT face_id FROM faces WHERE ({condition}\n) ORDER BY face_id"  # noqa: S608 - the reader may change nothing
    with run_query(reader_url, query) as result:
        return tuple(int(row[0]) for row in result)


def read_request(session: Session, job_id: int, release_id: int) -> ReprocessRequest:
    """Return the request of a job; its chosen faces stand in rows of their own."""
    options = session.execute(_OPTIONS, {"job_id": job_id}).scalar_one()
    return ReprocessRequest(
        release_id=release_id,
        tasks=None if options["tasks"] is None else tuple(options["tasks"]),
        media=options["media"],
        of_job=options["of_job"],
        faces=() if options["chosen"] else None,
        sample=options["sample"],
        priority=int(options["priority"]),
    )


def as_regex(glob: str) -> str:
    """Return a glob as a regular expression of PostgreSQL: * and ? stand for any characters, / among them."""
    parts = {"*": ".*", "?": "."}
    return f"^{''.join(parts.get(one) or re.escape(one) for one in glob)}$"
