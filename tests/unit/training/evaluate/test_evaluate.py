"""Evaluation of made outputs, and of a made release on a folder of made images."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from models.geometry import align
from models.manifest import Manifest
from models.trunks.sface import SFACE
from models.types import Detections, FaceOutputs, HeadOutput
from training.data import face_sets as data
from training.data.crops import NOT_FOUND, View, apply_view, crop_faces, fill_missing, find_landmarks
from training.data.face_sets import CELEBA_ATTRIBUTES
from training.errors import DataError, TrainingError
from training.evaluate import scores
from training.evaluate.evaluate import EvaluateOptions, Evaluation, evaluate
from training.evaluate.operating_points import TASK
from training.evaluate.report import card, plots, tables
from training.recipes.catalogue import ETHNICITY

POINTS = torch.tensor([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.38, 0.78], [0.62, 0.78]])


class MiddleDetector:
    """Finds a face in the middle of every frame whose centre is bright."""

    policy = "middle"

    def detect(self, frames):
        _, _, height, width = frames.shape
        rows = [row for row, frame in enumerate(frames) if frame[:, height // 2, width // 2].float().mean() > 60]
        size = torch.tensor([width, height], dtype=torch.float32)
        boxes = torch.cat((size * 0.2, size * 0.8)).repeat(len(rows), 1)
        landmarks = (POINTS * size).repeat(len(rows), 1, 1)
        return Detections(torch.tensor(rows, dtype=torch.int64), boxes, landmarks, torch.full((len(rows),), 0.9))


class MadeRelease:
    """Answers female, White, 30 years, neutral and no attribute for every face."""

    name = "made"
    weights_sha256 = "0" * 64
    detector = MiddleDetector()
    layout = SFACE
    manifest = Manifest(name="made")
    limits = (0.5,) * len(data.ETHNICITIES)

    def find(self, frames):
        detections = self.detector.detect(frames)
        return SimpleNamespace(detections=detections, crops=align(frames, detections.frame, detections.landmarks))

    def spec(self, task):
        return replace(ETHNICITY.spec, thresholds=self.limits)

    def infer(self, crops):
        count = len(crops)

        def sure(labels, column):
            return torch.eye(len(labels))[column].repeat(count, 1)

        ages = tuple(str(year) for year in range(117))
        years = torch.full((count,), 30.0)
        silent = torch.zeros(count, dtype=torch.bool)
        heads = {
            "gender": HeadOutput(data.GENDERS, sure(data.GENDERS, 1), abstains=silent),
            "ethnicity": HeadOutput(data.ETHNICITIES, sure(data.ETHNICITIES, 0)),
            "age": HeadOutput(ages, sure(ages, 30), years, years - 5, years + 5),
            "emotion": HeadOutput(data.EMOTIONS, sure(data.EMOTIONS, 0)),
            "attributes": HeadOutput(CELEBA_ATTRIBUTES, torch.zeros(count, 40)),
        }
        return FaceOutputs(torch.nn.functional.normalize(crops.float().flatten(1)[:, :8] + 1), heads)


def image(path, side, brightness):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side, 3), brightness, dtype=np.uint8)
    pixels[: side // 2] //= 2
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def folder(tmp_path):
    head = "file,age,gender,race,split,sha256_16,dhash,source_name,dup\n"
    rows = [f"{n}.jpg,{20 + 5 * n},{n % 2},{n % 3},test,,,," for n in range(5)]
    root = tmp_path / "utkface"
    for n in range(5):
        image(root / "images" / f"{n}.jpg", 64, 10 if n == 4 else 150 + n)
    (root / "labels.csv").write_text(head + "\n".join([*rows, ""]))
    return tmp_path


def test_evaluate_measures_the_sets_that_are_there(folder):
    found = evaluate(MadeRelease(), folder)
    assert found.find("utkface", "gender", "accuracy").value == pytest.approx(2 / 5)
    assert found.find("utkface", "age", "mean absolute error").value == pytest.approx((10 + 5 + 0 + 5 + 10) / 5)
    assert found.find("utkface", "age", "80 % interval holds it").value == pytest.approx(3 / 5)
    assert found.find("utkface", "gender", "answered").value == 1
    assert found.find("utkface", "gender", "accuracy", "female").value == 1
    assert found.find("utkface", "gender", "accuracy", "female / Black / 18-39").count == 1
    (facts,) = found.sets
    assert (facts.images, facts.first_view, facts.missed) == (5, 4, 1)
    assert json.loads(found.to_json())["release"] == "made"


def test_tables_show_every_group_that_occurs(folder):
    text = card.card_tables(evaluate(MadeRelease(), folder))
    assert "| utkface, gender | accuracy | 40.0 % (" in text
    assert "female / Black / 18-39" in text
    assert "male / Indian" not in text
    assert "age: exact year | age: nine bins | age: fourteen bins | age: cross-entropy | gender: cross-entropy" in text


def test_heads_are_measured_on_degraded_copies_and_against_each_other(folder):
    found = evaluate(MadeRelease(), folder)
    assert found.find("utkface", "gender, degraded", "accuracy").value == pytest.approx(2 / 5)
    assert found.find("utkface", "gender, by degradation", "accuracy", "24 px").count == 5
    assert found.find("utkface", "gender against Male", "contradictions").value == 0  # female, and not Male
    text = card.card_tables(found)
    assert "| utkface, gender, degraded | accuracy | 40.0 % (" in text
    assert "| old print | 5 | 40.0 % (" in text
    fewer = evaluate(MadeRelease(), folder, EvaluateOptions(degraded=2))
    assert fewer.find("utkface", "gender, degraded", "accuracy").count == 2
    none = evaluate(MadeRelease(), folder, EvaluateOptions(degraded=0))
    assert none.find("utkface", "gender, degraded", "accuracy") is None


def test_figures_of_a_card_are_replaced_between_their_lines(folder):
    found = evaluate(MadeRelease(), folder)
    once = card.fill_card(f"before\n{tables.START}\nstale\n{tables.END}\nafter\n", found)
    assert once.startswith("before\n")
    assert once.endswith(f"{tables.END}\nafter\n")
    assert "stale" not in once
    assert card.fill_card(once, found) == once
    with pytest.raises(TrainingError, match="no lines"):
        card.fill_card("no place", found)


def test_figures_survive_json_and_are_joined_of_one_release_only(folder):
    found = evaluate(MadeRelease(), folder)
    again = Evaluation.from_json(found.to_json())
    assert again.find("utkface", "gender", "accuracy") == found.find("utkface", "gender", "accuracy")
    joined = Evaluation.join([again, replace(again, rows=again.rows[:1], sets=())])
    assert len(joined.rows) == len(found.rows) + 1
    with pytest.raises(DataError, match="one release"):
        Evaluation.join([again, replace(again, weights_sha256="1")])


def test_a_folder_without_sets_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no data set"):
        evaluate(MadeRelease(), tmp_path)


def test_crops_are_cached_and_missed_faces_counted(folder, tmp_path):
    faces = data.read_utkface(folder)
    first = crop_faces(faces, MiddleDetector(), tmp_path / "cache")
    assert first.pixels.shape == (5, 3, 112, 112)
    assert first.missed == 1
    assert first.found_by.tolist() == [0, 0, 0, 0, NOT_FOUND]
    for path in faces.paths():
        path.unlink()
    second = crop_faces(faces, MiddleDetector(), tmp_path / "cache")
    assert np.array_equal(first.pixels, second.pixels)
    with pytest.raises(DataError, match="cannot be read"):
        crop_faces(faces, MiddleDetector())


def test_no_faces_make_no_crops(folder):
    faces = data.read_utkface(folder)
    assert len(crop_faces(faces[faces.rows("val")], MiddleDetector())) == 0


def test_landmarks_come_back_in_pixels_of_the_image():
    pixels = np.full((40, 60, 3), 200, dtype=np.uint8)
    framed, scale = apply_view(pixels, View(side=120, margin=30))
    assert framed.shape == (140, 180, 3)
    assert scale == 2
    landmarks, _ = find_landmarks([pixels], MiddleDetector(), (View(side=120, margin=30),))
    centre = (POINTS[2].numpy() * (180, 140) - 30) / 2
    assert landmarks[0, 2] == pytest.approx(centre)


def test_missing_landmarks_are_the_median_of_the_others():
    landmarks = np.stack([POINTS.numpy() * 10, POINTS.numpy() * 20, np.full((5, 2), np.nan)]).astype(np.float32)
    sizes = np.array([[10, 10], [20, 20], [50, 50]], dtype=np.float32)
    assert fill_missing(landmarks, sizes)[2] == pytest.approx(POINTS.numpy() * 50)
    with pytest.raises(DataError, match="no face"):
        fill_missing(landmarks[2:], sizes[2:])


def test_seven_emotions_leave_contempt_out():
    probabilities = torch.zeros(2, 8)
    probabilities[:, data.EMOTIONS.index("contempt")] = 0.6
    probabilities[:, data.EMOTIONS.index("anger")] = 0.4
    faces = data.Fer2013(
        name="fer2013",
        root=None,
        files=np.array(["a", "b"]),
        split=np.array(["test", "test"]),
        votes=np.zeros((2, 8), dtype=np.float32),
        other_votes=np.zeros(2, dtype=np.float32),
        majority=np.array([data.EMOTIONS.index("contempt"), data.UNKNOWN]),
        original=np.array([data.EMOTIONS.index("anger"), data.EMOTIONS.index("fear")]),
    )
    rows = scores.emotion_findings({"emotion": HeadOutput(data.EMOTIONS, probabilities)}, faces).rows
    found = {(row.data, row.measure): row.figure for row in rows}
    assert (found["ferplus", "accuracy"].value, found["ferplus", "accuracy"].count) == (1.0, 1)
    assert found["fer2013", "accuracy of seven"].value == pytest.approx(0.5)


def test_attributes_are_matched_by_name():
    faces = data.CelebA(
        name="celeba10k",
        root=None,
        files=np.array(["a", "b"]),
        split=np.array(["test", "test"]),
        attributes=np.array([[1, 0], [1, 1]], dtype=np.float32),
        identity=np.array([3, 5]),
        names=("Young", "Bald"),
    )
    head = HeadOutput(("Bald", "Young"), torch.tensor([[0.1, 0.9], [0.2, 0.8]]))
    rows = {(row.measure, row.group): row.figure.value for row in scores.attribute_findings(head, faces).rows}
    assert rows["mean accuracy", "all"] == pytest.approx(3 / 4)
    assert rows["accuracy", "Bald"] == pytest.approx(1 / 2)
    assert rows["balanced accuracy", "Bald"] == pytest.approx(1 / 2)
    assert ("balanced accuracy", "Young") not in rows  # all faces are young
    assert rows["cross-entropy", "all"] == pytest.approx(-np.log([0.9, 0.9, 0.8, 0.2]).mean())
    assert replace(faces, names=("Young", "Other")).names != faces.names


def test_a_set_without_the_wanted_split_is_measured_whole_and_marked(folder):
    path = folder / "utkface" / "labels.csv"
    path.write_text(path.read_text().replace(",test,", ",holdout,"))
    found = evaluate(MadeRelease(), folder)
    assert found.sets[0].measured == "all rows (holdout): none is of split test"
    assert found.find("utkface", "gender", "accuracy").count == 5
    named = evaluate(MadeRelease(), folder, EvaluateOptions(split="holdout"))
    assert (named.sets[0].measured, named.sets[0].images) == ("split holdout", 5)
    assert "holdout" in tables.found_faces(named)


def test_ethnicity_is_read_label_by_label_with_the_releases_thresholds(folder):
    found = evaluate(MadeRelease(), folder)
    assert found.find("utkface", TASK, "left without a label").value == 0
    assert "utkface, White" in tables.operating(found)
    release = MadeRelease()
    release.limits = ()
    assert evaluate(release, folder).find("utkface", TASK, "left without a label") is None


def test_sizes_and_plots(folder, tmp_path):
    found = evaluate(MadeRelease(), folder, EvaluateOptions(sizes=True))
    text = tables.by_size(found)
    assert "| 24-31 px |" in text
    figures = plots.evaluation_figures(found)
    assert {"sizes.png", "groups.png", "calibration.png", "abstention.png"} <= set(figures)
    assert "confusion-utkface-age-nine-bins.png" in figures
    for name, figure in figures.items():
        assert plots.save(figure, tmp_path / "plots" / name).stat().st_size > 1000


def test_lfw_is_measured_on_the_pairs_that_are_there(tmp_path):
    root = tmp_path / "lfw"
    people = [f"P_{n}" for n in range(4)]
    for number, person in enumerate(people):
        for place in (1, 2):
            image(root / "images" / person / f"{person}_{place:04d}.jpg", 48, 90 + 40 * number)
    lines = ["P_0\t1\t2", "P_1\t1\tP_2\t1", "P_3\t1\t2", "P_0\t2\tP_3\t2"]
    (root / "pairs.txt").write_text("\n".join(["2\t1", *lines, ""]))
    (root / "gender.csv").write_text("person,images,gender,note\nP_0,2,female,\nP_3,2,male,\n")
    splits = ["P_0,2,test", "P_1,2,train", "P_2,2,val", "P_3,2,test"]
    (root / "persons_split.csv").write_text("\n".join(["person,images,split", *splits, ""]))
    (root / "expressions.csv").write_text("file,expression\nP_0_0001.jpg,neutral\nP_1_0001.jpg,anger\n")
    found = evaluate(MadeRelease(), tmp_path)
    assert (found.sets[1].images, found.sets[1].measured) == (6, "people of splits val and test")
    assert found.find("lfw", "emotion", "accuracy").count == 1  # not P_1 of the training split
    assert found.find("lfw", "verification", "accuracy").count == 4
    assert found.find("lfw", "gender", "accuracy").value == pytest.approx(1 / 2)
    (root / "images" / "P_1" / "P_1_0001.jpg").unlink()
    found = evaluate(MadeRelease(), tmp_path)
    assert found.sets[0].measured == "3 of 4 pairs of View 2"
    assert found.find("lfw", "verification", "true positives at 0.1 % false ones").count == 3


def test_an_extra_head_of_seven_is_measured_instead_of_the_derived_seven():
    faces = data.Fer2013(
        name="fer2013",
        root=None,
        files=np.array(["a", "b"]),
        split=np.array(["test", "test"]),
        votes=np.zeros((2, 8), dtype=np.float32),
        other_votes=np.zeros(2, dtype=np.float32),
        majority=np.array([data.UNKNOWN, data.UNKNOWN]),
        original=np.array([data.EMOTIONS.index("anger"), data.EMOTIONS.index("fear")]),
    )
    labels = tuple(reversed(data.ORIGINAL_EMOTIONS))
    head = HeadOutput(labels, torch.eye(7)[[labels.index("anger"), labels.index("sadness")]])
    rows = scores.emotion_findings({"emotion7": head}, faces).rows
    assert {row.task for row in rows} == {"emotion7"}
    assert next(row for row in rows if row.measure == "accuracy").figure.value == pytest.approx(0.5)
