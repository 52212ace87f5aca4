"""Checkpoints of a joint run: weights, moments and scores.

No random state is kept: all randomness follows from the seed and the number of the step.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save_file

from training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from training.joint.state import JointState
    from training.joint.task import JointTask


class Checkpoint:
    """One file, which is replaced as a whole."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Name the file.

        Args:
            path: of the file; need not be there yet.
            facts: of the run, see ``JointSetup.facts``.
        """
        self._path, self._facts = path, facts

    def save(self, state: JointState) -> None:
        """Write the state; an older checkpoint stays until the new one is complete."""
        progress = {task.name: [task.score, task.step, task.rank] for task in state.tasks}
        resting = {task.name: task.resting.state() for task in state.tasks}
        about = {"facts": self._facts, "step": state.step, "progress": progress, "resting": resting}
        about["only_first"] = {task.name: task.branch.only_first for task in state.tasks}
        partial = self._path.with_suffix(".partial")
        tensors = {key: value.clone() for key, value in _tensors(state).items()}
        save_file(tensors, partial, {"state": json.dumps(about)})
        partial.replace(self._path)

    def restore(self, state: JointState) -> bool:
        """Read the checkpoint into a state; return whether there is one.

        Raises:
            TrainingError: the checkpoint belongs to another run.
        """
        if not self._path.is_file():
            return False
        with safe_open(self._path, framework="pt") as file:
            about = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        if about["facts"] != self._facts:
            raise TrainingError(
                f"{self._path} belongs to another run (trunk, teachers, splits, branches, options or seed differ); "
                "choose another folder, or remove it to start again"
            )
        state.step = int(about["step"])
        for task in state.tasks:
            _restore_task(task, tensors, about["progress"][task.name])
            task.resting.load(about["resting"][task.name])
            task.branch.only_first = task.average.only_first = bool(about["only_first"][task.name])
        state.trunk.load(tensors)
        _restore_moments(state, _below(tensors, "optimiser/"))
        return True


def _tensors(state: JointState) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for task in state.tasks:
        kinds = {"head": task.branch.state_dict(), "average": task.average.state_dict(), "best": task.best}
        for kind, weights in kinds.items():
            tensors |= {f"{task.name}/{kind}/{key}": value.contiguous() for key, value in weights.items()}
    tensors |= state.trunk.state()
    for number, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{key}": value.contiguous() for key, value in moments.items()}
    return tensors


def _restore_task(task: JointTask, tensors: Mapping[str, Tensor], progress: list[float]) -> None:
    task.branch.load_state_dict(_below(tensors, f"{task.name}/head/"))
    task.average.load_state_dict(_below(tensors, f"{task.name}/average/"))
    task.best = _below(tensors, f"{task.name}/best/")
    task.score, task.step, task.rank = float(progress[0]), int(progress[1]), float(progress[2])


def _restore_moments(state: JointState, tensors: Mapping[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, kind = key.partition("/")
        moments.setdefault(int(number), {})[kind] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
