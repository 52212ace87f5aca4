"""Training of trunks: they learn, interrupted runs go on exactly, impossible ones are refused."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.manifest import TRUNK_PART, TrainingRun, read_manifest
from models.release import DEFAULT, load_model
from models.trunks.registry import create_trunk, list_trunks
from training.data.face_sets import UNKNOWN, FaceSet, Pairs
from training.errors import RecipeError, TrainingError
from training.evaluate.verification import held_back_accuracy, validation_accuracy
from training.fit.augment import AugmentOptions
from training.releases.export import write_trunk
from training.trunk.faces import IdentityFaces, number_people, read_lfw_people
from training.trunk.held_out import Rows
from training.trunk.losses import ArcFaceHead, DistilHead, SoftmaxHead
from training.trunk.options import IdentityOptions
from training.trunk.run import IdentityRun, embed

NAME = "face24-w0.25-r32"
CALM = AugmentOptions(
    mirror=0, rotation_degrees=0, scale=0, shift=0, brightness=0, contrast=0, grey=0, coarse=0, erase=0
)
OPTIONS = IdentityOptions(steps=6, batch=14, learning_rate=0.05, checkpoint_every=2, augment=CALM, held_out=0)
JUDGED = replace(OPTIONS, held_out=5, batch=9, evaluate_every=2)
# The smallest member of each family of trunks.
SMALLEST = {
    "sface": "sface-w0.25-r32",
    "dlib29": "dlib29-w0.25-r113",
    "face24": NAME,
}


def faces(people=3, each=14, side=32):
    """Return crops of people who differ in colour."""
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(people), each)
    crops = random.integers(0, 60, (len(person), 3, side, side)).astype(np.uint8)
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


def log(folder, file="identity.csv"):
    return list(csv.DictReader((folder / file).read_text().splitlines()))


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
@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        JUDGED,
        replace(JUDGED, optimiser="adamw", learning_rate=1e-3, schedule="cosine"),
        replace(JUDGED, optimiser="adam", learning_rate=1e-3, start_deviation=0.01),
    ],
    ids=["sgd", "judged", "adamw", "adam"],
)
def test_an_interrupted_run_goes_on_exactly(tmp_path, options, stop):
    whole, first = run(tmp_path / "whole", options)
    run(tmp_path / "parts", options, until=stop)
    again, found = run(tmp_path / "parts", options)
    assert found.step == 6
    assert found.best == first.best
    for file in ["identity.csv"] + ["held_out.csv"] * bool(options.held_out):
        assert log(tmp_path / "parts", file) == log(tmp_path / "whole", file)
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


def test_some_faces_of_each_person_judge_and_are_never_learnt():
    person = np.repeat([0, 1, UNKNOWN, 2], [12, 4, 20, 10])
    found = Rows.of_people(person, IdentityOptions(held_out=5))
    assert np.bincount(person[found.held_out]).tolist() == [5, 0, 5]
    assert np.bincount(person[found.learnt]).tolist() == [7, 4, 5]
    assert not set(found.learnt) & set(found.held_out)
    other = Rows.of_people(person, IdentityOptions(held_out=5, seed=1))
    assert other.held_out.tolist() != found.held_out.tolist()


def test_a_share_of_the_faces_judges_a_student():
    found = Rows.of_faces(50, IdentityOptions(held_share=0.1))
    assert len(found.held_out) == 5
    assert sorted([*found.held_out, *found.learnt]) == list(range(50))


def test_the_log_has_the_accuracy_on_held_out_faces(tmp_path):
    measured = iter([0.5, 0.6, 0.7])
    found = IdentityRun(new_trunk(), faces(), tmp_path, JUDGED)
    found.run(verify=lambda trunk: next(measured))
    lines = log(tmp_path, "held_out.csv")
    assert [line["step"] for line in lines] == ["2", "4", "6"]
    assert [line["lfw"] for line in lines] == ["0.5000", "0.6000", "0.7000"]
    correct = [round(float(line["agreement"]) * 15) for line in lines]  # five faces of each of three people
    assert [float(line["agreement"]) for line in lines] == pytest.approx([n / 15 for n in correct], abs=1e-5)
    assert [float(line["best"]) for line in lines] == np.maximum.accumulate(
        [float(x["agreement"]) for x in lines]
    ).tolist()


def test_training_stops_when_the_held_out_score_rests_and_keeps_the_best_weights(tmp_path, monkeypatch):
    scores, seen = iter([0.3, 0.8, 0.7, 0.6, 0.9]), []

    def score(run):
        seen.append({key: value.clone() for key, value in run.trunk.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(IdentityRun, "_held_out_agreement", score)
    trunk, found = run(tmp_path, replace(JUDGED, steps=40, patience=2))
    assert (found.step, found.best.step, found.best.score) == (8, 4, 0.8)
    assert all(torch.equal(value, seen[1][key]) for key, value in trunk.state_dict().items())
    assert not torch.equal(trunk.layers["conv1"].norm.running_mean, seen[3]["layers.conv1.norm.running_mean"])
    again, resumed = run(tmp_path, replace(JUDGED, steps=40, patience=2))
    assert resumed.step == 8
    assert all(torch.equal(value, seen[1][key]) for key, value in again.state_dict().items())


def test_a_student_is_judged_by_its_cosine_to_the_teacher(tmp_path):
    teacher = np.eye(20, dtype=np.float32)[faces().person]
    options = replace(JUDGED, objective="distil", held_share=0.1, steps=20, evaluate_every=10)
    _, found = run(tmp_path, options, teacher=teacher)
    assert len(found.rows.held_out) == 4
    first, last = (float(line["agreement"]) for line in log(tmp_path, "held_out.csv"))
    assert -1 <= first < last <= 1


def test_a_cosine_rises_and_falls_to_nothing():
    options = IdentityOptions(steps=100, learning_rate=0.2, schedule="cosine")
    rates = [options.rate(step) for step in range(100)]
    assert rates[:6] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2, 0.2])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_start_from_a_normal_distribution_is_that_of_the_paper(tmp_path):
    trunk = new_trunk()
    IdentityRun(trunk, faces(), tmp_path, replace(OPTIONS, start_deviation=0.01))
    weights = torch.cat([p.detach().flatten() for name, p in trunk.named_parameters() if name.endswith("conv.weight")])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.02)
    assert float(weights.mean()) == pytest.approx(0, abs=2e-4)
    assert float(trunk.layers["fc"].bias.detach().abs().max()) == 0
    assert float(trunk.layers["conv1"].norm.weight.detach().min()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", list_trunks())
def test_every_trunk_learns_end_to_end_and_its_release_has_its_statistics(tmp_path, family):
    name = SMALLEST.get(family, family)
    torch.manual_seed(0)
    trunk = create_trunk(name)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    found = faces(each=3, side=trunk.layout.side)
    options = replace(OPTIONS, batch=4, steps=2, optimiser="adamw", learning_rate=1e-4)
    IdentityRun(trunk, found, tmp_path, options).run()
    moved = {key for key, value in trunk.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if key.endswith(("running_mean", "running_var"))}
    assert statistics <= moved
    assert {key for key, _ in trunk.named_parameters()} <= moved
    write_trunk(trunk, name, DEFAULT, tmp_path / "release")
    crops = torch.from_numpy(found.pixels(np.arange(5)))
    released = load_model(tmp_path / "release", device="cpu").infer(crops).embeddings.numpy()
    assert np.einsum("nd,nd->n", released, embed(trunk, crops.numpy())).min() > 0.999


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


def test_fold_8_of_lfw_judges_with_its_own_threshold():
    embeddings = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], dtype=np.float32)
    pairs = Pairs(
        left=np.array([0, 1, 1, 2, 0]),
        right=np.array([1, 2, 3, 3, 2]),
        same=np.array([False, True, True, False, True]),
        fold=np.array([0, 7, 7, 7, 7]),
    )
    asked = []

    def embed(rows):
        asked.append(rows.tolist())
        return embeddings[rows]

    # Similarities of fold 8: 0.6 and 0.96 of the same person, 0.8 of others, 0 of the same.
    found = validation_accuracy(embed, pairs)
    assert (found.value, found.count) == (0.75, 4)
    assert asked == [[0, 1, 2, 3]]


def test_a_trained_trunk_becomes_a_release(tmp_path):
    trunk, _ = run(tmp_path / "run")
    assert np.allclose(np.linalg.norm(embed(trunk, faces()), axis=1), 1, atol=1e-5)
    made = TrainingRun(
        recipe="arcface", start="random weights", learnt={"lfw": (TRUNK_PART,)}, seconds=7.5, device="cpu, 2 threads"
    )
    write_trunk(trunk, NAME, DEFAULT, tmp_path / "run", made)
    manifest = read_manifest(tmp_path / "run")
    assert (manifest.trunk, manifest.alignment.side, manifest.branches) == (NAME, 32, ())
    assert manifest.training == (made,)
    assert manifest.data["lfw"] == {
        "tasks": "trunk",
        "terms": "public research; press photos",
        "source": "Huang et al. 2007, 'Labeled Faces in the Wild'",
    }
    assert set(manifest.data) == {"widerface", "orientation", "lfw"}
