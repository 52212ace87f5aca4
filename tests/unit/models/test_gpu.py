"""A GPU finds the faces of the CPU, with the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.detection.finding import Search
from models.release import load_release

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def on_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return load_release(device="cuda")


@pytest.fixture(scope="module")
def crops(release, photo):
    """Return 120 crops of one face, each of another sharpness and brightness."""
    crop = release.align(photo, release.detector.detect(photo)).float()
    softened = [functional.avg_pool2d(crop, 2 * n + 1, 1, n) for n in range(4)]
    return torch.cat([(s * (0.4 + 0.02 * n)).clamp(0, 255) for s in softened for n in range(30)]).to(torch.uint8)


@pytest.mark.parametrize("count", [0, 1, 5, 32, 33, 120])
def test_recorded_batches_of_every_size_agree_with_the_cpu(release, on_gpu, crops, count):
    found, expected = on_gpu.infer(crops[:count]), release.infer(crops[:count])
    assert found.embeddings.shape == expected.embeddings.shape
    assert ((found.embeddings * expected.embeddings).sum(1) > 0.995).all()
    for task, head in expected.heads.items():
        apart = (found.heads[task].probabilities - head.probabilities).abs()
        assert apart.numel() == 0 or apart.max() < 0.08, task


def test_a_recording_is_played_again_with_other_faces(release, on_gpu, crops):
    first, second = on_gpu.infer(crops[:4]), on_gpu.infer(crops[-4:])
    again = on_gpu.infer(crops[:4])
    assert torch.equal(first.embeddings, again.embeddings)
    assert not torch.equal(first.embeddings, second.embeddings)


@pytest.mark.parametrize("side", [96, 512, 1100, 2300])
def test_the_same_faces_are_found(release, on_gpu, photo, side):
    frames = functional.interpolate(photo, size=(side, side), mode="bilinear").repeat(3, 1, 1, 1)
    found, expected = on_gpu.detector.detect(frames), release.detector.detect(frames)
    assert found.frame.tolist() == expected.frame.tolist()
    assert (found.boxes - expected.boxes).abs().max() < 0.02 * side
    assert (found.landmarks - expected.landmarks).abs().max() < 0.01 * side
    assert (found.scores - expected.scores).abs().max() < 0.05


def test_crops_and_their_quality_are_the_same(release, on_gpu, photo):
    faces = release.detector.detect(photo)
    expected, found = release.align(photo, faces), on_gpu.align(photo.cuda(), faces)
    assert (found.cpu().int() - expected.int()).abs().max() <= 2
    ours, theirs = (r.quality(faces, c, (512, 512)) for r, c in ((on_gpu, found), (release, expected)))
    assert ours.dropped == theirs.dropped
    assert (ours.scores.cpu() - theirs.scores).abs().max() < 0.05


@pytest.mark.parametrize("quarters", [0, 1, 2])
def test_turned_faces_and_tiles_are_the_same(release, on_gpu, photo, quarters):
    frames = functional.pad(torch.rot90(photo, quarters, (2, 3)), (0, 1400, 0, 0), value=90).contiguous()
    search = Search(thorough=True, max_tiles=64)
    found, expected = on_gpu.find(frames.cuda(), search), release.find(frames, search)
    assert found.quality.dropped == expected.quality.dropped
    assert (found.detections.boxes - expected.detections.boxes).abs().max() < 10
    assert (found.detections.landmarks - expected.detections.landmarks).abs().max() < 5
