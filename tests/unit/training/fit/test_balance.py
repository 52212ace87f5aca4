"""Balance and early stopping of each label by itself, on counts that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.branches import BranchSpec
from training.errors import RecipeError
from training.fit.balance import MAX_COPIES, Balance
from training.fit.features import Features
from training.fit.fit import Examples, FitOptions, fit, logits_of
from training.fit.losses import LOSSES, binary_terms
from training.fit.resting import RestingLabels
from training.fit.targets import mean_balanced_accuracy, score
from training.fit.trainable_branch import TrainableBranch

BOTH = Balance(both_answers=True)
SPEC = BranchSpec(task="attributes", kind="multilabel", labels=("bald", "hat", "smile"), depths=("conv_14",), pool=1)
# Of 40 faces 2 are bald, 10 have a hat and 20 smile.
SOFT = (torch.arange(40)[:, None] % torch.tensor([20, 4, 2]) == 0).float()


def drawn_for(label, logits, rows_of_each=4000):
    """Return the mean cross-entropy of a label in a batch with as many faces with it as without."""
    random = torch.Generator().manual_seed(label)
    kinds = [torch.nonzero(SOFT[:, label] == answer)[:, 0] for answer in (0, 1)]
    rows = torch.cat([kind[torch.randint(len(kind), (rows_of_each,), generator=random)] for kind in kinds])
    return binary_terms(logits[rows], SOFT[rows], torch.ones(3))[:, label].mean()


def test_weights_of_answers_equal_balanced_batches_of_each_label_in_expectation():
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weights = BOTH.weights(SOFT)
    assert weights.shape == (2, 3)
    weighed = binary_terms(logits, SOFT, weights).mean(dim=0)
    for label in range(3):
        assert float(weighed[label]) == pytest.approx(float(drawn_for(label, logits)), rel=0.03)
    assert LOSSES["binary"](logits, SOFT, weights) == pytest.approx(float(weighed.mean()), rel=1e-5)


def test_equal_weights_of_both_answers_are_those_of_a_column():
    logits, soft = torch.randn(5, 3), torch.rand(5, 3)
    column = torch.tensor([1.0, 0.5, 2.0])
    assert torch.allclose(
        binary_terms(logits, soft, column), binary_terms(logits, soft, column.expand(2, 3)), atol=1e-6
    )


def test_a_label_that_no_face_or_every_face_has_keeps_finite_weights():
    weights = BOTH.weights(torch.tensor([[0.0, 1.0]] * 8))
    assert weights.tolist() == [[0.5, 4.0], [4.0, 0.5]]


def test_faces_with_a_rare_label_are_shown_more_often():
    copies = Balance(rare_below=0.12).copies(SOFT)
    assert copies[[0, 20]].tolist() == [2, 2]  # 0.12 / 0.05, rounded down
    assert set(np.delete(copies, [0, 20]).tolist()) == {1}
    assert Balance(rare_below=0.9).copies(SOFT).tolist()[:4] == [MAX_COPIES, 1, 1, 1]
    assert set(Balance().copies(SOFT).tolist()) == {1}


def test_balanced_accuracy_is_the_mean_over_labels_with_both_answers():
    soft = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    logits = torch.tensor([[1.0, 9, -1], [-1, 9, 1], [-1, 9, -1], [1, 9, -1]])
    # bald: all with it, two of three without; nobody has a hat; one of two smiles is found, all without
    assert mean_balanced_accuracy(logits, soft) == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 1) / 2) / 2)
    assert score(SPEC, BOTH)(logits, soft) == mean_balanced_accuracy(logits, soft)
    assert score(SPEC)(logits, soft) == pytest.approx(6 / 12)


def test_a_label_rests_after_its_patience_and_never_learns_again():
    resting = RestingLabels(2, patience=2)
    soft, weights = torch.zeros(1, 2), torch.ones(2)
    losses = [(3, 3), (2, 4), (1, 5), (0, -9)]  # logits; a lower one is a smaller loss
    learning = []
    for logits in losses:
        resting.update(torch.tensor([logits], dtype=torch.float32), soft, weights)
        learning.append(resting.learning.tolist())
    assert learning == [[True, True], [True, True], [True, False], [True, False]]
    assert resting.masked(weights).tolist() == [1, 0]
    assert resting.masked(torch.ones(2, 2)).tolist() == [[1, 0], [1, 0]]
    again = RestingLabels(2, patience=2)
    again.load(resting.state())
    assert again.state() == resting.state()
    assert not again.all_rest


def test_without_patience_no_label_rests():
    resting = RestingLabels(2, patience=None)
    for _ in range(5):
        resting.update(torch.ones(1, 2), torch.zeros(1, 2), torch.ones(2))
    assert resting.learning.all()


def examples(signal, seed=0):
    """Return features in which a label shows by so much in a few channels of its own."""
    random = np.random.default_rng(seed)
    maps = random.normal(0, 1, (800, 1, 1, 1024)).astype(np.float16)
    soft = (random.random((800, 3)) < (0.06, 0.3, 0.5)).astype(np.float32)
    for label in range(3):
        maps[..., 16 * label : 16 * label + 16] += (soft[:, label] * signal[label])[:, None, None, None]
    return Examples({"conv_14": Features(maps, maps)}, torch.from_numpy(soft), np.arange(600))


def trained(found, options):
    torch.manual_seed(0)
    head = TrainableBranch(SPEC, dropout=0.3)
    best = fit(head, found, score(SPEC, options.balance), options)
    return head, best


def test_balance_finds_rare_labels_more_often():
    found = examples((0.5, 0.5, 0.5))
    plain = FitOptions(loss="binary", epochs=5, batch=32, average=0.5)
    accuracies = []
    for options in (plain, replace(plain, balance=replace(BOTH, rare_below=0.2), label_patience=3)):
        head, _ = trained(found, options)
        rows = np.arange(600, 800)
        accuracies.append(mean_balanced_accuracy(logits_of(head, found.features, rows), found.targets[600:]))
    assert accuracies[1] > accuracies[0] + 0.03


def test_training_ends_when_all_labels_rest():
    options = FitOptions(loss="binary", epochs=30, patience=30, batch=32, average=0.5, label_patience=1)
    epochs = []
    head = TrainableBranch(SPEC, dropout=0.0)
    fit(head, examples((0, 0, 0)), score(SPEC), options, epochs.append)
    assert len(epochs) < 30


def test_options_for_single_labels_need_a_loss_of_single_labels():
    for options in ({"balance": BOTH}, {"label_patience": 2}):
        with pytest.raises(RecipeError, match="one answer for all labels"):
            FitOptions(loss="cross_entropy", **options)
    with pytest.raises(RecipeError, match="weights of their own"):
        Balance(both_answers=True, weight=1)
    with pytest.raises(RecipeError, match="from 0 to below 1"):
        Balance(rare_below=1.5)
