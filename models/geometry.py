"""From landmarks to aligned crops: the one aligner of analysis and training.

Coordinates are measured from the image's upper left corner, so a pixel's centre lies at + 0.5.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

ARCFACE_SIDE = 112  # pixels
# Places of the landmarks in a crop of 112 x 112 pixels. Source: ArcFace (insightface, MIT), plus 0.5 in each number,
# because pixel centres are whole numbers there.
ARCFACE_POINTS = (
    (38.7946, 52.1963),
    (74.0318, 52.0014),
    (56.5252, 72.2366),
    (42.0493, 92.8655),
    (71.2299, 92.7041),
)
ARCFACE_TEMPLATE = torch.tensor(ARCFACE_POINTS)  # (5, 2) float32

_CHUNK = 32  # faces that are drawn together: at most 40 MB of patches
_FINE = 1.25  # patch pixels to a crop pixel up to which one sample is enough
_PATCH_STEP = 64  # pixels between the sides that patches may have; the largest is 320, for a face turned by 45 degrees
Matrix = list[list[float]]  # a (2, 3) transform as plain numbers: cheaper than tensors, face by face

_MIN_SPREAD = 1e-3  # pixels^2: landmarks closer together than this are one point, without scale or direction


def similarity_transforms(landmarks: Tensor, template: Tensor) -> Tensor:
    """Fit the rotation, uniform scale and shift that bring landmarks closest to a template, in the least squares.

    Args:
        landmarks: (N, K, 2) float, source pixels.
        template: (K, 2) float, crop pixels.

    Returns:
        (N, 2, 3) float32: source to crop. Landmarks that are all one point are shifted only.

    Source: Umeyama (1991), which in two dimensions and without reflection has a closed form.
    """
    source = landmarks.double()
    target = template.to(source)
    source_centre, target_centre = source.mean(1), target.mean(0)
    source = source - source_centre[:, None]
    target = target - target_centre
    spread = source.square().sum((1, 2))
    safe = spread.clamp(min=_MIN_SPREAD)
    cosine = (source * target).sum((1, 2)) / safe
    sine = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(1) / safe
    point = spread < _MIN_SPREAD
    cosine, sine = cosine.masked_fill(point, 1.0), sine.masked_fill(point, 0.0)
    turn = torch.stack((torch.stack((cosine, -sine), 1), torch.stack((sine, cosine), 1)), 1)
    shift = target_centre - (turn @ source_centre[..., None])[..., 0]
    return torch.cat((turn, shift[..., None]), 2).float()


def invert(transforms: Tensor) -> Tensor:
    """Turn (N, 2, 3) source-to-crop similarities into crop-to-source ones."""
    turn = torch.linalg.inv(transforms[:, :, :2].double())
    return torch.cat((turn, -turn @ transforms[:, :, 2:].double()), 2).float()


@dataclass(frozen=True, slots=True)
class _Plan:
    """The source of one crop's pixels."""

    row: int
    """Of the crop."""
    frame: int
    factor: int
    """Whole number by which the surroundings are scaled down first; 1 where the face is smaller than the crop."""
    first: tuple[int, int]
    """x and y of the surroundings' corner in the frame; may lie outside."""
    cells: tuple[int, int]
    """Width and height of the surroundings once scaled down."""
    to_patch: Matrix
    """Crop to scaled-down surroundings."""
    smooth: bool
    """Whether a crop's pixel is the mean of four samples."""

    @property
    def side(self) -> int:
        """Side of the square patch that holds the surroundings: one of few values, so that many faces share a batch."""
        return -(-max(self.cells) // _PATCH_STEP) * _PATCH_STEP


def align(
    frames: Tensor,
    frame_index: Tensor,
    landmarks: Tensor,
    template: Tensor = ARCFACE_TEMPLATE,
    size: int = ARCFACE_SIDE,
) -> Tensor:
    """Cut faces out of frames so that their landmarks lie on the template.

    A face larger than the crop is scaled down first, so nothing aliases; pixels outside the frame are black. A face's
    crop does not depend on the other faces of the call.

    Args:
        frames: (B, 3, H, W) uint8.
        frame_index: (N,) int64, rows of `frames`.
        landmarks: (N, K, 2) float, pixels of those frames.
        template: (K, 2) float, crop pixels.
        size: side of the crop in pixels.

    Returns:
        (N, 3, size, size) uint8, on the device of the frames.
    """
    to_source = invert(similarity_transforms(landmarks, template))
    crops = frames.new_empty(len(landmarks), 3, size, size)
    groups: dict[tuple[bool, int], list[_Plan]] = defaultdict(list)
    for row, (frame, matrix) in enumerate(zip(frame_index.tolist(), to_source.tolist(), strict=True)):
        plan = _plan(row, frame, matrix, size)
        groups[plan.smooth, plan.side].append(plan)
    for plans in groups.values():
        for start in range(0, len(plans), _CHUNK):
            chunk = plans[start : start + _CHUNK]
            crops[[plan.row for plan in chunk]] = _draw(frames, chunk, size)
    return crops


def _plan(row: int, frame: int, to_source: Matrix, size: int) -> _Plan:
    (a, b, x), (c, d, y) = to_source
    scale = math.hypot(a, c)  # source pixels along the side of a crop's pixel
    factor = max(1, int(scale))
    # The crop's square, turned, and one more pixel on each side because bilinear sampling reads neighbours.
    left, right = (x + size * (f(a, 0.0) + f(b, 0.0)) for f in (min, max))
    top, bottom = (y + size * (f(c, 0.0) + f(d, 0.0)) for f in (min, max))
    first = (math.floor(left) - factor, math.floor(top) - factor)
    cells = (math.ceil((right - first[0]) / factor) + 1, math.ceil((bottom - first[1]) / factor) + 1)
    to_patch = [[a / factor, b / factor, (x - first[0]) / factor], [c / factor, d / factor, (y - first[1]) / factor]]
    return _Plan(row, frame, factor, first, cells, to_patch, scale > _FINE * factor)


def _draw(frames: Tensor, plans: list[_Plan], size: int) -> Tensor:
    """Draw the crops of plans of equal smoothness and side: (len(plans), 3, size, size) uint8."""
    side = plans[0].side
    patches = torch.zeros(len(plans), 3, side, side, device=frames.device)
    for patch, plan in zip(patches, plans, strict=True):
        _fill(patch, frames[plan.frame], plan)
    to_patch = torch.tensor([plan.to_patch for plan in plans], device=frames.device) * (2 / side)
    across, down, shift = (column[..., None, None] for column in to_patch.unbind(2))  # each (N, 2, 1, 1)
    centres = torch.arange(size, device=frames.device) + 0.5
    offsets = [(x, y) for x in (-0.25, 0.25) for y in (-0.25, 0.25)] if plans[0].smooth else [(0.0, 0.0)]
    drawn = torch.zeros(len(plans), 3, size, size, device=frames.device)
    for x, y in offsets:
        places = across * (centres + x) + (down * (centres + y)[:, None] + (shift - 1))
        drawn += functional.grid_sample(patches, places.permute(0, 2, 3, 1), align_corners=False)
    return drawn.div_(len(offsets)).round_().to(torch.uint8)


def _fill(patch: Tensor, frame: Tensor, plan: _Plan) -> None:
    """Copy a face's surroundings out of a (3, H, W) frame into a black patch, scaled down; outside it stays black."""
    spans = zip(plan.first, plan.cells, (frame.shape[2], frame.shape[1]), strict=True)
    (source_x, target_x), (source_y, target_y) = (_span(*values, plan.factor) for values in spans)
    part = frame[:, source_y, source_x]
    if part.numel() == 0:
        return
    if plan.factor > 1:
        # Bytes are scaled as bytes: as floats, a face of 10,000 pixels would not fit the memory. Only a CPU can.
        pixels = part if part.device.type == "cpu" else part.float()
        cells = [length // plan.factor for length in part.shape[1:]]
        part = functional.interpolate(pixels[None], size=cells, mode="bilinear", antialias=True)[0]
    patch[:, target_y, target_x] = part


def _span(first: int, count: int, limit: int, factor: int) -> tuple[slice, slice]:
    """Return pixels and places of those of `count` cells from `first` that lie wholly in 0..limit."""
    low = min(max(0, -(first // factor)), count)
    high = max(low, min(count, (limit - first) // factor))
    return slice(first + low * factor, first + high * factor), slice(low, high)
