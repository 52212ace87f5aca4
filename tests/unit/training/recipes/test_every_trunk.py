"""Every recipe fits every registered trunk; on drawn faces it trains to a release that answers.

Training takes seconds, so it is tried with every recipe on trunks of each form (with and without batch norm and
shortcuts), and with recipes of each form on every trunk; the rest of the pairs only build their branches.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from models.branches import Branch
from models.manifest import DETECTOR_FILE, TRUNK_FILE, read_manifest
from models.release import DEFAULT, load_model, write_release
from models.trunks.base import EMBEDDING_DEPTH
from models.trunks.registry import create_trunk, layout_of, list_trunks
from models.weights import read_weights
from tests.unit.training.conftest import OneFaceDetector
from training.data.as_published import split_of
from training.data.face_sets import CELEBA_ATTRIBUTES, EMOTIONS, RACES
from training.data.published_sets import AGE_RANGE_LABELS, FAIRFACE_VAL
from training.fit.features import ready
from training.joint.train import train_jointly
from training.recipes.recipe import RECIPES
from training.releases.export import export
from training.train import TrainingContext, train_branches

# Narrow and small members of the families that have any.
MEMBERS = {
    "sface": "sface-w0.25-r32",
    "dlib29": "dlib29-w0.25-r113",
    "face24": "face24-w0.25-r64",
    "mobilenet": "mobilenet-w0.25-r64",
}
COUNT = 12  # faces of each set: eight to learn from, four to calibrate on
SPLITS = ["train"] * 8 + ["val"] * 4


def draw_face(path, number):
    """Draw a face whose colour and mouth follow from its number."""
    canvas = np.full((64, 64, 3), 40, dtype=np.uint8)
    cv2.ellipse(canvas, (32, 32), (18, 24), 0, 0, 360, (90 + 10 * number, 150, 200), -1)
    for x in (24, 40):
        cv2.circle(canvas, (x, 26), 3, (10, 10, 10), -1)
    cv2.ellipse(canvas, (32, 44), (8, 2 + number % 5), 0, 0, 180, (20, 20, 160), 2)
    assert cv2.imwrite(str(path), canvas)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder with twelve drawn faces of UTKFace, FER2013 and CelebA each."""
    root = tmp_path_factory.mktemp("data")
    votes = ",".join(f"v_{name}" for name in (*EMOTIONS, "unknown", "NF"))
    headers = {
        "utkface/labels.csv": "file,age,gender,race,split,dup",
        "fer2013/labels.csv": f"file,split,fer2013_label,ferplus_majority,{votes}",
        "celeba10k/attributes.csv": f"file,identity,split,official_partition,{','.join(CELEBA_ATTRIBUTES)}",
    }
    draw_fairface(root / "fairface")
    for name, header in headers.items():
        folder = root / name.split("/")[0] / "images"
        folder.mkdir(parents=True)
        lines = [row(name, number, split) for number, split in enumerate(SPLITS)]
        (root / name).write_text("\n".join([header, *lines]) + "\n")
        for number in range(COUNT):
            draw_face(folder / f"{number}.png", number)
    return root


def draw_fairface(root):
    """Draw twelve faces whose names make eight of them train and four val."""
    (root / "train").mkdir(parents=True)
    names = [f"train/{number}.png" for number in range(1000)]
    splits = [split_of(name.encode(), FAIRFACE_VAL) for name in names]
    lines = ["file,age,gender,race,service_test"]
    for split, count in (("train", 8), ("val", 4)):
        for number, name in enumerate(
            [name for name, found in zip(names, splits, strict=True) if found == split][:count]
        ):
            draw_face(root / name, number)
            lines.append(
                f"{name},{AGE_RANGE_LABELS[number]},{('Male', 'Female')[number % 2]},{RACES[number % 7]},False"
            )
    (root / "fairface_label_train.csv").write_text("\n".join(lines) + "\n")


def row(name, number, split):
    if name.startswith("utkface"):
        return f"{number}.png,{20 + number},{number % 2},{number % 5},{split},"
    if name.startswith("fer2013"):
        counts = [10 if place == number % 8 else 0 for place in range(10)]
        return f"{number}.png,{split},happy,happiness,{','.join(map(str, counts))}"
    return f"{number}.png,{number},{split},0,{','.join(str((number + place) % 2) for place in range(40))}"


@pytest.fixture(scope="module")
def context_on(data, tmp_path_factory):
    """Return a function that makes the training context of a release on a trunk with random weights."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name.replace(".", "_"))
            torch.manual_seed(0)
            trunk = create_trunk(name)
            base = read_manifest(DEFAULT)
            weights = {
                DETECTOR_FILE: read_weights(DEFAULT / DETECTOR_FILE),
                TRUNK_FILE: trunk.state_dict(),
            }
            write_release(folder / "base", replace(base.on_trunk(name), name="base"), weights)
            trunk = ready(trunk, torch.device("cpu"))
            made[name] = TrainingContext(trunk, OneFaceDetector(), data, folder / "cache", folder / "base")
        return made[name]

    return make


def shortened(recipe):
    """Return a recipe of a step or an epoch, with the faces that are there."""
    heads = tuple(
        replace(head, fit=replace(head.fit, epochs=1, batch=4, held_out=0.2), dropout=0.1) for head in recipe.heads
    )
    heads = tuple(
        replace(head, regions=replace(head.regions, first_steps=1)) if head.regions else head for head in heads
    )
    joint = recipe.joint
    if joint:
        steps = 2 if any(head.regions for head in heads) else 1
        tuning = joint.trunk and replace(joint.trunk, held_by=dict.fromkeys(joint.trunk.held_by, 2))
        second = joint.second and replace(joint.second, steps=1, teachers=1)
        batch = dict.fromkeys(joint.batch, 4)
        joint = replace(
            joint, steps=steps, batch=batch, evaluate_every=1, searches=(None,), trunk=tuning, second=second
        )
    return replace(recipe, heads=heads, joint=joint)


def member(family):
    return MEMBERS.get(family, f"{family}-r64")


FORMS_OF_TRUNKS = ("sface", "face24", "mobilenet")
FORMS_OF_RECIPES = ("fusion-weighted", "relearnt", "backbone")
PAIRS = [
    (recipe, family)
    for recipe in RECIPES
    for family in list_trunks()
    if family in FORMS_OF_TRUNKS or recipe in FORMS_OF_RECIPES
]


@pytest.mark.parametrize("family", list_trunks())
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_a_trunk(name, family):
    layout = layout_of(member(family))
    for head in RECIPES[name].on(layout).heads:
        head.spec.check_fits(layout)
        with torch.device("meta"):
            branch = Branch(head.spec, layout).eval()
            shapes = {**layout.maps, EMBEDDING_DEPTH: (layout.embedding_size,)}
            answer = branch({depth: torch.empty(2, *shapes[depth]) for depth in branch.depths})
        assert answer.shape == (2, len(head.spec.labels))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family"), PAIRS)
def test_a_recipe_trains_on_a_trunk(name, family, context_on, tmp_path):
    trunk_name = member(family)
    context = context_on(trunk_name)
    recipe, tuned = shortened(RECIPES[name]), None
    if recipe.joint is None:
        trained = train_branches(recipe, lambda _: context)
    else:
        found = train_jointly(recipe, [context], tmp_path / "run")
        trained, tuned = found.branches, found.trunk
    manifest = export("made", context.release, [each.branch for each in trained], tmp_path / "made", tuned)
    side = manifest.layout.side
    crops = torch.randint(0, 256, (3, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    answers = load_model(tmp_path / "made", device="cpu").infer(crops).heads
    assert list(answers) == [head.spec.task for head in recipe.heads]
    for task, head in answers.items():
        assert np.isfinite(np.asarray(head.probabilities)).all(), task
