"""Boxes as shares of an image, in the frame that is shown and in the frame that is stored.

The regions of the Metadata Working Group apply to the stored image: a reader that turns it by its EXIF orientation
turns them, too (Guidelines for Handling Image Metadata 2.0, section 5.9). Faces of the archive lie in the frame that is
shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_OVERLAP = 0.3  # intersection over union of two boxes of one face, as of the anchors of corrections
# Other programs draw squares around the whole head: a region that holds most of a face, and is not much larger, is its.
MIN_INSIDE, MAX_TIMES_LARGER = 0.7, 8.0


@dataclass(frozen=True, slots=True)
class RegionBox:
    """A box in shares of an image's width and height."""

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Share of the image."""
        return self.width * self.height


def exchanges_sides(orientation: int) -> bool:
    """Return whether width and height are exchanged between the stored and the shown frame."""
    return orientation >= 5


def to_shown(box: RegionBox, orientation: int) -> RegionBox:
    """Return a box of the stored frame in the shown frame of an EXIF orientation."""
    if exchanges_sides(orientation):
        box = _transposed(box)
    return _flipped(box, orientation)


def to_stored(box: RegionBox, orientation: int) -> RegionBox:
    """Return a box of the shown frame in the stored frame of an EXIF orientation."""
    box = _flipped(box, orientation)
    return _transposed(box) if exchanges_sides(orientation) else box


def _transposed(box: RegionBox) -> RegionBox:
    return RegionBox(box.top, box.left, box.height, box.width)


def _flipped(box: RegionBox, orientation: int) -> RegionBox:
    left = 1 - box.left - box.width if orientation in {2, 3, 6, 7} else box.left
    top = 1 - box.top - box.height if orientation in {3, 4, 7, 8} else box.top
    return RegionBox(left, top, box.width, box.height)


def overlap(one: RegionBox, other: RegionBox) -> float:
    """Return intersection over union."""
    shared = _shared(one, other)
    union = one.area + other.area - shared
    return shared / union if union > 0 else 0.0


def match_boxes(regions: Sequence[RegionBox], faces: Sequence[RegionBox]) -> dict[int, int]:
    """Return the face of each region that has one, by their places in the sequences.

    A region and a face that overlap are one, the largest overlaps first. Of the others, a region holds a face if no
    other region holds it, and it holds no other face.
    """
    overlaps = [(overlap(box, face), r, f) for r, box in enumerate(regions) for f, face in enumerate(faces)]
    matched: dict[int, int] = {}
    for shared, region, face in sorted(overlaps, key=lambda one: (-one[0], one[1:])):
        if shared >= MIN_OVERLAP and region not in matched and face not in matched.values():
            matched[region] = face
    left = [
        (r, f)
        for r, box in enumerate(regions)
        for f, face in enumerate(faces)
        if r not in matched and f not in matched.values() and _holds(box, face)
    ]
    holders, held = Counter(r for r, _ in left), Counter(f for _, f in left)
    return matched | {r: f for r, f in left if holders[r] == held[f] == 1}


def _holds(region: RegionBox, face: RegionBox) -> bool:
    is_inside = _shared(region, face) >= MIN_INSIDE * face.area
    return is_inside and 0 < region.area <= MAX_TIMES_LARGER * face.area


def _shared(one: RegionBox, other: RegionBox) -> float:
    wide = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    high = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(wide, 0.0) * max(high, 0.0)
