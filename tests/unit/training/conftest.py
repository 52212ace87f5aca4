"""Fixtures of training: labels of people without images, and a detector for drawn faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models.types import Detections
from training.data.face_sets import UtkFace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OneFaceDetector:
    """Finds a face in the middle of every frame."""

    policy = "one face"

    def detect(self, frames):
        count, _, height, width = frames.shape
        size = torch.tensor([width, height], dtype=torch.float32)
        points = torch.tensor([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.38, 0.78], [0.62, 0.78]])
        boxes = torch.cat((size * 0.2, size * 0.8)).repeat(count, 1)
        return Detections(torch.arange(count), boxes, (points * size).repeat(count, 1, 1), torch.full((count,), 0.9))


@pytest.fixture(scope="session")
def random_people(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., UtkFace]:
    """Return a function that makes training and validation rows of UTKFace with random labels."""
    root: Path = tmp_path_factory.mktemp("utkface")

    def make(*, train: int, val: int) -> UtkFace:
        random, count = np.random.default_rng(0), train + val
        return UtkFace(
            name="utkface",
            root=root,
            files=np.array([f"{number}.jpg" for number in range(count)]),
            split=np.array(["train"] * train + ["val"] * val),
            age=random.integers(0, 90, count),
            gender=random.integers(0, 2, count),
            ethnicity=random.integers(0, 5, count),
        )

    return make
