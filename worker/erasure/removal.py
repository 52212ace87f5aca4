"""Removes the files that erasures noted, one by one: an entry that fails is tried again later and delays no other."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.erasure.due import ERROR_CHARACTERS, FIRST_FILE_PAUSE_SECONDS, MAX_FILE_PAUSE_SECONDS
from worker.erasure.files import NotedFiles, check_crops, remove_file
from worker.erasure.receipt import RemovedFiles
from worker.errors import FacetError, RetryableError
from worker.masking import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.erasure.files import FileStores

logger = logging.getLogger(__name__)

ENTRIES_AT_ONCE = 200  # entries that are read at once
MAX_FAILURES = 3  # in a row, after which the store counts as away
# Errors that concern one file of a store and not the others.
REMOVAL_ERRORS = (FacetError, OSError, ValueError, LookupError, TypeError, RuntimeError)

# Copies in the staging folder of another host are removed by that host.
_DUE = text("""
    SELECT removal_id FROM file_removal
    WHERE removal_id > :after AND (:again OR coalesce(not_before, '-infinity') <= now())
      AND (kind <> 'staged' OR starts_with(path, :staging || '/'))
    ORDER BY removal_id LIMIT :limit""")
_CHECKS = text("SELECT analysis_id FROM crop_check WHERE analysis_id > :after ORDER BY analysis_id LIMIT :limit")
_FAILED = text("""
    UPDATE file_removal SET attempts = attempts + 1, last_error = :error,
        not_before = now() + make_interval(secs => least(:most, :first * 2 ^ least(attempts, 30)))
    WHERE removal_id = :id""")
_LEFT = text("""
    SELECT (SELECT count(*) FROM file_removal WHERE coalesce(again_until, '-infinity') <= now())
         + (SELECT count(*) FROM crop_check)""")


@dataclass(slots=True)
class Remover:
    """Removes noted files until its time is over or the store is away."""

    sessions: sessionmaker[Session]
    stores: FileStores
    until: float = float("inf")
    """End of its time, on the monotonic clock."""
    done: RemovedFiles = field(default_factory=RemovedFiles)
    failures: int = 0
    """Number of failures in a row."""

    def may_continue(self) -> bool:
        """Return whether time is left and the store answers."""
        return self.failures < MAX_FAILURES and time.monotonic() < self.until

    def remove(self, noted: NotedFiles) -> RemovedFiles:
        """Remove the files that an erasure just noted; those that cannot be removed wait."""
        for place, number in enumerate(noted.removals):
            if not self.may_continue():
                self.done += RemovedFiles(left=len(noted.removals) - place)
                break
            self._remove(number)
        for place, analysis_id in enumerate(noted.checks):
            if not self.may_continue():
                self.done += RemovedFiles(left=len(noted.checks) - place)
                break
            self._check(analysis_id)
        return self.done

    def finish(self, *, again: bool) -> int:
        """Remove the files of earlier erasures; returns the number of entries that remain, other hosts' included.

        Args:
            again: whether entries are tried whose next attempt is not due yet.
        """
        bounds = {"again": again, "staging": str(self.stores.staging), "limit": ENTRIES_AT_ONCE, "after": 0}
        self._all(lambda session, after: list(session.scalars(_DUE, bounds | {"after": after})), self._remove)
        bounds = {"limit": ENTRIES_AT_ONCE}
        self._all(lambda session, after: list(session.scalars(_CHECKS, bounds | {"after": after})), self._check)
        with self.sessions() as session:
            return int(session.execute(_LEFT).scalar_one())

    def _all(self, read: Callable[[Session, int], list[int]], act: Callable[[int], None]) -> None:
        after = 0
        while self.may_continue():
            with self.sessions() as session:
                numbers = read(session, after)
            if not numbers:
                return
            for number in numbers:
                if not self.may_continue():
                    return
                act(number)
            after = numbers[-1]

    def _remove(self, number: int) -> None:
        try:
            self.done += remove_file(self.sessions, self.stores, number)
            self.failures = 0
        except REMOVAL_ERRORS as err:
            self._fail(err)
            facts = {"id": number, "error": masked(str(err))[:ERROR_CHARACTERS]}
            with self.sessions.begin() as session:
                session.execute(_FAILED, facts | {"first": FIRST_FILE_PAUSE_SECONDS, "most": MAX_FILE_PAUSE_SECONDS})

    def _check(self, analysis_id: int) -> None:
        try:
            self.done += check_crops(self.sessions, self.stores, analysis_id)
            self.failures = 0
        except REMOVAL_ERRORS as err:
            self._fail(err)

    def _fail(self, err: Exception) -> None:
        if not self.done.left:  # further ones are in `facet doctor`
            logger.warning("files wait to be removed: %s", err, extra={"action": "removal_waits"})
        self.done += RemovedFiles(left=1)
        self.failures += isinstance(err, RetryableError)
