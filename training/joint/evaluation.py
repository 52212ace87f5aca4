"""Scores of a joint run on rows that it does not learn from: held-out rows while it trains, then validation rows."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.errors import TrainingError
from training.fit.targets import labelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.face_sets import DataName
    from training.fit.progress import RunLog
    from training.joint.setup import JointSetup
    from training.joint.state import JointState
    from training.joint.task import JointTask

_log = logging.getLogger(__name__)

DRIFT = "embedding"  # in the run log: the loss of holding the embeddings, and their mean cosine to the original's
_CROPS_PER_PASS = 128


@dataclass(frozen=True, slots=True)
class _Scored:
    """A branch on its held-out rows."""

    score: float
    loss: float


class JointEvaluation:
    """Judges the branches of a run on crops that are not augmented, cut as users get them."""

    def __init__(self, setup: JointSetup, state: JointState, run_log: RunLog) -> None:
        self._views, self._tuning, self._device = setup.views, setup.options.trunk, setup.device
        self._state, self._run_log = state, run_log

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Score the held-out rows, keep the best weights of each branch, and write a line of the run log for each.

        Args:
            losses: of the last step, by task; DRIFT among them where embeddings are held.

        Raises:
            TrainingError: a loss is not finite.
        """
        values = {name: found.item() for name, found in losses.items()}
        if bad := [name for name, loss in values.items() if not math.isfinite(loss)]:
            step = self._state.step
            raise TrainingError(f"the loss of {bad[0]} is {values[bad[0]]} at step {step}; choose smaller rates")
        found = {task: scored for name in self._views for task, scored in self._score_set(name).items()}
        for group in self._groups():
            self._keep_together(group, found)
        for task in self._state.tasks:
            self._write(task.name, values[task.name], found[task.name].score, task.score)
        if self._tuning and self._tuning.hold:
            kept = 1 - values[DRIFT] / self._tuning.hold
            self._write(DRIFT, values[DRIFT], kept, kept)

    def logits(self, task: str, rows: NDArray[np.int64], branch: torch.nn.Module) -> Tensor:
        """Apply a branch to some rows of its data set: (M, K) float32."""
        return self._logits({task: branch}, self._state.task(task).recipe.data, rows)[task]

    def validation_rows(self, task: str) -> NDArray[np.int64]:
        """Return the labelled rows of the validation split, from which training on its own split learns nothing."""
        found = self._state.task(task)
        faces = self._views[found.recipe.data].faces
        return labelled(task, found.soft, np.flatnonzero(faces.split == "val"))

    def _groups(self) -> list[list[JointTask]]:
        """Group the tasks whose weights are only good together: shared layers, or a trunk that learns."""
        if self._tuning and self._tuning.keeps_best:
            return [self._state.tasks]
        firsts = dict.fromkeys(task.first.name for task in self._state.tasks)
        return [[task for task in self._state.tasks if task.first.name == first] for first in firsts]

    def _keep_together(self, group: list[JointTask], found: Mapping[str, _Scored]) -> None:
        """Keep the weights of some tasks if they are better than before: by the score of one, the losses of several."""
        losses = sum(found[task.name].loss for task in group)
        rank = found[group[0].name].score if len(group) == 1 else -losses
        moves_on = bool(self._tuning and not self._tuning.keeps_best)  # such a trunk takes its branches along
        if rank > group[0].rank or moves_on:
            for task in group:
                task.keep(found[task.name].score, rank, self._state.step)
            if self._tuning and self._tuning.keeps_best:
                self._state.trunk.keep()

    def _score_set(self, name: DataName) -> dict[str, _Scored]:
        """Score the branches of one data set, which share the passes of the trunk."""
        tasks = [task for task in self._state.tasks if task.recipe.data == name]
        rows = np.unique(np.concatenate([task.held for task in tasks]))
        logits = self._logits({task.name: task.average for task in tasks}, name, rows)
        found = {}
        for task in tasks:
            own = np.isin(rows, task.held)
            mine, soft = logits[task.name][own], task.soft[rows[own]]
            task.resting.update(mine, soft, task.weights)
            found[task.name] = _Scored(task.judge(mine, soft), task.held_out_loss(mine, soft))
        return found

    @torch.inference_mode()
    def _logits(
        self, branches: Mapping[str, torch.nn.Module], name: DataName, rows: NDArray[np.int64]
    ) -> dict[str, Tensor]:
        pixels = self._views[name].pixels[-1]
        found: dict[str, list[Tensor]] = {task: [] for task in branches}
        for branch in branches.values():
            branch.eval()
        for start in range(0, len(rows), _CROPS_PER_PASS):
            crops = torch.from_numpy(np.array(pixels[rows[start : start + _CROPS_PER_PASS]]))
            maps = self._state.trunk.maps(crops)
            with torch.autocast(self._device.type, torch.bfloat16):
                for task, branch in branches.items():
                    found[task].append(branch(maps).float().cpu())
        return {task: torch.cat(parts) for task, parts in found.items()}

    def _write(self, task: str, loss: float, reached: float, best: float) -> None:
        step = self._state.step
        self._run_log.write(task, step, loss, reached, best)
        facts = {"action": "evaluated", "task": task, "step": step, "held_out": round(reached, 4)}
        _log.info("scored the held-out rows", extra=facts)
