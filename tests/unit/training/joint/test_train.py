"""A joint recipe is trained on crops as its trunk takes them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from models.trunks.registry import create_trunk
from models.trunks.sface import SFACE
from tests.unit.training.conftest import OneFaceDetector
from training.joint.train import face_views
from training.train import TrainingContext

HEADER = "file,age,gender,race,split,sha256_16,dhash,source_name,dup\n"
COUNT = 3


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "utkface" / "images"
    folder.mkdir(parents=True)
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
    rows = "".join(f"{number}.png,30,0,0,train,,,,\n" for number in range(COUNT))
    (folder.parent / "labels.csv").write_text(HEADER + rows)
    return tmp_path


@pytest.mark.parametrize("name", ["sface", "sface-w0.25-r32", "dlib29"])
def test_crops_are_cut_as_the_trunk_takes_them(data, tmp_path, name):
    trunk = create_trunk(name)
    context = TrainingContext(trunk, OneFaceDetector(), data, tmp_path / "cache", tmp_path)
    (pixels,) = face_views("utkface", [context]).pixels
    assert pixels.shape == (COUNT, 3, trunk.layout.side, trunk.layout.side)
    if trunk.layout != SFACE:
        trunk.forward_intermediates(torch.from_numpy(np.array(pixels)), trunk.layout.depths)
