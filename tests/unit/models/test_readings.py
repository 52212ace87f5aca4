"""Stored codes that are read again give the bits of the inference that stored them, for any number of rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.branches import BranchSpec
from models.readings import decode, encode, interpret, quantiles, reread
from models.types import HeadOutput

EMOTION = BranchSpec(task="emotion", kind="softmax", labels=("a", "b", "c"), depths=("conv_12",), pool=2, hidden=7)
AGE = BranchSpec(task="age", kind="age", labels=tuple(str(year) for year in range(117)), depths=("conv_14",), hidden=5)
TRAITS = replace(EMOTION, kind="multilabel", labels=tuple("abcdefghijklm"))
SPECS = [replace(EMOTION, abstain=0.5, temperature=0.83), replace(AGE, abstain=20.0, temperature=0.72), TRAITS]
COLUMNS = ("probabilities", "value", "low", "high", "abstains", "codes")


def logits_of(spec: BranchSpec, count: int, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(count, len(spec.labels), generator=torch.Generator().manual_seed(2))


def equal(one: HeadOutput, other: HeadOutput) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in COLUMNS]
    return one.labels == other.labels and all(
        (x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in pairs
    )


def some_of(output: HeadOutput, rows: slice) -> HeadOutput:
    return HeadOutput(output.labels, *(None if (x := getattr(output, name)) is None else x[rows] for name in COLUMNS))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("count", [1, 2, 7, 64, 301, 5003])
def test_codes_read_again_give_the_same_bits_in_batches_of_any_size(spec, count):
    output = interpret(spec, logits_of(spec, count))
    stored = output.codes.to(torch.uint16)
    assert torch.equal(stored.int(), output.codes)
    assert equal(reread(spec, stored.int()), output)
    for rows in (slice(0, 1), slice(count // 3, count // 2 + 1), slice(count - 1, count)):
        assert equal(reread(spec, output.codes[rows]), some_of(output, rows))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_interpreting_on_the_grid_stays_close_to_the_logits(spec):
    logits = logits_of(spec, 211)
    output, scaled = interpret(spec, logits), logits.double() / spec.temperature
    exact = scaled.sigmoid() if spec.kind == "multilabel" else scaled.softmax(1)
    assert (output.probabilities - exact).abs().max() < 2e-4
    if spec.kind == "age":
        assert (output.value - exact @ torch.arange(117.0, dtype=torch.float64)).abs().max() < 0.01
        assert (output.low - quantiles(exact, torch.arange(117.0), (0.1,))[:, 0]).abs().max() < 0.05


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_score_comes_back_within_half_a_step(spec):
    logits = logits_of(spec, 53)
    wanted, half = (logits, 1 / 2048) if spec.kind == "multilabel" else (logits.double().log_softmax(1), 1 / 4096)
    assert (decode(spec.kind, encode(spec.kind, logits)) - wanted).abs().max() < half * 1.01


@pytest.mark.parametrize(
    ("kind", "logits", "codes"),
    [
        ("softmax", [0.0, 0.0], [1420, 1420]),  # 2048 ln 2 = 1419.6
        ("age", [0.0, 0.0, 0.0, 0.0], [2839] * 4),
        ("softmax", [0.0, -10.0], [0, 20480]),
        ("softmax", [0.0, -31.99], [0, 65516]),
        ("softmax", [0.0, -99.0], [0, 65535]),
        ("multilabel", [0.0, 1.0, -1.0, 0.0009], [32768, 33792, 31744, 32769]),
        ("multilabel", [40.0, -40.0], [65535, 0]),
    ],
)
def test_the_grid(kind, logits, codes):
    assert encode(kind, torch.tensor([logits])).tolist() == [codes]


def test_the_best_label_does_not_vanish_at_a_low_temperature():
    spec = replace(AGE, temperature=0.01)
    output = interpret(spec, 0.001 * logits_of(spec, 5))
    assert torch.allclose(output.probabilities.sum(1), torch.ones(5))
    assert (output.probabilities.amax(1) > 1 / 117).all()


def test_a_reading_follows_its_temperature_and_threshold():
    codes = interpret(EMOTION, logits_of(EMOTION, 31)).codes
    hot = reread(replace(EMOTION, temperature=4.0, abstain=0.5), codes)
    expected = (decode("softmax", codes) / 4).softmax(1)
    assert torch.allclose(hot.probabilities.double(), expected, atol=1e-6)
    assert hot.abstains.tolist() == (hot.probabilities.amax(1) < 0.5).tolist()
    assert 0 < int(hot.abstains.sum()) < 31


def test_softmax_abstains_below_its_threshold():
    spec = replace(EMOTION, abstain=0.6, temperature=2.0)
    output = interpret(spec, torch.tensor([[4.0, 0.0, 0.0], [0.2, 0.0, 0.1]]))
    assert torch.allclose(output.probabilities[0], torch.tensor([2.0, 0.0, 0.0]).softmax(0))
    assert output.abstains.tolist() == [False, True]
    assert interpret(EMOTION, torch.zeros(2, 3)).abstains is None


def test_a_head_answers_at_its_threshold():
    halves = replace(EMOTION, labels=("a", "b"), abstain=0.5)
    assert interpret(halves, torch.zeros(1, 2)).abstains.tolist() == [False]
    logits = torch.randn(1, 117, generator=torch.Generator().manual_seed(4))
    said = interpret(AGE, logits)
    width = float(said.high - said.low)
    assert interpret(replace(AGE, abstain=width), logits).abstains.tolist() == [False]
    assert interpret(replace(AGE, abstain=width - 0.01), logits).abstains.tolist() == [True]


def test_attributes_stand_alone():
    output = interpret(replace(EMOTION, kind="multilabel"), torch.tensor([[0.0, 9.0, -9.0]]))
    assert torch.allclose(output.probabilities, torch.tensor([[0.5, 0.9999, 0.0001]]), atol=1e-4)
    assert output.abstains is None


def test_age_is_a_mean_with_an_interval():
    logits = torch.full((2, 117), -30.0)
    logits[0, 40] = 30.0  # certain
    logits[1, 20:31] = 0.0  # eleven years alike
    output = interpret(replace(AGE, abstain=5.0), logits)
    assert torch.allclose(output.value, torch.tensor([40.0, 25.0]), atol=1e-3)
    assert torch.allclose(output.low, torch.tensor([39.6, 20.6]), atol=1e-2)
    assert torch.allclose(output.high, torch.tensor([40.4, 29.4]), atol=1e-2)
    assert output.abstains.tolist() == [False, True]


def test_quantiles_stay_on_the_scale():
    years = torch.arange(117.0)
    ends = torch.eye(117)[[0, 116]]
    assert quantiles(ends, years, (0.1,)).flatten().tolist() == pytest.approx([0.0, 115.6], abs=1e-3)
    assert (quantiles(ends * 0.999, years, (0.5, 0.9999)) <= 116.5).all()


@pytest.mark.parametrize("spec", [EMOTION, AGE, replace(EMOTION, kind="multilabel", abstain=None)])
def test_no_face(spec):
    output = interpret(spec, torch.zeros(0, len(spec.labels)))
    assert output.probabilities.shape == (0, len(spec.labels))
    assert (output.value is None) == (spec.kind != "age")
