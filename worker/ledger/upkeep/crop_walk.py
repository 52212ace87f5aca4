"""Compares the crop store with the rows: strips that no row names, and rows whose strip is not there.

Most orphans are removed by the next attempt at their unit, or when their file is cancelled or erased. Those that a
killed process leaves are found by a walk, a few folders at a time.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import RetryableError
from worker.masking import masked
from worker.storage.crops import strip_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.storage.crops import CropStore

logger = logging.getLogger(__name__)

PREFIXES = tuple(f"{number:02x}" for number in range(256))
"""The folders of the store: files are spread over them by the first digits of their hash."""
FOLDERS_AT_ONCE = 20
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60.0, 3600.0
"""Bounds of the pause between two walks, which is as long as the walk was."""
_NAME = re.compile(
    r"[0-9a-f]{2}/(?P<sha256>[0-9a-f]{64})/(?P<analysis>\d{1,18})/"
    r"(?P<ordinal>\d{1,9})-(?:(?P<token>\d{1,18})-)?\d+\.png(?:\.part)?"
)
"""Names of earlier versions have no token."""

_HASH = text("SELECT sha256 FROM analysis JOIN media_file USING (media_id) WHERE analysis_id = :id")
_KNOWN = text("""SELECT analysis_id, sha256 FROM analysis JOIN media_file USING (media_id)
                 WHERE analysis_id = ANY(:ids)""")
_IN_FLIGHT = text("SELECT analysis_id, ordinal, token FROM unit WHERE analysis_id = ANY(:ids) AND state = 'leased'")
_NAMED = text("SELECT uri FROM crop_strip JOIN unit USING (unit_id) WHERE analysis_id = ANY(:ids)")
_NAMED_BELOW = text("""
    SELECT c.uri FROM media_file JOIN analysis USING (media_id) JOIN unit USING (analysis_id)
    JOIN crop_strip c USING (unit_id)
    WHERE sha256 >= :prefix AND sha256 < :prefix || 'g'""")
_STILL_NAMED = text("SELECT EXISTS (SELECT FROM crop_strip WHERE uri = :name)")

_BEGIN = text("""
    INSERT INTO crop_walk AS w (url) VALUES (:url)
    ON CONFLICT (url) DO UPDATE SET position = '', removed = 0, strangers = 0, stranger = NULL, began_at = now()
    WHERE w.position = '' AND w.ended_at < now()
        - greatest(make_interval(secs => :least), least(make_interval(secs => :most), w.ended_at - w.began_at))""")
_POSITION = text("SELECT position, ended_at >= began_at AS rests FROM crop_walk WHERE url = :url")
_ADVANCE = text("""UPDATE crop_walk SET position = :position, removed = removed + :removed,
                       strangers = strangers + :strangers, stranger = coalesce(stranger, :stranger)
                   WHERE url = :url""")
_END = text("UPDATE crop_walk SET position = '', ended_at = now() WHERE url = :url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unnamed:
    """Strips that no row names and no worker is writing."""

    orphans: tuple[str, ...] = ()
    """Of analyses of this database: strips of broken-off attempts."""
    strangers: tuple[str, ...] = ()
    """Of analyses that are not in this database, or with other names: another database uses the store, or an
    older backup was restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropAudit:
    """Result of comparing a whole crop store with the rows."""

    strips: int = 0
    """Files in the store."""
    orphans: tuple[str, ...] = ()
    """Strips that no row names, as `Unnamed.orphans`."""
    strangers: tuple[str, ...] = ()
    """Strips of no analysis of this database, as `Unnamed.strangers`."""
    missing: tuple[str, ...] = ()
    """Strips that rows name and that are not there."""

    @property
    def is_clean(self) -> bool:
        """Whether each strip has a row, and each row its strip."""
        return not (self.orphans or self.strangers or self.missing)


def find_unnamed(session: Session, names: Sequence[str]) -> Unnamed:
    """Return the strips that no row names, without those that a worker is writing.

    Args:
        session: an open session, begun after the strips were listed.
        names: paths below the store.
    """
    if not names:
        return Unnamed()
    parts = {name: _NAME.fullmatch(name) for name in names}
    ids = {"ids": sorted({int(found["analysis"]) for found in parts.values() if found})}
    known = {(row.analysis_id, row.sha256) for row in session.execute(_KNOWN, ids)}
    in_flight = {key for row in session.execute(_IN_FLIGHT, ids) for key in (tuple(row), (*row[:2], None))}
    named = set(session.scalars(_NAMED, ids))
    orphans, strangers = [], []
    for name, found in parts.items():
        if name in named:
            continue
        if found is None or (int(found["analysis"]), found["sha256"]) not in known:
            strangers.append(name)
        elif _attempt(found) not in in_flight:
            orphans.append(name)
    return Unnamed(orphans=tuple(orphans), strangers=tuple(strangers))


def _attempt(found: re.Match[str]) -> tuple[int, int, int | None]:
    """Return analysis, unit and token of the attempt that wrote a strip."""
    token = found["token"]
    return int(found["analysis"]), int(found["ordinal"]), None if token is None else int(token)


def find_orphans_of(session: Session, store: CropStore, analysis_id: int) -> tuple[str, ...]:
    """Return the strips of one analysis that no row names and no worker is writing.

    Raises:
        RetryableError: the store is unreachable.
    """
    sha256 = session.execute(_HASH, {"id": analysis_id}).scalar()
    return find_unnamed(session, store.find(strip_folder(sha256, analysis_id))).orphans if sha256 else ()


def find_orphans(sessions: sessionmaker[Session], store: CropStore) -> CropAudit:
    """Compare the whole store with all rows; differences are checked a second time, because workers go on.

    Raises:
        RetryableError: the store is unreachable.
    """
    strips = 0
    unnamed: list[str] = []
    missing: list[str] = []
    for prefix in PREFIXES:
        there = store.find(prefix)
        strips += len(there)
        with sessions() as session:
            found = find_unnamed(session, there)
            unnamed += [*found.orphans, *found.strangers]
            missing += set(session.scalars(_NAMED_BELOW, {"prefix": prefix})) - set(there)
    still = [name for name in unnamed if name in store.find(name)]
    with sessions() as session:
        found = find_unnamed(session, still)
        gone = [name for name in sorted(missing) if not store.find(name) and _is_named(session, name)]
    return CropAudit(strips=strips, orphans=found.orphans, strangers=found.strangers, missing=tuple(gone))


def _is_named(session: Session, name: str) -> bool:
    return bool(session.execute(_STILL_NAMED, {"name": name}).scalar_one())


@dataclass(slots=True)
class _Walk:
    """State of a walk within one call."""

    sessions: sessionmaker[Session]
    store: CropStore
    url: str
    position: str
    until: float
    removed: int = field(default=0)


def walk_crops(sessions: sessionmaker[Session], store: CropStore, seconds: float) -> int:
    """Continue the walk for some seconds, at least one step, and remove orphans; return how many.

    Strips of analyses that are not in this database are counted and kept: `facet doctor` shows them.

    Raises:
        RetryableError: the store is unreachable; the next call continues there.
    """
    url = masked(store.url)
    with sessions.begin() as session:
        session.execute(_BEGIN, {"url": url, "least": MIN_PAUSE_SECONDS, "most": MAX_PAUSE_SECONDS})
        state = session.execute(_POSITION, {"url": url}).one()
    if state.rests:
        return 0
    walk = _Walk(sessions, store, url, state.position, time.monotonic() + seconds)
    for folders in _steps(store, state.position):
        _step(walk, folders)
        if time.monotonic() > walk.until:
            return walk.removed
    with sessions.begin() as session:
        session.execute(_END, {"url": url})
    return walk.removed


def _steps(store: CropStore, position: str) -> Iterator[list[str]]:
    """Yield the folders of files behind a position, some at a time."""
    for prefix in PREFIXES:
        if prefix >= position[:2]:
            folders = iter(folder for folder in store.folders(prefix) if folder > position)
            while some := list(islice(folders, FOLDERS_AT_ONCE)):
                yield some


def _step(walk: _Walk, folders: Iterable[str]) -> None:
    folders = list(folders)
    names = [name for folder in folders for name in walk.store.find(folder)]
    with walk.sessions() as session:
        found = find_unnamed(session, names)
    removed = [name for name in found.orphans if _remove(walk.store, name)]
    if removed:
        facts = {"action": "orphans_removed", "strips": len(removed), "first": removed[0]}
        logger.warning("crops that no row named are removed", extra=facts)
    walk.removed += len(removed)
    parameters = {
        "url": walk.url,
        "position": folders[-1],
        "removed": len(removed),
        "strangers": len(found.strangers),
        "stranger": next(iter(found.strangers), None),
    }
    with walk.sessions.begin() as session:
        session.execute(_ADVANCE, parameters)


def _remove(store: CropStore, name: str) -> bool:
    """Remove a strip; one that cannot be removed is tried again in the next walk."""
    try:
        store.remove(name)
    except RetryableError as err:
        logger.warning("a crop that no row names stays: %s", err, extra={"action": "orphan_stays", "strip": name})
        return False
    return True
