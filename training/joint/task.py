"""One branch of a joint run: its rows and targets, its weights and their running mean."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from training.fit.losses import LOSSES, group_logit_offset
from training.fit.resting import RestingLabels
from training.fit.targets import group_numbers, labelled, score, targets
from training.fit.trainable_branch import TrainableBranch, follow_statistics

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor, nn

    from models.branches import Branch
    from models.trunks.base import Trunk
    from training.data.face_sets import FaceSet
    from training.recipes.recipe import HeadRecipe


class JointTask:
    """A branch that is trained with others."""

    def __init__(self, recipe: HeadRecipe, trunk: Trunk, faces: FaceSet, splits: Collection[str], seed: int) -> None:
        """Draw the weights, and the held-out rows of some splits; the trunk gives layout and device."""
        self.recipe, self.name = recipe, recipe.spec.task
        self.soft = targets(self.name, faces, len(recipe.spec.labels), recipe.spread_years)
        rows = labelled(self.name, self.soft, np.flatnonzero(np.isin(faces.split, list(splits))))
        rows = np.random.default_rng(seed).permutation(rows)
        held = max(1, round(len(rows) * recipe.fit.held_out))
        self.held, self.rows = np.sort(rows[:held]), rows[held:]
        self.may_learn = np.zeros(len(faces), np.bool_)
        self.may_learn[self.rows] = True
        self.copies = np.zeros(len(faces), np.int64)
        self.copies[self.rows] = recipe.fit.balance.copies(self.soft[self.rows])
        device, shown = next(trunk.parameters()).device, self.soft[np.repeat(self.rows, self.copies[self.rows])]
        self.weights = recipe.fit.balance.weights(shown).to(device)
        self.offset = recipe.fit.balance.offset(shown).to(device)
        """(K,) of the logits while training."""
        self.group_offset = self._group_offset(faces).to(device)
        """(N, K) of each face's logits, on top of it."""
        self.resting = RestingLabels(len(recipe.spec.labels), recipe.fit.label_patience)
        torch.manual_seed(seed)
        self.branch = TrainableBranch(
            recipe.spec, dropout=recipe.dropout, layout=trunk.layout, regresses=recipe.fit.loss == "years"
        )
        if recipe.copies:
            self.branch.start_from(trunk)
        self.branch.to(device)
        self.average = copy.deepcopy(self.branch)
        self.best = copy.deepcopy(self.branch.state_dict())
        self.score, self.step, self.rank = -math.inf, 0, -math.inf
        self.judge = score(recipe.spec, recipe.fit.balance)
        self.first = self
        """The task whose shared layers serve this one."""
        self._second_from = recipe.regions.first_steps if recipe.regions else 0

    def _group_offset(self, faces: FaceSet) -> Tensor:
        """Return (N, K) zeros, or what makes of `offset` that of each face's group."""
        balance = self.recipe.fit.balance
        if not balance.within:
            return torch.zeros(1, 1).expand(len(faces), 1)
        learnt = self.soft * torch.from_numpy(self.may_learn)[:, None]
        groups = group_numbers(faces, balance.within)
        return group_logit_offset(learnt, groups, balance.adjust) - self.offset.cpu()

    def begins_second(self, step: int) -> bool:
        """Return whether the regions of the branch are to be found before this step, counted from 0."""
        return self.branch.only_first and step == self._second_from

    def begin_second(self) -> None:
        """Learn, and answer, with all layers of the branch, and forget the scores of its first answers."""
        self.branch.only_first = self.average.only_first = False
        self.score, self.step, self.rank = -math.inf, 0, -math.inf
        self.resting = RestingLabels(len(self.recipe.spec.labels), self.recipe.fit.label_patience)

    def is_done(self, step: int, waited: int) -> bool:
        """Return whether so many steps made the branch no better, or all of its labels rest."""
        if self.branch.only_first:
            return False
        return self.resting.all_rest or (step - self.step >= waited and self.step > 0)

    def share_with(self, first: JointTask) -> None:
        """Use the shared layers of another task of the same data set, in the branch and in its running mean."""
        self.first = first
        self.branch.share_with(first.branch)
        self.average.share_with(first.average)

    def held_out_loss(self, logits: Tensor, soft: Tensor) -> float:
        """Return the loss of held-out rows: (M, K) logits on the CPU against (M, K) targets."""
        return float(LOSSES[self.recipe.fit.loss](logits, soft, self.weights.cpu()))

    def keep(self, reached: float, rank: float, step: int) -> None:
        """Keep the running mean as the best so far.

        Args:
            reached: its score.
            rank: by which later ones are compared with it, see ``JointEvaluation``.
            step: of the run.
        """
        self.score, self.rank, self.step = reached, rank, step
        self.best = copy.deepcopy(self.average.state_dict())

    def standardise(self, maps: Mapping[str, Tensor]) -> None:
        """Bring the features of some hundred crops to mean 0 and deviation 1; shared layers have those of the first."""
        if self.first is self:
            self.branch.standardise(maps)
        self.average.load_state_dict(self.branch.state_dict())

    def begin_as(self, branch: Branch) -> None:
        """Take the weights of a shipped branch, so that what learns begins with its answers.

        Raises:
            TrainingError: it has another shape.
        """
        self.branch.begin_as(branch, self.offset)
        self.average.load_state_dict(self.branch.state_dict())

    def follow(self, step: int) -> None:
        """Move the running mean; its first steps follow faster, so that it forgets the random start."""
        step -= 0 if self.branch.only_first else self._second_from
        decay = min(self.recipe.fit.average, (step + 1) / (step + 10))
        follow(self.average, self.branch, decay, 0 if self.first is self else self.branch.shared_parameters)


@torch.no_grad()
def follow(mean: nn.Module, now: nn.Module, decay: float, start: int = 0) -> None:
    """Move the weights of a running mean towards those of a model, all in one call, from one of the parameters on."""
    theirs = list(now.parameters())[start:]
    get_ema_multi_avg_fn(decay)(list(mean.parameters())[start:], theirs, 0)  # type: ignore[no-untyped-call]
    follow_statistics(mean, now, decay)
