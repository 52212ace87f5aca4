"""Crops of a batch, read ahead by a thread so that the model never waits for the store."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from worker.errors import FacetError, RetryableError
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from worker.reprocess.batches.faces import Stopwatch
    from worker.storage.crops import CropStore

logger = logging.getLogger(__name__)

CHUNK_FACES = 256  # a call of the model: it reads the weights of wide layers once for several of its own batches
MAX_AHEAD = 4  # chunks that are decoded and wait for the model: 40 MB

_STRIPS = text("""
    SELECT s.unit_id, s.strip_no, s.uri
    FROM unnest(cast(:units AS bigint[]), cast(:strips AS smallint[])) AS w(unit_id, strip_no)
    JOIN crop_strip AS s USING (unit_id, strip_no)""")
_FORGET = text("DELETE FROM crop_strip WHERE unit_id = :unit_id AND strip_no = :strip_no AND uri = :uri")


@dataclass(frozen=True, slots=True, eq=False)
class CropChunk:
    """Crops of N faces."""

    face_ids: NDArray[np.int64]
    crops: NDArray[np.uint8]
    """(N, S, S, 3) RGB."""


def read_crops(
    sessions: sessionmaker[Session], store: CropStore, faces: NDArray[Any], side: int, watch: Stopwatch
) -> Iterator[CropChunk]:
    """Yield the crops of faces, about CHUNK_FACES at a time, while a thread reads the next ones.

    A strip that is missing or damaged is forgotten, so that the next planning finds another source for its faces.

    Args:
        sessions: of the database.
        store: of the crops.
        faces: rows of `worker.reprocess.batches.rows.read_faces`.
        side: pixels of a crop.
        watch: counts the time for which the caller waits.

    Raises:
        RetryableError: the store is unreachable.
    """
    ahead: queue.Queue[CropChunk | BaseException | None] = queue.Queue(MAX_AHEAD)
    stopped = threading.Event()
    reader = _Reader(sessions, store, side, ahead, stopped)
    thread = threading.Thread(target=reader.run, args=(faces,), name="crops", daemon=True)
    thread.start()
    try:
        while True:
            with watch.time("wait"):
                item = ahead.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():
            _drain(ahead)
            thread.join(0.05)


class _Reader:
    def __init__(
        self,
        sessions: sessionmaker[Session],
        store: CropStore,
        side: int,
        ahead: queue.Queue[CropChunk | BaseException | None],
        stopped: threading.Event,
    ) -> None:
        self._sessions, self._store, self._side = sessions, store, side
        self._ahead, self._stopped = ahead, stopped

    def run(self, faces: NDArray[Any]) -> None:
        try:
            self._read(faces)
        except BaseException as err:  # noqa: BLE001 - raised where the crops are taken
            self._ahead.put(err)
        else:
            self._ahead.put(None)

    def _read(self, faces: NDArray[Any]) -> None:
        places = np.stack([faces["unit_id"], faces["strip_no"]], axis=1) if len(faces) else np.zeros((0, 2), np.int64)
        keys = np.unique(places, axis=0)
        with self._sessions() as session:
            asked = {"units": keys[:, 0].tolist(), "strips": keys[:, 1].tolist()}
            uris = {(row.unit_id, row.strip_no): row.uri for row in session.execute(_STRIPS, asked)}
        ids, crops, count = [], [], 0
        for key in map(tuple, keys.tolist()):
            rows = faces[(places == key).all(axis=1)]
            found = self._strip(key, uris.get(key))
            if found is None:
                continue
            rows = rows[rows["crop_index"] < len(found)]
            ids.append(rows["face_id"])
            crops.append(found[rows["crop_index"]])
            count += len(rows)
            while count >= CHUNK_FACES and not self._stopped.is_set():
                ids, crops, count = self._hand_over(ids, crops, CHUNK_FACES)
            if self._stopped.is_set():
                return
        if count:
            self._hand_over(ids, crops, count)

    def _strip(self, key: tuple[int, int], uri: str | None) -> NDArray[np.uint8] | None:
        if uri is None:
            return None
        try:
            return self._store.read(uri, self._side)
        except RetryableError:
            raise
        except FacetError as err:
            self._store.require()  # a store that is not mounted is no reason to forget its strips
            facts = {"action": "crops_gone", "uri": uri}
            logger.warning("crops are gone; their faces need another source: %s", err, extra=facts)
            values = {"unit_id": key[0], "strip_no": key[1], "uri": uri}
            run_transaction(self._sessions, "crops", lambda session: session.execute(_FORGET, values))
            return None

    def _hand_over(
        self, ids: list[NDArray[np.int64]], crops: list[NDArray[np.uint8]], count: int
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.uint8]], int]:
        """Put a chunk into the queue; return what is left over."""
        every, pixels = np.concatenate(ids), np.concatenate(crops)
        self._ahead.put(CropChunk(every[:count].copy(), np.ascontiguousarray(pixels[:count])))
        return [every[count:]], [pixels[count:]], len(every) - count


def _drain(waiting: queue.Queue[CropChunk | BaseException | None]) -> None:
    while not waiting.empty():
        waiting.get_nowait()
