"""Training of several branches in one run, on crops that are augmented again each time.

Each step draws a batch from every data set, augments the crops, runs the trunk once over all of them, and trains each
branch on the rows of its own set; the trunk is frozen, or learns from all of them. All randomness follows from the seed
and the number of the step, so a run that was interrupted goes on exactly as if it had not been.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.fit.losses import LOSSES
from training.fit.progress import RunLog, progress_bar
from training.joint.batches import Batches
from training.joint.checkpoint import Checkpoint
from training.joint.evaluation import DRIFT, JointEvaluation
from training.joint.regions import find_regions
from training.joint.state import JointState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from models.trunks.base import Trunk
    from training.fit.trainable_branch import TrainableBranch
    from training.joint.batches import Batch, Mix, TaskBatch
    from training.joint.setup import JointSetup
    from training.joint.task import JointTask
    from training.joint.tuned_trunk import TrunkPass

_CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class JointResult:
    """A branch after training, with the averaged weights that scored best."""

    branch: TrainableBranch
    score: float
    step: int


class JointRun:
    """A run that can be interrupted at any step."""

    def __init__(self, setup: JointSetup, folder: Path) -> None:
        """Set the run up and go on from its checkpoint, if there is one.

        Args:
            setup: branches, trunk and data.
            folder: for checkpoint and run log.

        Raises:
            TrainingError: the checkpoint belongs to another run.
        """
        self._setup, self._options = setup, setup.options
        self.state = JointState(setup)
        self.evaluation = JointEvaluation(setup, self.state, RunLog(folder))
        self.batches = Batches(setup, self.state.tasks)
        self._checkpoint = Checkpoint(folder / _CHECKPOINT, setup.facts())
        if not self._checkpoint.restore(self.state):
            self.state.standardise(setup)
            self.state.begin_as(setup.base)

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.state.step

    @property
    def trunk(self) -> Trunk:
        """The trunk that goes with the branches: the running mean of one that learns, float32; else the given one."""
        return self.state.trunk.average

    def run(self, until: int | None = None, checkpoint_seconds: float = 300.0) -> list[JointResult]:
        """Train to the end, or to a step; a checkpoint is written every few minutes and at the end."""
        end = min(until or self._options.steps, self._options.steps)
        saved = time.monotonic()
        with progress_bar("training", self._options.steps, self.step) as advance:
            while self.step < end and not self._finished():
                for task in self.state.tasks:
                    if task.begins_second(self.step):
                        find_regions(self.state, task, self._setup)
                losses = self._train_step()
                advance(self.step, "")
                if self.step % self._options.evaluate_every == 0 or self.step == self._options.steps:
                    self.evaluation.update(losses)
                if time.monotonic() - saved > checkpoint_seconds:
                    self._checkpoint.save(self.state)
                    saved = time.monotonic()
        self._checkpoint.save(self.state)
        if self.step >= self._options.steps or self._finished():
            self.state.trunk.return_to_best()
        return [_result(task) for task in self.state.tasks]

    def _finished(self) -> bool:
        """Return whether no branch has become better for long; beside a trunk that only moves on, none ever has not."""
        if self._options.trunk and not self._options.trunk.keeps_best:
            return False
        waited = self._options.patience * self._options.evaluate_every
        return all(task.is_done(self.step, waited) for task in self.state.tasks)

    def _train_step(self) -> dict[str, Tensor]:
        """Learn from one batch; return the losses by task, and the trunk's drift."""
        state = self.state
        batch = self.batches.take(state.step)
        torch.manual_seed(self._setup.seed * 1_000_003 + state.step)  # dropout
        found = state.trunk.learn(batch.crops, batch.reference)
        taught = self._taught(batch, found)
        losses = {
            task.name: self._loss(task, found.maps, batch.tasks[task.name], taught.get(task.name))
            for task in state.tasks
        }
        for task in state.tasks:
            if (other := self._loss_elsewhere(task, found, batch)) is not None:
                losses[task.name] = losses[task.name] + other
        drift = found.drift
        every = [*losses.values(), *([] if drift is None else [drift])]
        torch.stack(every).sum().backward()  # type: ignore[no-untyped-call]
        state.advance(self._options.steps)
        return losses if drift is None else {**losses, DRIFT: drift}

    def _taught(self, batch: Batch, found: TrunkPass) -> dict[str, Tensor]:
        """Return the answers of teachers or of the base, by task, for the crops before they were degraded."""
        teachers, base = self._setup.teachers, self._setup.base
        places = {task: part.place for task, part in batch.tasks.items()}
        if teachers:
            return teachers.answers(batch.reference[: batch.augmented], places)
        return base.answers(found.original, places) if base and base.branches else {}

    def _loss_elsewhere(self, task: JointTask, found: TrunkPass, batch: Batch) -> Tensor | None:
        """Return the weighed loss of the base's answers for the faces of other data sets; None where it is off."""
        base, options = self._setup.base, self._options.base
        if not base or task.name not in base or not options or not options.elsewhere:
            return None
        rows = batch.others(task.name)
        if not len(rows):
            return None
        maps = {depth: found.maps[depth][rows] for depth in task.branch.branch.depths}
        soft = base.answer(task.name, found.original, rows)
        task.branch.train()
        with torch.autocast(self._setup.device.type, torch.bfloat16):
            logits = task.branch(maps)
        loss = LOSSES[task.recipe.fit.loss](logits + task.offset, soft, task.resting.masked(task.weights))
        return loss * options.elsewhere

    def _loss(self, task: JointTask, maps: Mapping[str, Tensor], batch: TaskBatch, taught: Tensor | None) -> Tensor:
        maps = {depth: maps[depth][batch.place][batch.keep] for depth in task.branch.branch.depths}
        soft, offset = batch.soft, batch.offset
        if taught is not None:
            soft = soft.lerp(taught[batch.keep], self._setup.taught_share)
        if batch.mix:
            maps, soft, offset = _mixed(maps, batch.mix), batch.mix.of(soft), batch.mix.of(offset)
        task.branch.train()
        with torch.autocast(self._setup.device.type, torch.bfloat16):
            logits, first = task.branch.answers(maps)
        loss, weights = LOSSES[task.recipe.fit.loss], task.resting.masked(task.weights)
        found = loss(logits + task.offset + offset, soft, weights)
        return found if first is None else found + loss(first, soft, weights)


def _result(task: JointTask) -> JointResult:
    branch = copy.deepcopy(task.branch)
    branch.load_state_dict(task.best)
    return JointResult(branch, task.score, task.step)


def _mixed(maps: Mapping[str, Tensor], mix: Mix) -> dict[str, Tensor]:
    return {depth: mix.of(found) for depth, found in maps.items()}
