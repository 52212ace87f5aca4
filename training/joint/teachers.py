"""Teachers: trained models whose answers become part of the targets of another one.

Labels of single annotators are partly wrong, and do not show how near the other answers were. The mean of several
models corrects the one and shows the other.

Source: Hinton et al. 2015, 'Distilling the Knowledge in a Neural Network'; Beyer et al. 2022, 'Knowledge distillation:
A good teacher is patient and consistent' (teachers get the same augmented crops as the student).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.trunks.folding import freeze
from training.fit.features import add_weights, ready
from training.joint.tuned_trunk import RunTrunk

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from models.branches import Branch
    from models.trunks.base import Trunk


@dataclass(frozen=True, slots=True)
class Teacher:
    """One trained model."""

    trunk: Trunk
    branches: Mapping[str, Branch]
    """By task."""


class Teachers:
    """Some models with the same tasks, on one device."""

    def __init__(self, teachers: Sequence[Teacher], share: float) -> None:
        """Copy the teachers.

        Args:
            teachers: at least one, on their device.
            share: of their answers in the targets, 0..1.
        """
        self.share = share
        self._trunks, self._branches = [], []
        for teacher in teachers:
            trunk = copy.deepcopy(teacher.trunk)
            device = next(trunk.parameters()).device
            depths = {depth for branch in teacher.branches.values() for depth in branch.depths}
            self._trunks.append(RunTrunk(freeze(ready(trunk, device)), depths, None))
            self._branches.append({t: freeze(copy.deepcopy(b).to(device)) for t, b in teacher.branches.items()})

    def add_to(self, digest: hashlib._Hash) -> None:
        """Add their weights and their share to a hash."""
        digest.update(str(self.share).encode())
        for trunk, branches in zip(self._trunks, self._branches, strict=True):
            add_weights(digest, trunk.average)
            for branch in branches.values():
                add_weights(digest, branch)

    @torch.no_grad()
    def answers(self, crops: Tensor, places: Mapping[str, slice]) -> dict[str, Tensor]:
        """Answer for some crops.

        Args:
            crops: (N, 3, S, S) RGB 0..255, on any device.
            places: by task, the crops that it is for.

        Returns:
            By task the (n, K) mean of their probabilities.
        """
        every = [trunk.learn(crops).maps for trunk in self._trunks]
        return {task: self._mean(task, every, place) for task, place in places.items()}

    def _mean(self, task: str, every: Sequence[Mapping[str, Tensor]], place: slice) -> Tensor:
        answers = [_answer(branches[task], maps, place) for maps, branches in zip(every, self._branches, strict=True)]
        return torch.stack(answers).mean(dim=0)


class Base:
    """Branches of the release from which a run goes on; they read the maps of its original trunk."""

    def __init__(self, branches: Mapping[str, Branch], share: float) -> None:
        """Keep the branches.

        Args:
            branches: by task, on the run's device.
            share: of their answers in the targets, 0..1.
        """
        self.branches, self.share = {task: freeze(branch) for task, branch in branches.items()}, share

    def add_to(self, digest: hashlib._Hash) -> None:
        """Add their weights and their share to a hash."""
        digest.update(str(self.share).encode())
        for branch in self.branches.values():
            add_weights(digest, branch)

    @torch.no_grad()
    def answers(self, maps: Mapping[str, Tensor], places: Mapping[str, slice]) -> dict[str, Tensor]:
        """Answer, by task, for its crops among those of the maps: (n, K) probabilities of the tasks that it has."""
        device = next(iter(maps.values())).device
        with torch.autocast(device.type, torch.bfloat16):
            return {task: _answer(self.branches[task], maps, place) for task, place in places.items() if task in self}

    @torch.no_grad()
    def answer(self, task: str, maps: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Answer for (m,) rows of the maps: (m, K) probabilities of one of its tasks."""
        with torch.autocast(rows.device.type, torch.bfloat16):
            return _answer(self.branches[task], maps, rows)

    def __contains__(self, task: str) -> bool:
        return task in self.branches


def _answer(branch: Branch, maps: Mapping[str, Tensor], place: slice | Tensor) -> Tensor:
    logits = branch({depth: maps[depth][place] for depth in branch.depths}).float()
    return torch.as_tensor(logits.sigmoid() if branch.spec.kind == "multilabel" else logits.softmax(dim=1))
