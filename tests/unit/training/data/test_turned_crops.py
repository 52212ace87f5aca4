"""Crops of turned images: their labels, where they come from, and that they are cut once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from models.geometry import ARCFACE_TEMPLATE
from models.release import load_release
from models.types import Detections
from training.data.face_sets import UNKNOWN, FaceSet
from training.data.turned_crops import (
    PATCH_SIDE,
    TurnedCrops,
    cut_face,
    cut_turned,
    draw_faces,
    enlarge,
    label_crops,
)
from training.errors import RecipeError


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread: on a busy machine, small steps cost ten times as much on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def turned(points, degrees, scale=1.0, shift=(0.0, 0.0)):
    """Turn landmarks around their middle."""
    angle = torch.tensor(degrees).deg2rad()
    matrix = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).reshape(2, 2) * scale
    middle = points.mean(0)
    return (points - middle) @ matrix.T + middle + torch.tensor(shift)


@pytest.mark.parametrize("of_image", [0.0, 77.0, 180.0])
def test_labels_follow_the_true_landmarks(of_image):
    """The true face may stand at any angle: what counts is how the found landmarks lie against it."""
    true = turned(ARCFACE_TEMPLATE * 3 + 40, of_image)
    cases = {
        (0.0, 1.0, (0.0, 0.0)): 1,
        (10.0, 1.0, (0.0, 0.0)): 1,
        (18.0, 1.0, (0.0, 0.0)): UNKNOWN,
        (30.0, 1.0, (0.0, 0.0)): 0,
        (-90.0, 1.0, (0.0, 0.0)): 0,
        (180.0, 1.0, (0.0, 0.0)): 0,
        (0.0, 1.0, (45.0, 0.0)): UNKNOWN,
        (0.0, 1.0, (90.0, 0.0)): 0,
        (0.0, 0.4, (0.0, 0.0)): 0,
    }
    found = torch.stack([turned(true, *case) for case in cases])
    assert label_crops(true, found).tolist() == list(cases.values())
    assert label_crops(true, found[:0]).shape == (0,)


class UprightBelief:
    """A detector that takes every face for the upright one in the middle of the frame, as ours often does."""

    policy = "believes"

    def detect(self, frames):
        side = frames.shape[-1]
        landmarks = (ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)) * (side / 400) + side / 2
        low, high = landmarks.amin(0), landmarks.amax(0)
        return Detections(
            torch.zeros(1, dtype=torch.int64), torch.cat((low, high))[None], landmarks[None], torch.ones(1)
        )

    def confirm(self, crops):
        return torch.ones(len(crops))


def angles_of(monkeypatch):
    """Note the angles by which images are turned."""
    noted, make = [], cv2.getRotationMatrix2D

    def noting(centre, degrees, zoom):
        noted.append(abs(degrees))
        return make(centre, degrees, zoom)

    monkeypatch.setattr(cv2, "getRotationMatrix2D", noting)
    return noted


def test_a_believer_is_right_in_upright_images_and_wrong_in_turned_ones(monkeypatch):
    angles = angles_of(monkeypatch)
    image = np.full((31, 43, 3), 90, dtype=np.uint8)
    parts = [cut_face(image, UprightBelief(), 5, np.random.default_rng(seed)) for seed in range(12)]
    found = TurnedCrops.cat(parts)
    assert found.patches.shape == (12, PATCH_SIDE, PATCH_SIDE)
    assert found.crops.shape[1:] == (56, 56)
    small = sum(degrees < 5 for degrees in angles)
    assert 0 < small <= int(found.upright.sum()) <= sum(degrees < 13 for degrees in angles)  # the zoom decides as well
    assert int((~found.upright).sum()) == sum(degrees > 25 for degrees in angles)


class Nothing(UprightBelief):
    def detect(self, frames):
        return Detections.empty()


class Unsure(UprightBelief):
    def confirm(self, crops):
        return torch.full((len(crops),), 0.79)


class Leaning(UprightBelief):
    def detect(self, frames):
        found = super().detect(frames)
        return Detections(found.frame, found.boxes, turned(found.landmarks[0], 26.0)[None], found.scores)


class Aside(UprightBelief):
    def detect(self, frames):
        found, away = super().detect(frames), frames.shape[-1] * 0.21
        return Detections(found.frame, found.boxes + away, found.landmarks + away, found.scores)


@pytest.mark.parametrize("kind", [Nothing, Unsure, Leaning, Aside])
def test_faces_whose_place_is_not_sure_are_left_out(kind):
    found = cut_face(np.full((31, 43, 3), 90, dtype=np.uint8), kind(), 2, np.random.default_rng(0))
    assert (len(found.patches), len(found.crops), len(found.upright)) == (0, 0, 0)


def test_images_are_enlarged_and_padded_to_squares():
    image = np.zeros((64, 128, 3), dtype=np.uint8)
    image[:, :64] = (200, 100, 50)
    for seed in range(6):
        frame = enlarge(image, cv2.BORDER_CONSTANT, np.random.default_rng(seed))
        side = frame.shape[-1]
        assert frame.shape == (1, 3, side, side)
        assert 1.2 * 128 * 1.69 < side < 3.2 * 128 * 1.71
        assert frame[0, :, side // 2, side // 2 - side // 8].tolist() == [200, 100, 50]
        assert len(set(frame[0, :, 0, 0].tolist())) == 1


@pytest.fixture(scope="module")
def detector():
    return load_release(device="cpu", heads=frozenset(), identity=False).detector


def test_labels_of_a_real_face_agree_with_the_shipped_network(detector):
    """Eileen Collins, NASA, public domain: no face that the network was trained on."""
    photo = pytest.importorskip("skimage.data").astronaut()[0:256, 100:356]
    image = cv2.resize(np.ascontiguousarray(photo), (128, 128), interpolation=cv2.INTER_AREA)
    found = TurnedCrops.cat(cut_face(image, detector, 3, np.random.default_rng(seed)) for seed in range(3))
    assert len(found.patches) == 3
    assert 4 <= len(found.crops) <= 12
    crops = torch.from_numpy(found.crops)[:, None].expand(-1, 3, -1, -1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    logits = detector.uprightness(crops)
    assert ((logits > 0) == torch.from_numpy(found.upright)).float().mean() >= 0.9
    assert set(found.upright.tolist()) == {True, False}
    middle = torch.from_numpy(found.patches)[:, None, 48:112, 48:112].float()
    upright = torch.nn.functional.interpolate(middle, size=112, mode="bilinear").expand(-1, 3, -1, -1).byte()
    assert (detector.uprightness(upright) > 0).all()


def write_lfw(root, splits):
    (root / "lfw").mkdir(parents=True)
    lines = [f"{person},{images},{split}" for person, (images, split) in splits.items()]
    (root / "lfw" / "persons_split.csv").write_text("\n".join(["person,images,split", *lines, ""]))


def test_people_of_other_splits_take_no_part(tmp_path):
    write_lfw(tmp_path, {"A_B": (3, "train"), "C_D": (50, "test"), "E_F": (4, "val")})
    (faces,) = draw_faces(tmp_path, ["lfw"], "train", 100, seed=0)
    assert faces.files.tolist() == [f"images/A_B/A_B_000{n}.jpg" for n in (1, 2, 3)]
    (faces,) = draw_faces(tmp_path, ["lfw"], "val", 100, seed=0)
    assert {file.split("/")[1] for file in faces.files.tolist()} == {"E_F"}


def test_sets_share_the_count_and_the_seed_decides(tmp_path):
    write_lfw(tmp_path, {f"P_{n}": (5, "train") for n in range(8)})
    (tmp_path / "celeba10k").mkdir()
    rows = [f"{n}.jpg,{n % 4},train,0,1" for n in range(80)]
    (tmp_path / "celeba10k" / "attributes.csv").write_text(
        "\n".join(["file,identity,split,official_partition,Bald", *rows, ""])
    )
    drawn = draw_faces(tmp_path, ["celeba10k", "lfw"], "train", 30, seed=3)
    assert [faces.name for faces in drawn] == ["celeba10k", "lfw"]
    assert sum(map(len, drawn)) == 30
    assert min(map(len, drawn)) > 3
    assert all(len(set(faces.files.tolist())) == len(faces) for faces in drawn)
    again = draw_faces(tmp_path, ["celeba10k", "lfw"], "train", 30, seed=3)
    other = draw_faces(tmp_path, ["celeba10k", "lfw"], "train", 30, seed=4)
    assert [faces.files.tolist() for faces in drawn] == [faces.files.tolist() for faces in again]
    assert [faces.files.tolist() for faces in drawn] != [faces.files.tolist() for faces in other]


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="known are celeba10k, lfw, utkface"):
        draw_faces(tmp_path, ["fer2013"], "train", 1, seed=0)


def test_a_set_is_cut_once(tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((31, 43, 3), 90, dtype=np.uint8))
    faces = FaceSet(name="lfw", root=tmp_path, files=np.array(["a.png", "a.png"]), split=np.array(["train"] * 2))
    found = cut_turned(faces, UprightBelief(), tmp_path / "cache")
    assert (len(found.patches), len(found.crops)) == (2, len(found.upright))
    (tmp_path / "a.png").unlink()
    again = cut_turned(faces, UprightBelief(), tmp_path / "cache")
    for column in ("patches", "crops", "upright"):
        assert np.array_equal(getattr(found, column), getattr(again, column))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_crops_without_a_label_are_refused():
    with pytest.raises(ValueError, match="3 crops and 2 labels"):
        TurnedCrops(np.zeros((1, 160, 160)), np.zeros((3, 56, 56)), np.zeros(2, dtype=np.bool_))
