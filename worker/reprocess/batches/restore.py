"""Batches of faces whose crops are gone: their frames are decoded again, and the crops are cut by the stored landmarks.

Nothing is detected. The crops go to the crop store, where the next planning finds them. A file that cannot be read is a
gap of the job, with the reason, after the last attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sqlalchemy import text

from db.bulk.arrays import Codes, read_rows
from db.bulk.codes import decode_landmarks
from models.geometry import align
from worker.decode.client import Decoder
from worker.errors import MediaError, MediaUnreachable
from worker.masking import masked
from worker.reprocess.batches.rows import end_batch, retry_races
from worker.storage.crops import STRIP_ROWS, strip_folder
from worker.storage.stamps import Expected
from worker.storage.transactions import run_transaction
from worker.types import DecodeRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import AnyType
    from models.trunks.base import TrunkLayout
    from worker.ledger.batches import Batch
    from worker.reprocess.batches.faces import Stopwatch
    from worker.reprocess.target import Target
    from worker.storage.crops import CropStore
    from worker.storage.sources import Sources
    from worker.types import DecodeLimits, VideoReader

_UNITS = text("""
    SELECT u.unit_id, u.analysis_id, u.ordinal, u.start_seconds, u.end_seconds, m.sha256, m.location, m.kind,
           m.byte_size, m.stamp, CASE a.sampling WHEN 'every' THEN NULL
           ELSE split_part(a.sampling, '/', 1)::double precision END AS sampling_fps
    FROM unit AS u JOIN analysis AS a USING (analysis_id) JOIN media_file AS m USING (media_id)
    WHERE u.unit_id = ANY(:ids) AND m.sealed_at IS NULL AND m.reason IS NULL ORDER BY u.unit_id""")
_FACES = """
    SELECT f.face_id, f.unit_id, f.frame_index, f.x1, f.y1, f.x2, f.y2, f.landmarks
    FROM facet.face AS f JOIN facet.analysis AS a USING (analysis_id)
    LEFT JOIN facet.crop_strip AS s ON s.unit_id = f.unit_id AND s.strip_no = f.strip_no
    WHERE f.face_id BETWEEN %(first)s AND %(last)s AND a.finder_id = %(finder)s AND a.is_current
      AND f.dropped_reason IS NULL AND s.unit_id IS NULL
      AND (%(ids)s::bigint[] IS NULL OR f.face_id = ANY (%(ids)s::bigint[]))
    ORDER BY f.unit_id, f.frame_index, f.face_no"""
_FACE_TYPES: Mapping[str, AnyType] = {
    "face_id": "bigint", "unit_id": "bigint", "frame_index": "integer",
    "x1": "real", "y1": "real", "x2": "real", "y2": "real", "landmarks": Codes(10),
}  # fmt: skip
_KEEP = text("""
    SELECT analysis_id FROM analysis WHERE analysis_id = ANY(:ids) ORDER BY analysis_id FOR KEY SHARE SKIP LOCKED""")
_NEXT_STRIP = text("""
    SELECT coalesce(max(strip_no), -1) + 1 FROM (
        SELECT strip_no FROM crop_strip WHERE unit_id = :unit_id
        UNION ALL SELECT strip_no FROM face WHERE unit_id = :unit_id AND strip_no IS NOT NULL) AS used""")
_INSERT_STRIP = text("INSERT INTO crop_strip (unit_id, strip_no, uri) VALUES (:unit_id, :strip_no, :uri)")
_PLACE = text("""
    UPDATE face SET strip_no = :strip_no, crop_index = w.place - 1
    FROM unnest(cast(:ids AS bigint[])) WITH ORDINALITY AS w(id, place) WHERE face.face_id = w.id""")
_GAP = text("""
    INSERT INTO reprocess_gap (job_id, analysis_id, reason, face_count)
    SELECT :job_id, analysis_id, :reason, :count FROM analysis WHERE analysis_id = :analysis_id
    ON CONFLICT (job_id, analysis_id, reason) DO UPDATE SET face_count = reprocess_gap.face_count + :count""")


@dataclass(frozen=True, slots=True)
class MediaAccess:
    """How files are opened."""

    sources: Sources
    limits: DecodeLimits
    video_reader: VideoReader


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    unit: Row[tuple[object, ...]]
    name: str
    face_ids: list[int]


@dataclass(frozen=True, slots=True)
class _Failure:
    analysis_id: int
    reason: str
    faces: int


class Restorer:
    """Restores the crops of one batch.

    Args:
        sessions: of the database.
        store: of the crops.
        media: how files are opened.
        layout: of the trunk whose crops they are.
    """

    def __init__(
        self, sessions: sessionmaker[Session], store: CropStore, media: MediaAccess, layout: TrunkLayout
    ) -> None:
        self._sessions, self._store, self._media, self._layout = sessions, store, media, layout

    def restore(self, batch: Batch, target: Target, watch: Stopwatch, *, is_last: bool) -> int:
        """Cut and store crops, and end the batch; return how many faces have one.

        Args:
            batch: the batch.
            target: its release.
            watch: counts the time of its stages.
            is_last: whether it is the last attempt, so that files that cannot be read are gaps.

        Raises:
            MediaUnreachable: a file is not on this host; not at the last attempt.
            LeaseLostError: another worker holds or ended the batch; nothing is written.
        """
        key = {"first": batch.first_id, "last": batch.last_id, "finder": target.ids.finder_id}
        with self._sessions() as session:
            faces = read_rows(
                session, _FACES, _FACE_TYPES, key | {"ids": None if batch.ids is None else list(batch.ids)}
            )
            units = session.execute(_UNITS, {"ids": np.unique(faces["unit_id"]).tolist()}).all()
        strips: list[_Strip] = []
        failures: list[_Failure] = []
        with Decoder(self._media.limits, self._media.video_reader) as decoder:
            for unit in units:
                mine = faces[faces["unit_id"] == unit.unit_id]
                try:
                    with watch.time("decode"):
                        found = self._restore_unit(batch, unit, mine, decoder)
                    strips += found
                    lost = len(mine) - sum(len(strip.face_ids) for strip in found)
                    if lost:
                        reason = "frame_not_found: the file has no frame where its faces were found"
                        failures.append(_Failure(unit.analysis_id, reason, lost))
                except MediaUnreachable as err:
                    if not is_last:
                        raise
                    failures.append(_Failure(unit.analysis_id, masked(err.reason), len(mine)))
                except MediaError as err:
                    failures.append(_Failure(unit.analysis_id, masked(err.reason), len(mine)))
        work = lambda session: self._record(session, batch, strips, failures, watch)  # noqa: E731 - tried again as a whole
        return retry_races(lambda: run_transaction(self._sessions, "reprocess", work))

    def _restore_unit(
        self, batch: Batch, unit: Row[tuple[Any, ...]], faces: NDArray[Any], decoder: Decoder
    ) -> list[_Strip]:
        ids: list[int] = []
        crops: list[NDArray[np.uint8]] = []
        for number, cut in self._cut(unit, faces, decoder):
            ids.append(number)
            crops.append(cut)
        if batch.attempts > 1:
            self._remove_earlier(batch, unit)
        strips = []
        for place, first in enumerate(range(0, len(ids), STRIP_ROWS)):
            folder = strip_folder(unit.sha256, unit.analysis_id)
            # no name of an analysis: neither its retries nor upkeep take it for a strip of theirs
            name = f"{folder}/{unit.ordinal}-r{batch.unit_id}-{batch.token}-{place}.png"
            rows = slice(first, first + STRIP_ROWS)
            self._store.write(name, np.stack(crops[rows]))
            strips.append(_Strip(unit, name, ids[rows]))
        return strips

    def _remove_earlier(self, batch: Batch, unit: Row[tuple[Any, ...]]) -> None:
        """Remove the strips of earlier attempts, which stored nothing."""
        for name in self._store.find(strip_folder(unit.sha256, unit.analysis_id)):
            if name.rpartition("/")[2].startswith(f"{unit.ordinal}-r{batch.unit_id}-"):
                self._store.remove(name)

    def _cut(
        self, unit: Row[tuple[Any, ...]], faces: NDArray[Any], decoder: Decoder
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the faces whose frames are found, with their crops."""
        expected = Expected(
            sha256=unit.sha256, byte_size=unit.byte_size, stamp=unit.stamp, is_image=unit.kind == "image"
        )
        template = torch.tensor(self._layout.template)
        wanted = set(faces["frame_index"].tolist())
        with self._media.sources.open_local(unit.location, expected) as location:
            request = DecodeRequest(
                location=location,
                kind=unit.kind,
                frames_per_second=unit.sampling_fps,
                start_seconds=unit.start_seconds,
                end_seconds=unit.end_seconds,
                limits=self._media.limits,
                video_reader=self._media.video_reader,
            )
            with decoder.open(request) as stream:
                for frame in stream:
                    if frame.index not in wanted:
                        continue
                    wanted.discard(frame.index)
                    rows = faces[faces["frame_index"] == frame.index]
                    boxes = np.stack([rows[edge] for edge in ("x1", "y1", "x2", "y2")], axis=1)
                    points = torch.from_numpy(decode_landmarks(rows["landmarks"], boxes))
                    pixels = torch.from_numpy(frame.pixels.copy()).permute(2, 0, 1)[None]
                    cut = align(pixels, torch.zeros(len(rows), dtype=torch.int64), points, template, self._layout.side)
                    yield from zip(rows["face_id"].tolist(), cut.permute(0, 2, 3, 1).numpy(), strict=True)
                    if not wanted:
                        return

    def _record(
        self, session: Session, batch: Batch, strips: list[_Strip], failures: list[_Failure], watch: Stopwatch
    ) -> int:
        ids = {strip.unit.analysis_id for strip in strips} | {failure.analysis_id for failure in failures}
        kept = set(session.scalars(_KEEP, {"ids": sorted(ids)}))
        end_batch(session, batch, watch.seconds)
        count = 0
        for strip in strips:
            if strip.unit.analysis_id in kept:
                key = {"unit_id": strip.unit.unit_id}
                key |= {"strip_no": session.execute(_NEXT_STRIP, key).scalar_one()}
                session.execute(_INSERT_STRIP, key | {"uri": strip.name})
                session.execute(_PLACE, {"strip_no": key["strip_no"], "ids": strip.face_ids})
                count += len(strip.face_ids)
        for failure in failures:
            values = {"job_id": batch.job_id, "analysis_id": failure.analysis_id, "reason": failure.reason}
            session.execute(_GAP, values | {"count": failure.faces})
        return count
