"""Finds what is to be erased: files by number, hash or path, people by number, and files whose retention is over."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

_SHA256 = re.compile("[0-9a-fA-F]{64}")
_BY_PATH = text("""
    SELECT media_id FROM media_file WHERE uri = ANY(:paths) OR location = ANY(:paths)
    UNION SELECT media_id FROM job_item WHERE uri = ANY(:paths) ORDER BY media_id""")

# A file is due when the last of its jobs no longer keeps it; a job without ``keep_days`` keeps it for ever.
_NOT_KEPT = """NOT EXISTS (
    SELECT FROM job_item other JOIN job k USING (job_id)
    WHERE other.media_id = i.media_id
      AND (k.keep_days IS NULL OR k.submitted_at + make_interval(days => k.keep_days) > now()))"""
# Without an order, so that PostgreSQL reads no further than the first that are due.
_DUE = text(f"""
    SELECT i.media_id FROM job_item i JOIN job j USING (job_id)
    WHERE j.keep_days IS NOT NULL AND j.submitted_at + make_interval(days => j.keep_days) <= now()
      AND {_NOT_KEPT}
      AND (:again OR NOT EXISTS (SELECT FROM erasure_failure e
                                 WHERE e.media_id = i.media_id AND e.not_before > now()))
      AND NOT (i.media_id = ANY(cast(:excluding AS bigint[])))
    LIMIT :limit""")  # noqa: S608 - a constant
_STILL_DUE = text(f"""
    SELECT DISTINCT i.media_id FROM job_item i JOIN job j USING (job_id)
    WHERE i.media_id = ANY(cast(:media AS bigint[]))
      AND j.keep_days IS NOT NULL AND j.submitted_at + make_interval(days => j.keep_days) <= now()
      AND {_NOT_KEPT}""")  # noqa: S608 - a constant

_TRUNKS = text("""
    SELECT trunk_id FROM appearance WHERE person_id = :id GROUP BY trunk_id
    ORDER BY trunk_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, trunk_id DESC""")


def find_media(session: Session, wanted: str) -> int:
    """Find a file by its number, the SHA-256 of its bytes or a path that it was found at; returns its number.

    Raises:
        UsageError: there is no such file, or several have the path.
    """
    if wanted.isdecimal() and len(wanted) < 19:
        found = session.scalars(text("SELECT media_id FROM media_file WHERE media_id = :id"), {"id": int(wanted)}).all()
    elif _SHA256.fullmatch(wanted):
        statement = text("SELECT media_id FROM media_file WHERE sha256 = :sha256")
        found = session.scalars(statement, {"sha256": wanted.lower()}).all()
    else:
        found = session.scalars(_BY_PATH, {"paths": list({wanted, os.path.abspath(wanted)})}).all()  # noqa: PTH100 - resolve() would follow links
    if not found:
        raise UsageError(
            f"there is no file {wanted}; expected a number or sha256 from the view media, or a path as it lists them"
        )
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise UsageError(f"{len(found)} files were found at {wanted}, expected one; pass its number: {numbers}")
    return int(found[0])


def find_trunks_of_person(session: Session, person_id: int) -> tuple[int, ...]:
    """Check that a person exists; returns the trunks under which it has appearances, that of the views first.

    Raises:
        UsageError: there is no such person, or none of its appearances is left.
    """
    trunks = tuple(int(trunk_id) for trunk_id in session.scalars(_TRUNKS, {"id": person_id}))
    if not trunks:
        raise UsageError(f"there is no person {person_id}; see `facet people list`")
    return trunks


def find_due(
    session: Session, *, limit: int | None = None, excluding: Collection[int] = (), again: bool = False
) -> list[int]:
    """Return files that no job keeps any longer, in ascending order.

    Args:
        session: an open session.
        limit: largest number of files, None for all.
        excluding: files that are left out.
        again: whether files are returned whose next attempt is not due yet.
    """
    found = session.scalars(_DUE, {"limit": limit, "excluding": list(excluding), "again": again})
    return sorted({int(media_id) for media_id in found})


def still_due(session: Session, media: Collection[int]) -> list[int]:
    """Return those of some files that are still due: a new submission may keep them."""
    return sorted(int(media_id) for media_id in session.scalars(_STILL_DUE, {"media": list(media)}))
