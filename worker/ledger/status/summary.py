"""Summary of a job: the counts and reasons that a user sees at its end."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

# Queries for a user who wants more than a summary shows.
FIRST_QUESTION = "SELECT * FROM people"
ALL_FAILURES = "SELECT uri, status, reason FROM media WHERE status <> 'done'"
ALL_NOTES = "SELECT uri, notes FROM media WHERE notes IS NOT NULL"

SIDECAR_PREFIX = "sidecar:"  # begins the reason of a file that only accompanies another
NOT_MEDIA_PREFIX = "not_media:"  # and that of any other file that is no media


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file of the job that is not done."""

    uri: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileNote:
    """A part of a file that was not analysed, or a doubtful result."""

    uri: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts of a job; submitted = done + rejected + quarantined + cancelled + pending."""

    job_id: int
    submitted: int
    done: int
    rejected: int
    quarantined: int
    cancelled: int
    pending: int
    frames: int
    faces: int
    """Detected faces of its files, kept and dropped."""
    dropped: dict[str, int]
    """Faces kept out of inference, by reason."""
    appearances: int
    people: int
    failures: list[FileFailure]
    """Sidecars aside."""
    sidecars: int
    """Of the rejected files, those that systems and programs leave beside media; they are no failures."""
    not_media: int = 0
    """Of the failures, files that are neither image nor video nor archive."""
    notes: list[FileNote]
    """Of the files that are done."""

    def went_well(self, *, strict: bool = False) -> bool:
        """Return whether every file was analysed, sidecars aside; strictly, files that are no media count, too."""
        return self.submitted == self.done + self.sidecars + (0 if strict else self.not_media)

    def as_json(self) -> dict[str, object]:
        """Return the fields for a program; each failure and note is an array of its fields."""
        rows = {"failures": list(map(astuple, self.failures)), "notes": list(map(astuple, self.notes))}
        return asdict(self) | rows


def summarise_job(session: Session, job_id: int) -> Summary:
    """Read the summary of a job."""
    parameters = {"id": job_id}
    job = session.execute(
        text("SELECT submitted, done, rejected, quarantined, cancelled, pending FROM jobs WHERE job_id = :id"),
        parameters,
    ).one()
    counts = session.execute(
        text("""WITH mine AS (SELECT DISTINCT analysis_id FROM job_item WHERE job_id = :id),
                     trunks AS (SELECT DISTINCT analysis_id, trunk_id FROM mine JOIN unit USING (analysis_id)
                                JOIN release USING (release_id)),
                     seen AS (SELECT * FROM appearance JOIN trunks USING (analysis_id, trunk_id))
                SELECT (SELECT coalesce(sum(frame_count), 0) FROM analysis JOIN mine USING (analysis_id)) AS frames,
                       (SELECT coalesce(sum(face_count), 0) FROM analysis JOIN mine USING (analysis_id)) AS faces,
                       (SELECT count(*) FROM seen) AS appearances,
                       (SELECT count(DISTINCT person_id) FROM seen) AS people"""),
        parameters,
    ).one()
    dropped = session.execute(
        text("""SELECT dropped_reason, count(*) AS faces FROM face
                WHERE dropped_reason IS NOT NULL
                  AND analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :id)
                GROUP BY dropped_reason ORDER BY faces DESC, dropped_reason"""),
        parameters,
    ).all()
    failures = session.execute(
        text("""SELECT i.uri, coalesce(a.state, 'rejected') AS state, coalesce(a.reason, i.reason, m.reason) AS reason
                FROM job_item i JOIN media_file m USING (media_id) LEFT JOIN analysis a USING (analysis_id)
                WHERE i.job_id = :id AND (a.state IS NULL OR a.state NOT IN ('done', 'pending')) ORDER BY i.item_no"""),
        parameters,
    ).all()
    notes = session.execute(
        text("""SELECT i.uri, n.note
                FROM job_item i JOIN unit u USING (analysis_id)
                CROSS JOIN LATERAL unnest(u.notes) WITH ORDINALITY AS n (note, place)
                WHERE i.job_id = :id GROUP BY i.item_no, i.uri, n.note
                ORDER BY i.item_no, min(ARRAY[u.ordinal, n.place])"""),
        parameters,
    ).all()
    return Summary(
        job_id=job_id,
        **job._mapping,  # noqa: SLF001 - the documented way to read a Row by name
        frames=int(counts.frames),
        faces=int(counts.faces),
        dropped={row.dropped_reason: int(row.faces) for row in dropped},
        appearances=int(counts.appearances),
        people=int(counts.people),
        failures=[FileFailure(row.uri, row.state, row.reason) for row in failures if not _is_sidecar(row.reason)],
        sidecars=sum(_is_sidecar(row.reason) for row in failures),
        not_media=sum((row.reason or "").startswith(NOT_MEDIA_PREFIX) for row in failures),
        notes=[FileNote(row.uri, row.note) for row in notes],
    )


def has_files(session: Session) -> bool:
    """Whether any file was ever submitted."""
    return bool(session.execute(text("SELECT EXISTS (SELECT FROM media_file)")).scalar_one())


def count_refused(session: Session, job_id: int, begins: str) -> int:
    """Count the rejected files of a job whose reason begins so."""
    statement = text("""SELECT count(*) FROM job_item JOIN media_file AS m USING (media_id)
                        WHERE job_id = :id AND analysis_id IS NULL AND m.reason LIKE :begins""")
    return int(session.execute(statement, {"id": job_id, "begins": f"{begins}%"}).scalar_one())


def _is_sidecar(reason: str | None) -> bool:
    return (reason or "").startswith(SIDECAR_PREFIX)
