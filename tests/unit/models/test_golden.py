"""The models agree with OpenCV's cv2.dnn on the same weights; golden.npz holds its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.detection.detector import split_weights
from models.detection.retinaface import RetinaFace
from models.manifest import DETECTOR_FILE, TRUNK_FILE
from models.release import DEFAULT
from models.trunks.sface import SFace
from models.weights import load_into, read_weights

GOLDEN = Path(__file__).with_name("golden.npz")


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def pattern() -> torch.Tensor:
    y, x = np.mgrid[:112, :112]
    planes = [(x * 7 + y * 13 + c * 29 + x * y // 5) % 256 for c in range(3)]
    return torch.from_numpy(np.stack(planes).astype(np.uint8))


def trunk() -> SFace:
    network = SFace()
    load_into(network, read_weights(DEFAULT / TRUNK_FILE), "trunk")
    return network.eval()


@torch.no_grad()
def test_the_trunk_returns_the_golden_embeddings(golden, photo):
    crops = torch.stack((pattern(), photo[0, :, 56:168, 170:282]))
    found = trunk()(crops)
    assert (found - golden["embeddings"]).abs().max() < 0.0005


@torch.no_grad()
def test_tuning_held_the_published_embedding_of_a_face(golden, photo):
    (found,) = trunk()(photo[:, :, 56:168, 170:282])
    assert found @ golden["published"][1] > 0.98


@torch.no_grad()
def test_trunk_in_bfloat16_stays_close(golden, photo):
    network = trunk().to(torch.bfloat16)
    crops = torch.stack((pattern(), photo[0, :, 56:168, 170:282]))
    assert ((network(crops) * golden["embeddings"]).sum(1) > 0.999).all()


@torch.no_grad()
def test_the_detector_returns_the_published_scores_and_offsets(golden, photo):
    network = RetinaFace()
    load_into(network, split_weights(read_weights(DEFAULT / DETECTOR_FILE))[0], "detector")
    raw = network.eval()(photo[:, :, 32:192, 144:304])
    scores = torch.cat([level.logits.reshape(-1) for level in raw]).sigmoid()
    offsets = torch.cat([level.offsets.reshape(-1, 14) for level in raw])
    assert (scores[golden["anchors"]] - golden["scores"]).abs().max() < 1e-4
    assert (offsets[golden["anchors"]] - golden["offsets"]).abs().max() < 1e-3
