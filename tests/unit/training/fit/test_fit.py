"""Training on separable features: branches learn, and a shipped branch answers as the trained one did."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from models.trunks.registry import create_trunk
from models.trunks.sface import SFACE, SFace
from training.errors import RecipeError
from training.fit.balance import Balance
from training.fit.descent import Descent
from training.fit.features import Features, Tap, extract
from training.fit.fit import Examples, FitOptions, fit, logits_of, mix_features, parameter_groups, schedule
from training.fit.losses import one_hot
from training.fit.targets import score
from training.fit.trainable_branch import TrainableBranch
from training.recipes.recipe import RECIPES, HeadRecipe, Recipe, find, register
from training.train import calibrated

SPEC = BranchSpec(task="side", kind="softmax", labels=("left", "right"), depths=("conv_14",), pool=2, hidden=8)
OPTIONS = FitOptions(loss="cross_entropy", epochs=6, batch=32, average=0.9)


def separable(count, seed=0):
    """Return features of two classes that differ in 64 of 1024 channels; mirrored ones are the same."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    maps = random.normal(0, 1, (count, 2, 2, 1024)).astype(np.float16)
    maps[..., :64] += (labels * 2 - 1)[:, None, None, None]
    return Features(maps, maps), one_hot(torch.from_numpy(labels), 2)


def trained(options=OPTIONS):
    features, soft = separable(500)
    head = TrainableBranch(SPEC, dropout=0.1)
    head.standardise({"conv_14": features.batch(np.arange(200), np.zeros(200, dtype=bool)).float()})
    best = fit(head, Examples({"conv_14": features}, soft, np.arange(400)), score(SPEC), options)
    return head, best, features, soft


def test_a_branch_learns_separable_classes():
    head, best, features, soft = trained()
    assert best.score > 0.9
    logits = logits_of(head, {"conv_14": features}, np.arange(400, 500))
    assert (logits.argmax(1) == soft[400:].argmax(1)).float().mean() > 0.9


def test_the_shipped_branch_answers_as_the_trained_one_did():
    head, _, features, _ = trained()
    maps = {"conv_14": features.batch(np.arange(7), np.zeros(7, dtype=bool)).float()}
    head.eval()
    with torch.no_grad():
        assert torch.allclose(head.shipped()(maps), head(maps), atol=1e-4)


def test_training_repeats_with_its_seed():
    first, second = (trained()[0].shipped().head[0].weight for _ in range(2))
    assert torch.equal(first, second)


def test_training_stops_when_the_held_out_score_no_longer_grows():
    _, best, _, _ = trained(replace(OPTIONS, epochs=30, patience=1))
    assert best.epochs < 29


@pytest.mark.parametrize(
    "balance", [Balance(weight=1), Balance(effective_number=0.9999), Balance(adjust=1), Balance(sampling=1)]
)
def test_a_rare_class_is_found_more_often_where_it_is_favoured(balance):
    random = np.random.default_rng(1)
    labels = (random.random(800) < 0.05).astype(np.int64)
    maps = random.normal(0, 1, (800, 2, 2, 1024)).astype(np.float16)
    maps[..., :64] += (labels * 0.35)[:, None, None, None]  # too little to be sure
    examples = Examples({"conv_14": Features(maps, maps)}, one_hot(torch.from_numpy(labels), 2), np.arange(600))

    def found(options):
        torch.manual_seed(0)
        head = TrainableBranch(SPEC, dropout=0.5)
        later_is_better = count()
        fit(head, examples, lambda *_: float(next(later_is_better)), replace(options, epochs=3))
        rows = np.arange(600, 800)[labels[600:] == 1]
        return float(logits_of(head, examples.features, rows).softmax(1)[:, 1].mean())

    plain = replace(OPTIONS, average=0.5)
    assert found(replace(plain, balance=balance)) > found(plain) + 0.02


def test_classes_are_weighed_once_and_binary_logits_are_not_adjusted():
    with pytest.raises(RecipeError, match="expected one of them"):
        Balance(weight=1, effective_number=0.99)
    with pytest.raises(RecipeError, match="binary"):
        FitOptions(loss="binary", balance=Balance(adjust=1))


@pytest.mark.parametrize("steps", [1, 4, 8, 9, 10, 30])
def test_the_rate_rises_and_falls_in_any_number_of_steps(steps):
    optimiser = Descent().optimise([torch.nn.Parameter(torch.zeros(1))], 0.5, 0.0)
    course = schedule(optimiser, Descent(), steps)
    rates = [course.get_last_lr()[0]]
    for _ in range(steps):
        optimiser.step()
        course.step()
        rates.append(course.get_last_lr()[0])
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    top = rates.index(max(rates))
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert steps < 2 or rates[-1] < 0.001


def test_every_epoch_is_reported():
    epochs = []
    features, soft = separable(500)
    head = TrainableBranch(SPEC, dropout=0.1)
    best = fit(head, Examples({"conv_14": features}, soft, np.arange(400)), score(SPEC), OPTIONS, epochs.append)
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert max(epoch.held_out for epoch in epochs) == epochs[-1].best == best.score


def test_mixing_keeps_targets_distributions():
    features, soft = separable(16)
    maps = {"conv_14": features.batch(np.arange(16), np.zeros(16, dtype=bool))}
    options = replace(OPTIONS, mixup=1.0, noise=0.1)
    mixed, targets = mix_features(maps, soft, options, np.random.default_rng(3))
    assert mixed["conv_14"].shape == (16, 1024, 2, 2)
    assert torch.allclose(targets.sum(1), torch.ones(16))
    assert not torch.equal(targets, soft)


@pytest.mark.parametrize("depth", ["conv_10", "conv_12"])
def test_relearnt_layers_start_as_those_behind_their_depth_and_learn_slower(depth):
    torch.manual_seed(1)
    trunk = SFace()
    head = TrainableBranch(replace(SPEC, depths=(depth,), relearnt_to="conv_14"), dropout=0.0)
    head.start_from(trunk)
    crops = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    with torch.no_grad():
        maps = trunk.forward_intermediates(crops, (depth, "conv_14"))
        assert torch.allclose(head.branch.tail(maps[depth], maps[depth]), maps["conv_14"], atol=1e-5)
    linear, stages = parameter_groups(head, OPTIONS)
    assert stages["lr"] == pytest.approx(OPTIONS.learning_rate * OPTIONS.stage_rate)
    assert len(linear["params"]) + len(stages["params"]) == len(list(head.parameters()))


def test_features_are_kept_on_disk_plain_and_mirrored(tmp_path):
    torch.manual_seed(2)
    trunk = SFace().eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 112, 112), dtype=np.uint8)
    taps = (Tap("conv_12"), Tap("conv_14", 3))
    found = extract(trunk, pixels, taps, tmp_path)
    assert found[taps[0]].plain.shape == (3, 14, 14, 512)
    assert found[taps[1]].mirrored.shape == (3, 3, 3, 1024)
    with torch.no_grad():
        maps = trunk.forward_intermediates(torch.from_numpy(pixels).flip(3), ("conv_12",))
    kept = found[taps[0]].batch(np.arange(3), np.ones(3, dtype=bool))
    assert torch.allclose(kept.float(), maps["conv_12"], atol=1e-2, rtol=1e-2)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = extract(trunk, pixels, taps, tmp_path)
    assert np.array_equal(again[taps[1]].plain, found[taps[1]].plain)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_calibration_fills_in_temperature_and_abstention():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3000, 2, generator=generator) * 2
    soft = one_hot(torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0], 2)
    recipe = HeadRecipe(spec=SPEC, data="utkface", fit=OPTIONS, answers_accuracy=0.95)
    spec = calibrated(recipe, logits * 4, soft)
    assert spec.temperature == pytest.approx(4, rel=0.15)
    assert spec.abstain is not None
    assert 0.5 < spec.abstain < 1


def test_the_age_temperature_makes_intervals_hold_four_in_five():
    generator = torch.Generator().manual_seed(4)
    years = torch.arange(117.0)
    centre = torch.rand(2000, generator=generator) * 60 + 20
    predicted = centre + torch.randn(2000, generator=generator) * 6
    logits = -0.5 * ((years - predicted[:, None]) / 2) ** 2  # three times too sure
    spec = BranchSpec(task="age", kind="age", labels=tuple(map(str, range(117))), depths=("conv_14",))
    recipe = HeadRecipe(spec=spec, data="utkface", fit=replace(OPTIONS, loss="age"))
    found = calibrated(recipe, logits, one_hot(centre.round(), 117))
    assert found.temperature == pytest.approx(8, rel=0.2)  # variances: (6 / 2) ** 2, up to the grid's end


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_complete(name):
    recipe = find(name).on(SFACE)
    assert recipe.summary
    for head in recipe.heads:
        TrainableBranch(head.spec, dropout=head.dropout)
        assert head.taps(SFACE)


def test_a_recipe_is_registered_once_and_has_each_task_once():
    with pytest.raises(RecipeError, match="exists already"):
        register(find("default"))
    with pytest.raises(RecipeError, match="each once"):
        Recipe(name="twice", heads=find("default").heads[:1] * 2, summary="")


def test_branches_of_a_joint_recipe_cannot_sample_on_their_own():
    joint = find("relearnt")
    head = replace(joint.heads[0], fit=replace(joint.heads[0].fit, balance=Balance(sampling=1)))
    with pytest.raises(RecipeError, match="gender"):
        replace(joint, heads=(head,))


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(RecipeError, match="default"):
        find("defualt")


def test_only_keeps_the_heads_that_are_asked_for():
    assert [head.spec.task for head in find("default").only("age", "gender").heads] == ["age", "gender"]
    with pytest.raises(RecipeError, match="no head 'hair'"):
        find("default").only("hair")


def test_statistics_of_relearnt_layers_learn_and_are_kept():
    torch.manual_seed(4)
    trunk = create_trunk("face24-w0.25-r32")
    spec = replace(SPEC, depths=("conv21",), relearnt_to="bn320", pool=1)
    head = TrainableBranch(spec, dropout=0.0, layout=trunk.layout)
    head.start_from(trunk)
    labels = np.arange(24) % len(spec.labels)
    channels, side, _ = trunk.layout.maps["conv21"]
    plain = np.random.default_rng(0).normal(size=(24, side, side, channels)).astype(np.float16)
    plain += labels[:, None, None, None].astype(np.float16)
    wanted = one_hot(torch.from_numpy(labels), len(spec.labels))
    examples = Examples({"conv21": Features(plain, plain)}, wanted, np.arange(24))
    head.standardise({"conv21": torch.from_numpy(plain).permute(0, 3, 1, 2).float()})
    before = head.branch.tail.state_dict()["layers.bn320.2.running_mean"].clone()
    fit(
        head,
        examples,
        lambda logits, soft: float(-(logits - soft).square().mean()),
        replace(OPTIONS, batch=8, epochs=3),
    )
    shipped = head.shipped()
    after = shipped.state_dict()["tail.layers.bn320.2.running_mean"]
    assert not torch.allclose(before, after)
    assert torch.equal(after, head.branch.tail.state_dict()["layers.bn320.2.running_mean"])
    assert float(trunk.layers["bn320"][2].running_mean.abs().max()) == 0
