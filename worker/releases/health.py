"""State of the registered releases, for ``facet doctor`` and ``facet status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import FacetError
from worker.masking import masked
from worker.releases.consistency import check_choices
from worker.releases.records import find_newer_shipped, read_stored

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.storage.release_store import ReleaseStore


def check_store(session: Session, store: ReleaseStore) -> str:
    """Check that the store has each release that this program can compute, and that its rows agree; return the facts.

    Raises:
        FacetError: one is missing, or rows of releases contradict each other.
        RetryableError: the store is unreachable.
    """
    stored = [one for one in read_stored(session) if one.is_servable]
    missing = [one for one in stored if not store.has(one.store_name, one.files)]
    if missing:
        names = ", ".join(f"{one.name} ({one.release_id})" for one in missing)
        raise FacetError(
            f"{masked(store.url)} lacks release {names}; run `facet releases register FOLDER` with its folder, or "
            "start a worker of the program that ships it"
        )
    if contradictions := list(check_choices(session)):
        raise FacetError(f"{'; '.join(contradictions)}; see `facet db check --rows`")
    note = newer_shipped(session)
    return f"{len(stored)} in {masked(store.url)}{'' if note is None else f'; {note}'}"


def newer_shipped(session: Session) -> str | None:
    """Return that a program brought a release along which is newer than the active one; None where it did not."""
    newer = find_newer_shipped(session)
    if newer is None:
        return None
    return (
        f"release {newer} came with a newer version of the program, and the views show an older one; see "
        "`facet releases list`, and activate it when it covers the archive"
    )
