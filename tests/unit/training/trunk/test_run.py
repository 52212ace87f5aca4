"""Training of trunks: they learn, interrupted runs go on exactly, impossible ones are refused."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.manifest import read_manifest
from models.release import DEFAULT
from models.trunks.registry import create_trunk
from training.data.face_sets import UNKNOWN, FaceSet, Pairs
from training.errors import RecipeError, TrainingError
from training.evaluate.verification import held_back_accuracy
from training.fit.augment import AugmentOptions
from training.trunk.faces import IdentityFaces, number_people, read_lfw_people
from training.trunk.losses import ArcFaceHead, DistilHead, SoftmaxHead
from training.trunk.run import IdentityOptions, IdentityRun, embed, write_trunk

NAME = "face24-w0.25-r32"
CALM = AugmentOptions(
    mirror=0, rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0, grey=0, coarse=0, erase=0
)
OPTIONS = IdentityOptions(steps=6, batch=14, learning_rate=0.05, checkpoint_every=2, augment=CALM)


def faces(people=3, each=14):
    """Return crops of people who differ in colour."""
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(people), each)
    crops = random.integers(0, 60, (len(person), 3, 32, 32)).astype(np.uint8)
    crops[np.arange(len(person)), person] += 150
    return IdentityFaces((crops[:10], crops[10:]), person)


def new_trunk(seed=0):
    torch.manual_seed(seed)
    return create_trunk(NAME)


def run(folder, options=OPTIONS, until=None, teacher=None):
    trunk = new_trunk()
    found = IdentityRun(trunk, faces(), folder, options, teacher)
    found.run(until)
    return trunk, found


def log(folder):
    return list(csv.DictReader((folder / "identity.csv").read_text().splitlines()))


@pytest.mark.parametrize("objective", ["softmax", "arcface"])
def test_people_are_recognised(tmp_path, objective):
    run(tmp_path, replace(OPTIONS, objective=objective, steps=40))
    lines = log(tmp_path)
    assert float(lines[-1]["agreement"]) > 0.9
    assert float(lines[-1]["loss"]) < float(lines[0]["loss"])


def test_a_student_follows_the_embeddings_of_its_teacher(tmp_path):
    teacher = np.eye(20, dtype=np.float32)[faces().person]
    run(tmp_path, replace(OPTIONS, objective="distil", steps=25), teacher=teacher)
    assert float(log(tmp_path)[-1]["agreement"]) > 0.9


@pytest.mark.parametrize("stop", [2, 3])
def test_an_interrupted_run_goes_on_exactly(tmp_path, stop):
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "parts", until=stop)
    again, found = run(tmp_path / "parts")
    assert found.step == 6
    assert log(tmp_path / "parts") == log(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_steps_after_the_last_checkpoint_are_taken_again(tmp_path):
    run(tmp_path, until=4)
    with (tmp_path / "identity.csv").open("a") as stream:
        stream.write("5,9.0,0.0,0.05\n")
    run(tmp_path)
    assert [line["step"] for line in log(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


def test_every_face_is_seen_once_an_epoch(tmp_path):
    found = IdentityRun(new_trunk(), faces(), tmp_path, OPTIONS)
    assert sorted(np.concatenate([found.rows_of(step) for step in range(3)]).tolist()) == list(range(42))
    assert found.rows_of(0).tolist() != found.rows_of(3).tolist()


def test_the_rate_falls_as_in_the_paper():
    options = IdentityOptions()
    assert [options.rate(step) for step in (0, 9_999, 10_000, 20_000)] == [0.1, 0.1, 0.025, 0.00625]
    assert (options.batch, options.momentum) == (400, 0.9)


@pytest.mark.parametrize(
    ("options", "teacher", "message"),
    [
        (replace(OPTIONS, objective="distil"), None, "needs a teacher"),
        (OPTIONS, np.eye(42, dtype=np.float32), "needs a teacher"),
        (replace(OPTIONS, batch=43), None, "smaller batches"),
    ],
)
def test_impossible_runs_are_refused(tmp_path, options, teacher, message):
    with pytest.raises(RecipeError, match=message):
        IdentityRun(new_trunk(), faces(), tmp_path, options, teacher)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(tmp_path, until=2)
    with pytest.raises(TrainingError, match="another run"):
        IdentityRun(new_trunk(), faces(), tmp_path, replace(OPTIONS, learning_rate=0.01))


def test_people_with_too_few_images_or_without_a_name_are_not_numbered():
    assert number_people(np.array(["b", "a", "", "b", "", "c", "c"]), 2).tolist() == [
        0,
        UNKNOWN,
        UNKNOWN,
        0,
        UNKNOWN,
        1,
        1,
    ]


def test_lfws_training_people_come_with_all_their_images(tmp_path):
    (tmp_path / "lfw").mkdir()
    (tmp_path / "lfw" / "persons_split.csv").write_text("person,images,split\nA_B,2,train\nC_D,1,test\n")
    found = read_lfw_people(tmp_path)
    assert found.faces.files.tolist() == ["images/A_B/A_B_0001.jpg", "images/A_B/A_B_0002.jpg"]
    assert isinstance(found.faces, FaceSet)


def test_the_margin_makes_the_same_embedding_cost_more():
    torch.manual_seed(0)
    raw, wanted = torch.randn(5, 7), torch.tensor([0, 1, 2, 0, 1])
    strict, plain = ArcFaceHead(7, 3, scale=16), ArcFaceHead(7, 3, margin=0.0, scale=16)
    plain.load_state_dict(strict.state_dict())
    assert strict(raw, wanted).loss > plain(raw, wanted).loss
    assert strict(raw, wanted).agreement == plain(raw, wanted).agreement
    opposite = ArcFaceHead(3, 2)
    with torch.no_grad():
        opposite.weight.copy_(torch.eye(2, 3))
    worst, bad = (opposite(torch.tensor([[-1.0, 0, y]]), torch.tensor([0])).loss for y in (0.01, 0.5))
    assert worst > bad


def test_heads_measure_the_share_that_they_recognise():
    head = SoftmaxHead(2, 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(2))
        head.linear.bias.zero_()
    found = head(torch.tensor([[3.0, 0], [3, 0], [0, 3]]), torch.tensor([0, 1, 1]))
    assert found.agreement == pytest.approx(2 / 3)
    same = torch.nn.functional.normalize(torch.randn(4, 7))
    assert float(DistilHead(7, 7)(same * 5, same).loss) == pytest.approx(0, abs=1e-6)


def test_held_back_people_are_judged_with_the_threshold_of_fold_8():
    embeddings = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    pairs = Pairs(
        left=np.array([0, 0, 0, 0]),
        right=np.array([1, 2, 1, 2]),
        same=np.array([True, False, True, True]),
        fold=np.array([7, 7, 8, 9]),
    )
    found = held_back_accuracy(embeddings, pairs)
    assert (found.value, found.count) == (0.5, 2)


def test_a_trained_trunk_becomes_a_release(tmp_path):
    trunk, _ = run(tmp_path / "run")
    assert np.allclose(np.linalg.norm(embed(trunk, faces()), axis=1), 1, atol=1e-5)
    write_trunk(trunk, NAME, DEFAULT, tmp_path / "run")
    manifest = read_manifest(tmp_path / "run")
    assert (manifest.trunk, manifest.alignment.side, manifest.branches) == (NAME, 32, ())
