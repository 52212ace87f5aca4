"""Faces and their landmarks in batches of frames: scaling policy, model, decoding of its anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models.detection.boxes import suppress
from models.detection.orientation import OrientationNet
from models.detection.retinaface import MEAN_RGB, RawFaces, RetinaFace
from models.detection.tiles import SIZE_STEP, plan
from models.geometry import ARCFACE_TEMPLATE
from models.inference.batches import filled_batches, powers_of_two
from models.inference.precision import compute_dtype
from models.types import Detections
from models.weights import load_into

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.detection.tiles import Grid

CPU_BATCH_PIXELS = 1 << 20  # four frames of 640 x 360: the maps of more no longer fit the caches
GPU_BATCH_PIXELS = 1 << 24  # about 4 GB of maps
SPARE_PIXELS = 6 * 160 * 160  # pixels that the model searches in the time that one more call costs
MAX_CANDIDATES = 8000  # of one batch, before overlaps are resolved; a crowd of 400 faces has 2000
CONFIRM_MARGIN = 24  # pixels of plain colour around a crop: with fewer, more crops without a face are confirmed
CONFIRM_DISTANCE = 15.0  # root mean square distance of the landmarks from the template, crop pixels
CONFIRM_THRESHOLD = 0.05
ORIENTATION = "orientation."  # prefix of the names of the other model's weights
VARIANCES = (0.1, 0.2)  # of offsets and of log sizes, as in training


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionPolicy:
    """Limits of a detection, and the scales at which frames are searched."""

    threshold: float = 0.6
    """Lowest score kept, 0..1."""
    nms: float = 0.4
    """Of two boxes that overlap more (intersection over union), the weaker is dropped."""
    max_side: int = 1600
    """Longest side in pixels that is searched; larger frames are scaled down."""
    min_side: int = 480
    """Shortest longest side in pixels that is searched; smaller frames are scaled up."""
    one_look_side: int = 640
    """Longest side in pixels up to which frames are searched once. The model mistakes a face much larger than its
    largest anchor, 512 pixels, for several small ones; so larger frames are searched again for their large faces."""
    second_look_side: int = 480
    """Longest side in pixels of the second search."""
    large_face: int = 320
    """Shorter side in pixels, as searched, from which a face is left to the second search."""


class FaceDetector:
    """Finds faces in frames of any size."""

    def __init__(
        self, weights: Mapping[str, Tensor], policy: DetectionPolicy, device: torch.device | None = None
    ) -> None:
        self.policy = policy
        self.device = device or torch.device("cpu")
        own, orientation = split_weights(weights)
        model = RetinaFace()
        load_into(model, own, "detector")
        self._orientation = _orientation(orientation, self.device)
        model = model.to(self.device, compute_dtype(self.device)).to(memory_format=torch.channels_last)
        self._model = model.eval().requires_grad_(requires_grad=False)
        self._model.pack()

    @torch.inference_mode()
    def detect(self, frames: Tensor, *, threshold: float | None = None, max_tiles: int = 0) -> Detections:
        """Find all faces of a batch of frames.

        Args:
            frames: (B, 3, H, W) uint8 RGB, on any device; B may be 0.
            threshold: lowest score; None for the policy's.
            max_tiles: tiles in which a frame larger than the policy's longest side is searched besides, at most.

        Returns:
            Faces on the CPU in pixels of `frames`, by frame and in it by falling score.
        """
        threshold = self.policy.threshold if threshold is None else threshold
        found = self._search_reduced(frames, threshold)
        grids = plan(frames.shape[2], frames.shape[3], self.policy.max_side, max_tiles)
        if not grids:
            return found
        parts = [self._search_tiles(frames, row, grid, threshold) for row in range(len(frames)) for grid in grids]
        return _strongest(Detections.cat([found, *parts]), self.policy.nms)

    def searched_side(self, height: int, width: int, max_tiles: int = 0) -> int:
        """Return the longest side in pixels at which `detect` searches a frame for its smallest faces."""
        grids = plan(height, width, self.policy.max_side, max_tiles)
        longest = max(height, width)
        return round(longest * grids[0].scale) if grids else min(longest, self.policy.max_side)

    def _search_reduced(self, frames: Tensor, threshold: float) -> Detections:
        """Search whole frames, reduced to the policy's longest side."""
        longest = max(frames.shape[2:])
        side = min(max(longest, self.policy.min_side), self.policy.max_side)
        area = frames.shape[2] * frames.shape[3] * (side / longest) ** 2
        batches = powers_of_two(len(frames), _batch(area, self.device))
        parts = [self._search(frames, rows, side, threshold) for rows in batches]
        return Detections.cat([Detections.empty(), *parts])

    def _search_tiles(self, frames: Tensor, row: int, grid: Grid, threshold: float) -> Detections:
        """Search the tiles of one frame."""
        longest = max(frames.shape[2:])
        pixels = _resized(frames[row : row + 1].to(self.device), max(1, round(longest * grid.scale)))
        tiles = grid.cut(pixels)
        found = self.look(tiles, threshold)
        merged = grid.merge(found, (pixels.shape[2], pixels.shape[3]))
        return Detections(merged.frame + row, merged.boxes, merged.landmarks, merged.scores)

    @torch.inference_mode()
    def look(self, pixels: Tensor, threshold: float) -> Detections:
        """Search (N, 3, h, w) uint8 pixels unscaled; returns faces on the CPU, by row and in it by falling score."""
        parts = [Detections.empty()]
        for rows, filled in _small_batches(len(pixels), pixels.shape[2] * pixels.shape[3], self.device):
            part = _filled(pixels[rows].to(self.device), filled)
            found = _strongest(self._look(part, part.shape, threshold), self.policy.nms)
            found = found[found.frame < rows.stop - rows.start]
            parts.append(Detections(found.frame + rows.start, found.boxes, found.landmarks, found.scores))
        return Detections.cat(parts)

    def _search(self, frames: Tensor, rows: slice, side: int, threshold: float) -> Detections:
        """Search some of the frames, scaled to a longest side, once or twice."""
        pixels = _resized(frames[rows].to(self.device), side)
        found = self._look(pixels, frames.shape, threshold)
        if side > self.policy.one_look_side:
            again = self._look(_resized(pixels, self.policy.second_look_side), frames.shape, threshold)
            limit = self.policy.large_face * max(frames.shape[2:]) / side
            # Each search is used for its sizes; between them both are, and the stronger box remains.
            found = Detections.cat([found[_sides(found) < limit], again[_sides(again) > limit / 2]])
        found = _strongest(found, self.policy.nms)
        return Detections(found.frame + rows.start, found.boxes, found.landmarks, found.scores)

    def _look(self, pixels: Tensor, source: torch.Size, threshold: float) -> Detections:
        """Return all candidates of scaled frames, in pixels of the source."""
        found = _candidates(self._model(pixels, SIZE_STEP), threshold)
        scale = torch.tensor([source[3] / pixels.shape[3], source[2] / pixels.shape[2]], device=self.device)
        return Detections(found.frame, found.boxes * scale.repeat(2), found.landmarks * scale, found.scores)

    @torch.inference_mode()
    def uprightness(self, crops: Tensor) -> Tensor:
        """Return the (N,) float32 logits, on the CPU, of aligned crops to show an upright face.

        Args:
            crops: (N, 3, 112, 112) uint8, aligned to ARCFACE_TEMPLATE; N may be 0.

        Returns:
            Infinity for all where the weights hold no such model.
        """
        if self._orientation is None or not len(crops):
            return torch.full((len(crops),), torch.inf)
        return torch.as_tensor(self._orientation(crops.to(self.device))).cpu()

    @torch.inference_mode()
    def confirm(self, crops: Tensor) -> Tensor:
        """Search aligned crops again: a face is detected in its own crop, in place; most false detections are not.

        Args:
            crops: (N, 3, 112, 112) uint8, aligned to ARCFACE_TEMPLATE; N may be 0.

        Returns:
            (N,) float32 on the CPU: the best score of a face that lies on the template, 0 where there is none.
        """
        side = crops.shape[-1] + 2 * CONFIRM_MARGIN
        batches = _small_batches(len(crops), side * side, self.device)
        parts = [self._confirm(crops[rows], filled) for rows, filled in batches]
        return torch.cat([torch.zeros(0), *parts])

    def _confirm(self, crops: Tensor, filled: int) -> Tensor:
        side = crops.shape[-1] + 2 * CONFIRM_MARGIN
        framed = torch.tensor(MEAN_RGB, device=self.device).to(crops.dtype).repeat(filled, side, side, 1)
        framed = framed.permute(0, 3, 1, 2)
        inside = slice(CONFIRM_MARGIN, -CONFIRM_MARGIN)
        framed[: len(crops), :, inside, inside] = crops.to(self.device)
        found = _candidates(self._model(framed), CONFIRM_THRESHOLD)
        apart = found.landmarks - (ARCFACE_TEMPLATE.to(self.device) + CONFIRM_MARGIN)
        scores = found.scores * (apart.square().sum(2).mean(1).sqrt() < CONFIRM_DISTANCE)
        of_crop = found.frame == torch.arange(len(crops), device=self.device)[:, None]
        return torch.cat((scores * of_crop, scores.new_zeros(len(crops), 1)), 1).amax(1).cpu()


def split_weights(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of RetinaFace and those of OrientationNet, none where a release has none."""
    orientation = {name.removeprefix(ORIENTATION): weights[name] for name in weights if name.startswith(ORIENTATION)}
    return {name: weights[name] for name in weights if not name.startswith(ORIENTATION)}, orientation


def _orientation(weights: Mapping[str, Tensor], device: torch.device) -> OrientationNet | None:
    if not weights:
        return None
    model = OrientationNet()
    load_into(model, weights, "orientation")
    return model.to(device).eval().requires_grad_(requires_grad=False)


def _sides(found: Detections) -> Tensor:
    return (found.boxes[:, 2:] - found.boxes[:, :2]).amin(1)


def _batch(pixels: float, device: torch.device) -> int:
    """Return the count of frames of a size in pixels that are searched at once: a power of two."""
    limit = CPU_BATCH_PIXELS if device.type == "cpu" else GPU_BATCH_PIXELS
    return 1 << max(0, int(limit / pixels).bit_length() - 1)


def _small_batches(count: int, pixels: int, device: torch.device) -> Iterator[tuple[slice, int]]:
    """Yield runs of patches that are searched at once, each with the count that it is padded to."""
    return filled_batches(count, _batch(pixels, device), SPARE_PIXELS // pixels)


def _filled(patches: Tensor, count: int) -> Tensor:
    """Pad with black patches up to a count."""
    return functional.pad(patches, (0, 0, 0, 0, 0, 0, 0, count - len(patches))) if count > len(patches) else patches


def _resized(frames: Tensor, longest: int) -> Tensor:
    """Scale (B, 3, H, W) uint8 frames to a longest side in pixels."""
    scale = longest / max(frames.shape[2:])
    if scale == 1:
        return frames
    size = [max(1, round(side * scale)) for side in frames.shape[2:]]
    pixels = frames if frames.device.type == "cpu" else frames.float()  # only the CPU resizes bytes
    return functional.interpolate(pixels, size=size, mode="bilinear", antialias=scale < 1)


def _candidates(raw: list[RawFaces], threshold: float) -> Detections:
    """Decode the anchors whose score passes the threshold."""
    logit = torch.logit(torch.tensor(threshold)).item()
    return Detections.cat([_decode(level, (level.logits > logit).nonzero()) for level in raw])


def _decode(level: RawFaces, at: Tensor) -> Detections:
    """Turn offsets of chosen anchors into pixels of the searched frame.

    Args:
        level: one stride's output.
        at: (K, 4) int64: batch, row, column, anchor.
    """
    batch, row, column, anchor = at.unbind(1)
    offsets = level.offsets[batch, row, column, anchor].float()
    scores = level.logits[batch, row, column, anchor].float().sigmoid()
    centre = (torch.stack((column, row), 1) + 0.5) * level.stride
    side = torch.tensor(level.sides, device=at.device)[anchor, None].float()
    middle = centre + offsets[:, :2] * VARIANCES[0] * side
    half = side / 2 * (offsets[:, 2:4] * VARIANCES[1]).exp()
    landmarks = centre[:, None] + offsets[:, 4:].reshape(-1, 5, 2) * VARIANCES[0] * side[:, None]
    return Detections(batch, torch.cat((middle - half, middle + half), 1), landmarks, scores)


def _strongest(found: Detections, overlap: float) -> Detections:
    """Keep the strongest of overlapping boxes, ordered by frame and falling score, on the CPU."""
    if len(found) > MAX_CANDIDATES:
        found = found[found.scores.topk(MAX_CANDIDATES).indices]
    kept = suppress(found.boxes, found.scores, found.frame, overlap).to(found.frame.device)
    return Detections(*(column[kept].cpu() for column in (found.frame, found.boxes, found.landmarks, found.scores)))
