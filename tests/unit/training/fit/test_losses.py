"""Class-balanced losses and sampling, on counts that can be checked by hand."""

from __future__ import annotations

import pytest
import torch

from training.fit import losses
from training.fit.losses import one_hot

UNEVEN = one_hot(torch.tensor([0] * 90 + [1] * 9 + [2]), 3)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_a_loss_is_the_mean_of_its_rows(name):
    logits, targets = torch.randn(5, 7), torch.rand(5, 7)
    rows = losses.ROW_LOSSES[name](logits, targets, torch.ones(7))
    assert rows.shape == (5,)
    assert torch.allclose(losses.LOSSES[name](logits, targets, torch.ones(7)), rows.mean())


def test_effective_numbers_go_from_equal_to_inverse_counts():
    assert losses.effective_number_weights(UNEVEN, 0.0).tolist() == pytest.approx([1, 1, 1])
    weights = losses.effective_number_weights(UNEVEN, 1 - 1e-6)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[2] / weights[0]) == pytest.approx(90, rel=0.01)


def test_the_offset_of_logits_answers_with_the_shares_where_nothing_is_known():
    assert losses.logit_offset(UNEVEN).softmax(0).tolist() == pytest.approx([0.9, 0.09, 0.01])
    assert losses.logit_offset(UNEVEN, strength=0.0).tolist() == [0, 0, 0]


def test_class_weights_favour_the_rare_class_and_keep_the_mean():
    soft = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    assert losses.class_weights(soft, 0.0).tolist() == [1, 1]
    weights = losses.class_weights(soft, 1.0)
    assert weights[1] / weights[0] == pytest.approx(9)
    assert (soft @ weights).mean() == pytest.approx(1)


def test_balanced_sampling_draws_all_classes_alike():
    weights = losses.sampling_weights(UNEVEN, 1.0)
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights @ UNEVEN).tolist() == pytest.approx([1 / 3] * 3)
    assert (losses.sampling_weights(UNEVEN, 0.0) @ UNEVEN).tolist() == pytest.approx([0.9, 0.09, 0.01])


def test_draws_repeat_with_their_generator_and_leave_out_rows_without_a_label():
    targets = torch.cat([UNEVEN, torch.zeros(50, 3)])
    first, second = (losses.draw_rows(targets, 1000, 1.0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert int(first.max()) < 100
    assert targets[first].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
