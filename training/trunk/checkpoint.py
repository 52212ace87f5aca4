"""Checkpoints of a trunk's training: weights, running statistics, the optimiser's state, and the best weights so far.

No random state is kept: all randomness follows from the seed and the number of the step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from safetensors import safe_open
from safetensors.torch import save_file

from training.errors import TrainingError
from training.trunk.held_out import Best

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer


@dataclass(slots=True)
class RunState:
    """Everything of a run that changes from step to step."""

    trunk: nn.Module
    head: nn.Module
    optimiser: Optimizer
    step: int = 0
    best: Best = field(default_factory=Best)
    best_trunk: dict[str, Tensor] = field(default_factory=dict)
    """Weights and statistics of the trunk at the best step; empty before the first evaluation."""

    def keep_as_best(self, score: float) -> None:
        """Keep the trunk as it is now."""
        self.best, self.best_trunk = Best(score, self.step), _copies(self.trunk.state_dict())


def save_checkpoint(state: RunState, path: Path, facts: str) -> None:
    """Write the state; an older checkpoint stays until the new one is complete.

    Args:
        state: of the run.
        path: of the file.
        facts: what distinguishes the run from others.
    """
    kept = {"trunk": state.trunk.state_dict(), "head": state.head.state_dict(), "best": state.best_trunk}
    tensors = {f"{part}/{key}": value for part, tensors in kept.items() for key, value in tensors.items()}
    for number, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{number}/{key}": value for key, value in moments.items() if value is not None}
    about = {"facts": facts, "step": str(state.step), "best": json.dumps(asdict(state.best))}
    partial = path.with_suffix(".partial")
    save_file(_copies(tensors), partial, about)
    partial.replace(path)


def load_checkpoint(state: RunState, path: Path, facts: str) -> bool:
    """Read a checkpoint into the state; return whether there is one.

    Raises:
        TrainingError: it belongs to another run.
    """
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    if about["facts"] != facts:
        raise TrainingError(f"{path} belongs to another run; choose another folder, or remove it")
    state.trunk.load_state_dict(_below(tensors, "trunk/"))
    state.head.load_state_dict(_below(tensors, "head/"))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, "optimiser/").items():
        number, _, kind = key.partition("/")
        moments.setdefault(int(number), {})[kind] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.step, state.best = int(about["step"]), Best(**json.loads(about["best"]))
    state.best_trunk = _below(tensors, "best/")
    return True


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
