"""Branches with experts: each learns from the faces of its label, enlarged to the full size."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.sface import SFace
from training import train as training
from training.errors import RecipeError
from training.fit import fit as fitting
from training.fit.features import Features, Tap
from training.fit.fit import FitOptions
from training.recipes.joint import JointOptions
from training.recipes.recipe import HeadRecipe, Recipe

GENDERS = ("male", "female")
RECIPE = HeadRecipe(
    spec=BranchSpec(
        task="ethnicity",
        kind="softmax",
        labels=("White", "Black", "Asian", "Indian", "Other"),
        depths=("conv_14",),
        pool=1,
        hidden=8,
        experts=GENDERS,
    ),
    data="utkface",
    fit=FitOptions(loss="cross_entropy", epochs=5, batch=16, learning_rate=3e-2, average=0.9),
    dropout=0.0,
    expert_task="gender",
)


@pytest.fixture
def context(monkeypatch, random_people):
    """Return a context whose features show gender, and the ethnicity by another rule for each gender."""
    faces = random_people(train=300, val=60)
    values = np.random.default_rng(1).normal(size=(len(faces), 1, 1, 1024)).astype(np.float16) * np.float16(0.1)
    values[..., 16:] = 0  # so many channels of noise would hide the few that show something
    values[:, 0, 0, 0] += 4 * faces.gender
    shown = np.where(faces.gender == 1, (faces.ethnicity + 2) % 5, faces.ethnicity)
    values[np.arange(len(faces)), 0, 0, 1 + shown] += 2
    monkeypatch.setitem(training.READERS, "utkface", lambda _: faces)
    found = {Tap("conv_14", 1): Features(values, values)}
    return SimpleNamespace(data=None, trunk=SFace(), features=lambda *_, **__: found, faces=faces, values=values)


def test_each_expert_learns_the_rule_of_its_gender(context):
    branch = training.train_branch(RECIPE, context).branch
    maps = {"conv_14": torch.from_numpy(context.values).float().permute(0, 3, 1, 2)}
    with torch.no_grad():
        x = branch.features(maps)
        decided = branch.head.gate(x).argmax(1).numpy()
        answers = [part(x).argmax(1).numpy() for part in branch.head.answers]
        whole = branch(maps).argmax(1).numpy()
    faces, val = context.faces, context.faces.split == "val"
    assert (decided == faces.gender)[val].mean() > 0.9
    for gender in (0, 1):
        rows = val & (faces.gender == gender)
        right = [(answer == faces.ethnicity)[rows].mean() for answer in answers]
        assert right[gender] > 0.7
        assert right[1 - gender] < 0.4  # the other rule
    assert (whole == faces.ethnicity)[val].mean() > 0.7


def test_sub_sets_are_enlarged_to_the_full_size(context, monkeypatch):
    seen = []
    original = fitting._Training.epoch

    def epoch(self, random):
        seen.append((len(self.rows), self.options.enlarge_to))
        return original(self, random)

    monkeypatch.setattr(fitting._Training, "epoch", epoch)
    training.train_branch(replace(RECIPE, fit=replace(RECIPE.fit, epochs=1)), context)
    men = int((context.faces.gender[:300] == 0).sum())
    held = [max(1, round(count * 0.05)) for count in (300, men, 300 - men)]
    counts = [count - out for count, out in zip((300, men, 300 - men), held, strict=True)]
    assert seen == [(counts[0], 0), (counts[1], 300), (counts[2], 300)]


def test_an_enlarged_epoch_shows_each_face_about_as_often(context, monkeypatch):
    options = FitOptions(loss="cross_entropy", epochs=1, batch=5, enlarge_to=95)
    shown = []
    monkeypatch.setattr(fitting._Training, "_step", lambda _, batch, __: shown.extend(batch.tolist()) or 0.0)
    faces = fitting.Examples(
        {"conv_14": Features(context.values, context.values)}, torch.eye(5)[context.faces.ethnicity], np.arange(40)
    )
    head = training.new_branch(
        replace(RECIPE, spec=replace(RECIPE.spec, experts=()), expert_task=None),
        context.trunk,
        faces.features,
        faces.rows,
        0,
    )
    fitting._Training(head, faces, np.arange(40), options).epoch(np.random.default_rng(0))
    assert len(shown) == 95
    times = np.bincount(shown, minlength=40)
    assert times.min() == 2
    assert times.max() == 3


def test_experts_need_a_task_and_no_joint_run():
    with pytest.raises(RecipeError, match="give both or neither"):
        replace(RECIPE, expert_task=None)
    joint = JointOptions(steps=1, batch={"utkface": 4})
    with pytest.raises(RecipeError, match=r"\['ethnicity'\] cannot have experts"):
        Recipe(name="x", heads=(RECIPE,), summary="", joint=joint)
