"""Work that outlasts a request, and answers that are kept for a while so that many visitors cost one query."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseError
from worker.errors import FacetError, RetryableError, described
from worker.masking import masked
from worker.storage.database import database_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    Progress = Callable[[str], None]

Kept = TypeVar("Kept")
logger = logging.getLogger(__name__)

MAX_THREADS = 3  # at a time; each has a connection of its own
MAX_RESULTS = 16  # results; a comparison of releases has some megabytes
COST_SHARE = 20.0  # an answer is kept for this multiple of the time that it took
MAX_ANSWERS = 500
MAX_QUERIES = 4  # of visitors at a time: each may keep a core of the database busy
TURN_SECONDS = 10.0  # for one of them to end
_UNEXPECTED = "it met an error that this program does not know; the log of the server has the details"


@dataclass(frozen=True, slots=True)
class Running:
    """Work that goes on."""

    began: datetime
    note: str = ""
    """How far it is."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Work that went well."""

    at: datetime
    value: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Work that did not."""

    at: datetime
    message: str


State = Running | Ended | Failed


class Background:
    """Threads for work of minutes. It ends with the process; what it runs can be begun again."""

    def __init__(self) -> None:
        self._states: dict[Hashable, State] = {}
        self._lock = Lock()

    def state(self, key: Hashable) -> State | None:
        """Return how far the work of a key is; None where it never began, or its result is no longer kept."""
        with self._lock:
            return self._states.get(key)

    def start(self, key: Hashable, work: Callable[[Progress], object]) -> bool:
        """Begin work in a thread, unless that of the same key is going on; return whether it began.

        Args:
            key: names the work; the result of earlier work of this key is forgotten.
            work: gets a function that shows how far it is.

        Raises:
            RetryableError: so much is going on already.
        """
        with self._lock:
            running = [one for one, state in self._states.items() if isinstance(state, Running)]
            if key in running:
                return False
            if len(running) >= MAX_THREADS:
                raise RetryableError(f"{len(running)} long tasks of this page are going on; wait for one, then repeat")
            self._states.pop(key, None)
            self._states[key] = Running(datetime.now(UTC))
            self._forget()
        Thread(target=self._run, args=(key, work), name=f"background {key}", daemon=True).start()
        return True

    def _forget(self) -> None:
        ended = [key for key, state in self._states.items() if not isinstance(state, Running)]
        for key in ended[: max(0, len(self._states) - MAX_RESULTS)]:
            del self._states[key]

    def _run(self, key: Hashable, work: Callable[[Progress], object]) -> None:
        began, clock = datetime.now(UTC), time.monotonic()

        def show(note: str) -> None:
            self._set(key, Running(began, note))

        try:
            value = work(show)
            self._set(key, Ended(datetime.now(UTC), value, time.monotonic() - clock))
        except (FacetError, DatabaseError) as err:
            self._fail(key, masked(str(err)))
        except DBAPIError as err:
            self._fail(key, masked(str(database_failure(err))))
        except Exception as err:
            # A page waits for this state: whatever ends the thread has to show there.
            logger.exception(
                "work in the background failed", extra={"action": "page_work_failed", "error": described(err)}
            )
            self._fail(key, _UNEXPECTED)

    def _fail(self, key: Hashable, message: str) -> None:
        self._set(key, Failed(datetime.now(UTC), message))

    def _set(self, key: Hashable, state: State) -> None:
        with self._lock:
            self._states[key] = state


@dataclass(slots=True)
class _Slot:
    lock: Lock
    until: float = 0.0
    value: Any = None


class Memo:
    """Answers that are kept for a while: the dearer one was, the longer."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[Hashable, _Slot] = {}
        self._lock = Lock()

    def read(
        self, key: Hashable, read: Callable[[], Kept], *, keep_seconds: Callable[[Kept], float] = lambda _: 1.0
    ) -> Kept:
        """Return the answer of a key; visitors who ask at the same moment wait for one reading.

        Args:
            key: names the answer.
            read: reads it.
            keep_seconds: for how long an answer is kept at least.
        """
        with self._lock:
            kept = self._kept.pop(key, None) or _Slot(Lock())
            self._kept[key] = kept  # the latest comes last
            while len(self._kept) > MAX_ANSWERS:
                del self._kept[next(iter(self._kept))]
        with kept.lock:
            began = self._now()
            if began >= kept.until:
                kept.value = read()
                ended = self._now()
                kept.until = ended + max(keep_seconds(kept.value), COST_SHARE * (ended - began))
            answer: Kept = kept.value
            return answer

    def forget(self, key: Hashable) -> None:
        """Read the answer of a key anew at the next time: something changed it."""
        with self._lock:
            self._kept.pop(key, None)


class Turns:
    """Lets so many queries run at a time."""

    def __init__(self, queries: int = MAX_QUERIES, wait_seconds: float = TURN_SECONDS) -> None:
        self._free, self._wait, self._queries = BoundedSemaphore(queries), wait_seconds, queries

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for a turn.

        Raises:
            RetryableError: it did not come.
        """
        if not self._free.acquire(timeout=self._wait):
            raise RetryableError(f"{self._queries} questions are being answered; wait a moment, then repeat")
        try:
            yield
        finally:
            self._free.release()
