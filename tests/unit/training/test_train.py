"""Training of a branch: the rows that it learns from, and its calibration."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.sface import SFace
from training import train as training
from training.data.face_sets import UtkFace
from training.fit.features import Features, Tap
from training.fit.fit import FitOptions
from training.fit.progress import RunLog
from training.recipes.recipe import HeadRecipe

SPLIT = np.array(["train"] * 60 + ["val"] * 20 + ["test"] * 20)
RECIPE = HeadRecipe(
    spec=BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("conv_14",), pool=1, hidden=8),
    data="utkface",
    fit=FitOptions(loss="cross_entropy", epochs=2, batch=16),
    answers_accuracy=0.9,
)


@pytest.fixture
def training_stub(monkeypatch, tmp_path):
    """Return a training context with random features, and the rows of each fit."""
    random = np.random.default_rng(0)
    gender = random.integers(0, 2, len(SPLIT))
    faces = UtkFace(
        name="utkface",
        root=tmp_path,
        files=np.array([f"{number}.jpg" for number in range(len(SPLIT))]),
        split=SPLIT,
        age=random.integers(0, 90, len(SPLIT)),
        gender=gender,
        ethnicity=random.integers(0, 5, len(SPLIT)),
    )
    values = random.normal(size=(len(SPLIT), 1, 1, 1024)).astype(np.float16)
    values[..., :8] += gender[:, None, None, None] * 2
    learnt = []

    def fit(head, examples, *others):
        learnt.append(examples.rows.tolist())
        return original(head, examples, *others)

    original = training.fit
    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setitem(training.READERS, "utkface", lambda _: faces)
    found = {Tap("conv_14", 1): Features(values, values)}
    context = SimpleNamespace(data=tmp_path, trunk=SFace(), features=lambda *_, **__: found)
    return SimpleNamespace(context=context, learnt=learnt)


def test_a_branch_learns_from_its_training_rows(training_stub):
    training.train_branch(RECIPE, training_stub.context)
    assert training_stub.learnt == [list(range(60))]


def test_a_refit_branch_learns_from_validation_rows_too_and_keeps_its_calibration(training_stub):
    once = training.train_branch(RECIPE, training_stub.context).branch
    training_stub.learnt.clear()
    again = training.train_branch(replace(RECIPE, refit=True), training_stub.context).branch
    assert training_stub.learnt == [list(range(60)), list(range(80))]
    assert again.spec == once.spec
    assert not torch.equal(again.head[0].weight, once.head[0].weight)


def test_every_epoch_is_in_the_run_log(training_stub, tmp_path):
    training.train_branch(RECIPE, training_stub.context, RunLog(tmp_path / "run"))
    lines = list(csv.DictReader((tmp_path / "run" / "log.csv").read_text().splitlines()))
    assert [(line["task"], line["step"]) for line in lines] == [("gender", "1"), ("gender", "2")]
    assert float(lines[1]["best"]) == max(float(line["held_out"]) for line in lines)
