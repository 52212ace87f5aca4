"""Fixtures of training: labels of people, without images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.data.face_sets import UtkFace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
