"""The faces of one photo, found as in an analysis (same confined decoder, detector, aligner, trunk) but not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.detection.finding import Search
from worker.decode.client import Decoder
from worker.errors import FacetError, MediaError, UsageError
from worker.identity.search.searcher import Probe
from worker.ingest import FoundFile, IngestOptions, discover
from worker.ledger.submission.prober import expected_of
from worker.types import DecodeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.release import Release
    from worker.storage.sources import Sources
    from worker.types import DecodeLimits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotoFace:
    """A kept face of a photo."""

    number: int
    """From 1, the largest first."""
    box: NDArray[np.float32]
    """(4,) x1, y1, x2, y2 in pixels of the photo."""
    crop: NDArray[np.uint8]
    """(S, S, 3) RGB, aligned."""
    probe: Probe


def read_photo(path: str, sources: Sources, staging: Path, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Decode a photo in a child process; of an animated one, its first frame.

    Args:
        path: of the file, or its URL.
        sources: the roots and URLs that may be opened.
        staging: folder for files that have to be copied before they are read.
        limits: of the decoder.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        UsageError: the path names no file, or anything but one image.
        FacetError: the image cannot be decoded.
    """
    with Decoder(limits) as decoder:
        return decode_photo(path, sources, staging, decoder, limits)


def decode_photo(
    path: str, sources: Sources, staging: Path, decoder: Decoder, limits: DecodeLimits
) -> NDArray[np.uint8]:
    """Decode a photo as `read_photo` does, with a decoder that others are read with too.

    Raises:
        UsageError: as for `read_photo`.
        FacetError: as for `read_photo`.
    """
    found = list(discover([path], IngestOptions(roots=sources.roots), staging))
    if len(found) != 1 or not isinstance(found[0], FoundFile) or found[0].kind != "image":
        raise UsageError(
            f"{path} is {_description(found)}, expected one photo; of a video, analyse it and pass --appearance"
        )
    photo = found[0]
    try:
        with sources.open_local(str(photo.location), expected_of(photo)) as location:
            frame = next(decoder.open(DecodeRequest(location=location, kind="image", limits=limits)), None)
    except MediaError as err:
        raise FacetError(f"{path} cannot be searched for: {err.reason}") from err
    if frame is None:
        raise FacetError(f"{path} cannot be searched for: it contains no image; take another photo")
    return frame.pixels


def _description(found: Sequence[object]) -> str:
    """Return what a path was found to be."""
    if len(found) != 1:
        return f"{len(found)} files"
    only = found[0]
    return f"a {only.kind}" if isinstance(only, FoundFile) else f"no media ({getattr(only, 'message', 'unreadable')})"


def find_faces(pixels: NDArray[np.uint8], release: Release, max_tiles: int = 0) -> tuple[PhotoFace, ...]:
    """Find and embed the faces of a photo.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        release: a release with an embedding; its heads are not used.
        max_tiles: most tiles that a large photo is searched in.

    Returns:
        Faces that an analysis would keep, the largest first; at least one.

    Raises:
        FacetError: there is none; the message lists the dropped faces with their reasons.
    """
    frames = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).to(release.device)
    found = release.find(frames, Search(thorough=True, max_tiles=max_tiles))
    crops, quality = found.crops, found.quality
    boxes = found.detections.boxes.cpu().numpy()
    kept = np.flatnonzero([reason is None for reason in quality.dropped])
    if not len(kept):
        raise FacetError(_no_face(boxes, quality.dropped, pixels.shape))
    sides = np.prod(boxes[kept, 2:] - boxes[kept, :2], axis=1)
    kept = kept[np.argsort(-sides, kind="stable")]
    embeddings = release.infer(crops[torch.from_numpy(kept)]).embeddings.float().cpu().numpy()
    images = crops.permute(0, 2, 3, 1).cpu().numpy()
    return tuple(
        PhotoFace(
            number=place + 1,
            box=boxes[row],
            crop=images[row],
            probe=Probe(embedding=embeddings[place], quality=float(quality.scores[row])),
        )
        for place, row in enumerate(kept.tolist())
    )


def _no_face(boxes: NDArray[np.float32], dropped: Sequence[str | None], shape: tuple[int, ...]) -> str:
    """Return the message that a photo has no face to search for."""
    if not len(boxes):
        return f"no face was found in the photo of {shape[1]} x {shape[0]} pixels; take another one"
    facts = "; ".join(
        f"{reason} ({box[2] - box[0]:.0f} x {box[3] - box[1]:.0f} pixels)"
        for box, reason in zip(boxes, dropped, strict=True)
    )
    return f"the photo has no face that can be compared; found and dropped: {facts}; take a clearer or larger one"
