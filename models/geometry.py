"""From landmarks to aligned crops: the one aligner of analysis and training.

Coordinates are measured from the image's upper left corner, so a pixel's centre lies at + 0.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from models.sface import CROP_SIDE

ARCFACE_TEMPLATE = 0.5 + torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""(5, 2) float32: where the landmarks of a 112 x 112 crop come to lie. Source: ArcFace (insightface, MIT), where pixel
centres are whole numbers, hence the half pixel."""

_CHUNK = 32  # faces that are resampled together: 40 MB of source patches
_CELL = 8  # samples along one side that are enough to average one patch pixel
Matrix = list[list[float]]
"""A (2, 3) transform as plain numbers: cheaper than tensors for what is computed face by face."""

_SMALLEST_SPREAD = 1e-3  # pixels^2: landmarks closer together than this are one point, without scale or direction


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
    safe = spread.clamp(min=_SMALLEST_SPREAD)
    cosine = (source * target).sum((1, 2)) / safe
    sine = (source[..., 0] * target[:, 1] - source[..., 1] * target[:, 0]).sum(1) / safe
    point = spread < _SMALLEST_SPREAD
    cosine, sine = cosine.masked_fill(point, 1.0), sine.masked_fill(point, 0.0)
    turn = torch.stack((torch.stack((cosine, -sine), 1), torch.stack((sine, cosine), 1)), 1)
    shift = target_centre - (turn @ source_centre[..., None])[..., 0]
    return torch.cat((turn, shift[..., None]), 2).float()


def invert(transforms: Tensor) -> Tensor:
    """Turn (N, 2, 3) source-to-crop similarities into crop-to-source ones."""
    turn = torch.linalg.inv(transforms[:, :, :2].double())
    return torch.cat((turn, -turn @ transforms[:, :, 2:].double()), 2).float()


def align(
    frames: Tensor,
    frame_index: Tensor,
    landmarks: Tensor,
    template: Tensor = ARCFACE_TEMPLATE,
    size: int = CROP_SIDE,
) -> Tensor:
    """Cut faces out of frames so that their landmarks lie on the template.

    A face larger than the crop is averaged down first, so nothing aliases; what lies outside the frame is black. A
    face's crop does not depend on the other faces of the call.

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
    faces = list(zip(frame_index.tolist(), to_source.tolist(), strict=True))
    crops = [frames.new_zeros(0, 3, size, size)]
    for start in range(0, len(faces), _CHUNK):
        patches = [_patch(frames[frame], matrix, size) for frame, matrix in faces[start : start + _CHUNK]]
        to_patch = torch.tensor([matrix for _, matrix in patches], device=frames.device)
        crops.append(_resample(_stack([patch for patch, _ in patches], size), to_patch, size))
    return torch.cat(crops)


def _patch(frame: Tensor, to_source: Matrix, size: int) -> tuple[Tensor, Matrix]:
    """Copy a face's surroundings, averaged down by the whole part of the crop's reduction.

    Returns:
        The (3, h, w) float32 patch, which fits `_patch_side`, and the transform from crop to patch pixels.
    """
    (a, b, x), (c, d, y) = to_source
    factor = max(1, int(math.hypot(a, c)))
    stride = max(1, factor // _CELL)
    factor -= factor % stride
    # The crop's square, turned, and one more pixel on each side because bilinear sampling reads neighbours.
    left, right = (x + size * (f(a, 0.0) + f(b, 0.0)) for f in (min, max))
    top, bottom = (y + size * (f(c, 0.0) + f(d, 0.0)) for f in (min, max))
    first = (math.floor(left) - factor, math.floor(top) - factor)
    cells = (math.ceil((right - first[0]) / factor) + 1, math.ceil((bottom - first[1]) / factor) + 1)
    patch = _reduced(frame, first, cells, (stride, factor // stride))
    return patch, [[a / factor, b / factor, (x - first[0]) / factor], [c / factor, d / factor, (y - first[1]) / factor]]


def _reduced(frame: Tensor, first: tuple[int, int], cells: tuple[int, int], step: tuple[int, int]) -> Tensor:
    """Average square cells of a frame to one pixel each; outside the frame is 0.

    Args:
        frame: (3, H, W) uint8.
        first: x and y of the first cell's corner; may lie outside.
        cells: how many, along x and y.
        step: side in pixels of what is filtered to one sample at first, and how many samples a cell has along each
            side.
    """
    stride, samples = step
    (columns, *pad_x), (rows, *pad_y) = (
        _span(corner, count * samples, stride, limit)
        for corner, count, limit in zip(first, cells, (frame.shape[2], frame.shape[1]), strict=True)
    )
    patch = functional.pad(_filtered(frame[:, rows, columns], stride), [*pad_x, *pad_y])
    return functional.avg_pool2d(patch, samples) if samples > 1 else patch


def _filtered(part: Tensor, stride: int) -> Tensor:
    """Scale (3, h, w) bytes down by a whole number; bytes, because as floats a huge face would not fit the memory."""
    if stride == 1 or part.numel() == 0:
        return part.float()
    size = [side // stride for side in part.shape[1:]]
    pixels = part if part.device.type == "cpu" else part.float()  # only the CPU scales bytes
    return functional.interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0].float()


def _span(start: int, count: int, stride: int, limit: int) -> tuple[slice, int, int]:
    """Find which of `count` samples lie in 0..limit: their pixels, and how many are missing before and after them."""
    low = min(max(0, -(start // stride)), count)
    high = max(low, min(count, (limit - start) // stride))
    return slice(start + low * stride, start + high * stride), low, count - high


def _patch_side(size: int) -> int:
    """Return the side that holds every patch, at most twice the crop's scale and turned by 45 degrees."""
    return math.ceil(2 * math.sqrt(2) * size) + 4


def _stack(patches: list[Tensor], size: int) -> Tensor:
    """Lay patches into the corners of equal squares, so that a face is resampled alike in any company."""
    side = _patch_side(size)
    stack = patches[0].new_zeros(len(patches), 3, side, side)
    for row, patch in zip(stack, patches, strict=True):
        row[:, : patch.shape[1], : patch.shape[2]] = patch
    return stack


def _resample(patches: Tensor, to_patch: Tensor, size: int) -> Tensor:
    """Draw crops from (N, 3, P, P) patches; those that are still reduced take the mean of 2 x 2 samples a pixel."""
    crops = patches.new_empty(len(patches), 3, size, size, dtype=torch.uint8)
    reduced = to_patch[:, :, 0].norm(dim=1) > 1
    for samples, rows in ((1, ~reduced), (2, reduced)):
        if bool(rows.any()):
            at = (torch.arange(size * samples, device=patches.device) + 0.5) / samples
            y, x = torch.meshgrid(at, at, indexing="ij")
            places = torch.stack((x, y, torch.ones_like(x)), -1) @ to_patch[rows, None].mT
            grid = places * (2 / patches.shape[-1]) - 1
            drawn = functional.grid_sample(patches[rows], grid, align_corners=False)
            crops[rows] = functional.avg_pool2d(drawn, samples).round_().to(torch.uint8)
    return crops
