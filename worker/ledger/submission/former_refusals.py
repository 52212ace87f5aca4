"""Files that were refused for their place (no permission, missing, ...) and are found now: they keep one row.

A refused file was not read, so its row has no hash and is known by its address. Once the file is found there, the items
of the earlier jobs point to its row with the hash; they keep their own reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.ledger.changed import OF_THE_PLACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

# By the hash of the address, which may be longer than an index takes.
_FORMER = text("""
    SELECT m.media_id, m.uri FROM unnest(cast(:uris AS text[])) AS w(uri)
    JOIN media_file AS m ON md5(m.uri) = md5(w.uri) AND m.uri = w.uri
    WHERE m.sha256 IS NULL AND split_part(m.reason, ':', 1) = ANY (cast(:codes AS text[]))""")
_REPOINT = text("UPDATE job_item SET media_id = :media_id WHERE media_id = :former")
_DELETE = text("DELETE FROM media_file WHERE media_id = ANY (cast(:ids AS bigint[]))")


def read_former_refusals(session: Session, uris: Sequence[str]) -> dict[int, str]:
    """Return the rows of these files that were refused for their place: their addresses by media_id."""
    rows = session.execute(_FORMER, {"uris": list(uris), "codes": list(OF_THE_PLACE)}) if uris else ()
    return {int(row.media_id): row.uri for row in rows}


def merge_refusals(session: Session, former: Mapping[int, str], found: Mapping[str, int]) -> None:
    """Point the items of refused rows to the rows of the found files, and delete the refused rows.

    Args:
        session: an open session that has locked the refused rows.
        former: addresses of refused rows, by media_id.
        found: media_ids of found files, by address.
    """
    if not former:
        return
    session.execute(_REPOINT, [{"media_id": found[uri], "former": media_id} for media_id, uri in former.items()])
    session.execute(_DELETE, {"ids": list(former)})
