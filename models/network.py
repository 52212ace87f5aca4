"""One pass for all heads: the trunk runs once, only as deep as its branches need, and each branch reads its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.batches import powers_of_two
from models.branches import averaged, interpret
from models.folding import fold_batch_norm, freeze
from models.graphs import Graphed
from models.precision import compute_dtype
from models.trunk import EMBEDDING_DEPTH
from models.types import FaceOutputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.branches import Branch
    from models.trunk import Trunk, TrunkLayout
    from models.types import HeadOutput

CPU_BATCH = 8  # faces whose maps still fit the second-level cache of two cores; measured in docs/releases.md
GPU_BATCH = 256
HEAD_BATCH = 64  # faces on a CPU; linear layers read all their weights once a batch, so it should be large


class SharedNetwork:
    """Trunk and branches, in the number format and memory layout that their device likes best."""

    def __init__(
        self, trunk: Trunk, branches: Sequence[Branch], device: torch.device, *, identity: bool = True
    ) -> None:
        """Take over trunk and branches, whose weights are converted in place.

        Args:
            trunk: with its weights.
            branches: with theirs; one for each task.
            device: where to run.
            identity: whether embeddings are given; without, the trunk runs only as deep as the branches need.
        """
        self._dtype = compute_dtype(device)
        self._trunk = fold_batch_norm(freeze(trunk)).to(device, self._dtype).to(memory_format=torch.channels_last)
        self._branches = {branch.spec.task: freeze(branch).to(device) for branch in branches}
        for branch in branches:
            branch.set_trunk_precision(self._dtype)
        self._identity = identity
        depths = {depth for branch in branches for depth in branch.spec.depths}
        self._embeds = identity or EMBEDDING_DEPTH in depths
        self._maps = depths - {EMBEDDING_DEPTH} | ({trunk.layout.last_map} if self._embeds else set())
        self._device = device
        self._batch = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        self._forward = Graphed(self._intermediates) if device.type == "cuda" else self._intermediates

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the branches."""
        return tuple(self._branches)

    @property
    def layout(self) -> TrunkLayout:
        """The trunk's."""
        return self._trunk.layout

    @torch.inference_mode()
    def infer(self, crops: Tensor) -> FaceOutputs:
        """Say everything about aligned faces.

        Args:
            crops: (N, 3, S, S) uint8 RGB, S the side of the trunk's layout, on any device; N may be 0.

        Returns:
            Embeddings and heads on the CPU; embeddings are (N, 0) when identity is off.
        """
        size = max(HEAD_BATCH, self._batch)
        parts = [self._run(crops[start : start + size].to(self._device)) for start in range(0, len(crops), size)]
        found = {task: [part[task] for part in parts] for task in ("", *self.tasks)}
        size = self.layout.embedding_size if self._identity else 0
        embeddings = torch.cat([torch.zeros(0, size), *found.pop("")])
        return FaceOutputs(embeddings, {task: self._answer(task, logits) for task, logits in found.items()})

    def _run(self, crops: Tensor) -> dict[str, Tensor]:
        """Return logits by task, and the embeddings under the empty name, float32 on the CPU."""
        maps = self._run_trunk(crops.contiguous(memory_format=torch.channels_last))
        if self._embeds:
            maps[EMBEDDING_DEPTH] = self._trunk.embed(maps[self.layout.last_map])
        embeddings = maps[EMBEDDING_DEPTH] if self._identity else torch.zeros(len(crops), 0)
        return {"": embeddings.cpu()} | {task: logits.cpu() for task, logits in self._heads(maps).items()}

    def _heads(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits by task; what several branches read alike is averaged once."""
        logits, known = {}, {}
        for task, branch in self._branches.items():
            spec = branch.spec
            read = {depth: maps[depth] for depth in spec.depths}
            for depth in spec.depths[1 if spec.stages else 0 :]:
                if (depth, spec.pool) not in known:
                    known[depth, spec.pool] = averaged(maps[depth], spec.pool)
                read[depth] = known[depth, spec.pool]
            logits[task] = branch(read)
        return logits

    def _run_trunk(self, crops: Tensor) -> dict[str, Tensor]:
        """Run the trunk in small batches, whose maps stay in the caches; what follows it likes large ones."""
        parts = [self._forward(crops[rows]) for rows in powers_of_two(len(crops), self._batch)]
        return {depth: torch.cat([part[depth] for part in parts]) for depth in self._maps}

    def _intermediates(self, crops: Tensor) -> dict[str, Tensor]:
        return self._trunk.forward_intermediates(crops, self._maps)

    def _answer(self, task: str, logits: list[Tensor]) -> HeadOutput:
        spec = self._branches[task].spec
        return interpret(spec, torch.cat([torch.zeros(0, len(spec.labels)), *logits]))
