"""The parts of a joint run that learn: branches, trunk and optimiser, after some steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.fit.fit import parameter_groups
from training.joint.task import JointTask
from training.joint.tuned_trunk import RunTrunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.joint.setup import JointSetup
    from training.joint.teachers import Base

_STANDARDISED_ON = 768  # crops whose features set mean and deviation


class JointState:
    """Branches, trunk and optimiser; a checkpoint holds all of it."""

    def __init__(self, setup: JointSetup) -> None:
        """Draw the weights of the branches; the trunk is the one that is given, or a copy of it that learns."""
        recipes, views = setup.recipes, setup.views
        self.step = 0
        self.tasks = [JointTask(r, setup.trunk, views[r.data].faces, setup.splits, setup.seed) for r in recipes]
        depths = {depth for task in self.tasks for depth in task.branch.branch.depths}
        share_layers(self.tasks)
        self.trunk = RunTrunk(setup.trunk, depths, setup.options.trunk, original=setup.base is not None)
        groups = [group for task in self.tasks for group in _own_groups(task)]
        groups += self.trunk.groups()
        fit, self._descent = recipes[0].fit, setup.options.descent
        self.optimiser = self._descent.optimise(groups, fit.learning_rate, fit.weight_decay)
        self._peaks = [float(group["lr"]) for group in groups]

    def task(self, name: str) -> JointTask:
        """Return the branch of a task."""
        return next(task for task in self.tasks if task.name == name)

    def standardise(self, setup: JointSetup, tasks: Sequence[JointTask] | None = None) -> None:
        """Bring the features of some branches to mean 0 and deviation 1 on some crops that are not augmented.

        Args:
            setup: of the run.
            tasks: whose branches; None for all.
        """
        for task in self.tasks if tasks is None else tasks:
            rows = np.random.default_rng(setup.seed).choice(task.rows, min(len(task.rows), _STANDARDISED_ON), False)
            pixels = setup.views[task.recipe.data].pixels[-1]
            crops = torch.from_numpy(np.array(pixels[np.sort(rows)]))
            if task is self.tasks[0] and self.step == 0:  # a trunk that has learnt keeps its running mean
                self.trunk.settle(crops)
            maps = self.trunk.maps(crops)
            with torch.no_grad():
                task.standardise({depth: maps[depth].float() for depth in task.branch.branch.depths})

    def begin_as(self, base: Base | None) -> None:
        """Start the standardised branches with the weights of the base's branches of their tasks.

        Raises:
            TrainingError: a branch of the base has another shape.
        """
        for task in self.tasks:
            if base and task.name in base:
                task.begin_as(base.branches[task.name])

    def advance(self, steps: int) -> None:
        """Take the optimiser's step for the gradients that are there, and move the running means.

        Args:
            steps: of the whole run; the learning rate follows from the share of them that is done.
        """
        for group, peak in zip(self.optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._descent.share(self.step, steps)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for task in self.tasks:
            task.follow(self.step)
        self.trunk.follow(min(self.tasks[0].recipe.fit.average, (self.step + 1) / (self.step + 10)))
        self.step += 1


def share_layers(tasks: Sequence[JointTask]) -> None:
    """Keep one copy of shared layers of one shape for all tasks of a data set that have them."""
    firsts: dict[object, JointTask] = {}
    for task in tasks:
        spec = task.recipe.spec
        first = firsts.setdefault((task.recipe.data, spec.shared_shape), task)
        if spec.shared and first is not task:
            task.share_with(first)


def _own_groups(task: JointTask) -> list[dict[str, Any]]:
    """Group the parameters of a task, without those that it shares with an earlier one."""
    groups = parameter_groups(task.branch, task.recipe.fit)
    if task.first is task:
        return groups
    others = {id(parameter) for parameter in task.first.branch.parameters()}
    return [{**group, "params": [p for p in group["params"] if id(p) not in others]} for group in groups]
