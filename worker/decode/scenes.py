"""Where one shot ends and the next begins, judged on thumbnails of the sampled frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMBNAIL = (32, 18)
"""Width and height in pixels: enough for layout and colours, too small for motion of a face to matter."""
CUT_DIFFERENCE = 30.0


class SceneJudge:
    """Compares each frame with the one before it."""

    def __init__(self) -> None:
        self._thumbnail: NDArray[np.float32] | None = None

    def is_cut(self, pixels: NDArray[np.uint8]) -> bool:
        """Tell whether a new shot begins with these (H, W, 3) pixels; False for the first frame."""
        thumbnail = cv2.resize(pixels, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._thumbnail = self._thumbnail, thumbnail
        if before is None:
            return False
        return bool(np.abs(thumbnail - before).mean() > CUT_DIFFERENCE)
