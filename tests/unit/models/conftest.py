"""The shipped release, loaded once, and an image with one face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.release import DEFAULT, load_release

if TYPE_CHECKING:
    from pathlib import Path

    from models.release import Release


@pytest.fixture(scope="session")
def release() -> Release:
    return load_release(device="cpu")


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """Return (1, 3, 512, 512) uint8: Eileen Collins, NASA, public domain."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].contiguous()


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run models built in this test in float32 on every device."""
    for module in ("detection.detector", "multi_task"):
        monkeypatch.setattr(f"models.{module}.compute_dtype", lambda _device: torch.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the shipped release that a test may damage."""
    for file in DEFAULT.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path
