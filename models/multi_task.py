"""One forward pass for all heads: the trunk runs once, as deep as its branches need, and each branch reads its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from models.branches import averaged, sharing
from models.errors import ModelError
from models.inference.batches import powers_of_two
from models.inference.graphs import Graphed
from models.inference.precision import compute_dtype
from models.readings import reread, to_grid
from models.trunks.base import EMBEDDING_DEPTH
from models.trunks.folding import fold_batch_norm, freeze
from models.types import FaceOutputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.branches import Branch
    from models.trunks.base import Trunk, TrunkLayout
    from models.types import HeadOutput

CPU_BATCH = 8  # faces whose maps still fit the second-level cache of two cores; measured in docs/measured/speed.md
GPU_BATCH = 256  # faces; smaller powers of two are recorded as well
HEAD_BATCH = 64  # faces on a CPU; linear layers read all their weights once a batch, so it should be large
STORED_BATCH = 1024  # faces whose embeddings are read; outputs of more no longer fit memory that the process keeps


def as_stored(embeddings: Tensor) -> Tensor:
    """Round (N, D) float32 embeddings to float16, as they are stored, so that branches read equal ones later."""
    return embeddings.half().float()


class MultiTaskModel:
    """Trunk and branches, in the number format and memory layout that are fastest on their device."""

    def __init__(
        self, trunk: Trunk, branches: Sequence[Branch], device: torch.device, *, identity: bool = True
    ) -> None:
        """Convert the weights of trunk and branches in place.

        Args:
            trunk: with its weights.
            branches: with theirs; one for each task.
            device: where to run.
            identity: whether embeddings are computed; without, the trunk runs only as deep as the branches need.
        """
        self._dtype = compute_dtype(device)
        self._trunk = fold_batch_norm(freeze(trunk)).to(device, self._dtype).to(memory_format=torch.channels_last)
        self._branches = {branch.spec.task: fold_batch_norm(freeze(branch)).to(device) for branch in branches}
        for branch in branches:
            branch.set_trunk_precision(self._dtype)
        self._shares = share_equal(self._branches)
        self._identity = identity
        depths = {depth for branch in branches for depth in branch.depths}
        self._embeds = identity or EMBEDDING_DEPTH in depths
        self._maps = depths - {EMBEDDING_DEPTH} | ({trunk.layout.last_map} if self._embeds else set())
        self._device = device
        self._columns = {"": trunk.layout.embedding_size} if identity else {}
        self._columns |= {branch.spec.task: len(branch.spec.labels) for branch in branches}
        self._recorded = (
            Graphed(lambda crops: self._read(self._intermediates(crops))) if device.type == "cuda" else None
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the branches."""
        return tuple(self._branches)

    @property
    def layout(self) -> TrunkLayout:
        """Layout of the trunk."""
        return self._trunk.layout

    @torch.inference_mode()
    def infer(self, crops: Tensor) -> FaceOutputs:
        """Run trunk and all branches over aligned faces.

        Args:
            crops: (N, 3, S, S) uint8 RGB, S the side of the trunk's layout, on any device; N may be 0.

        Returns:
            Embeddings and heads on the CPU; embeddings are (N, 0) when identity is off.

        Raises:
            ModelError: a branch returned numbers that are not finite.
        """
        rows = torch.cat([torch.zeros(0, sum(self._columns.values())), *self._rows(crops)])
        found = dict(zip(self._columns, torch.split(rows, list(self._columns.values()), dim=1), strict=True))
        embeddings = found.pop("", torch.zeros(len(crops), 0)).contiguous()
        return FaceOutputs(embeddings, _answers(self._branches, found))

    @torch.inference_mode()
    def embed_at(self, crops: Tensor, depth: str) -> Tensor:
        """Return the (N, C) L2-normalised float32 means of a map, to compare faces by a layer before the embedding.

        Args:
            crops: (N, 3, S, S) uint8 RGB, on any device.
            depth: of the map.

        Raises:
            ValueError: the depth has no map.
        """
        if depth not in self.layout.maps:
            message = f"depth {depth!r} has no map, expected one of {', '.join(self.layout.maps)}"
            raise ValueError(message)
        parts = [torch.zeros(0, self.layout.maps[depth][0])]
        for part in torch.split(crops, CPU_BATCH):
            images = part.to(self._device).contiguous(memory_format=torch.channels_last)
            found = self._trunk.forward_intermediates(images, (depth,))[depth]
            parts.append(functional.normalize(found.float().mean((2, 3))).cpu())
        return torch.cat(parts)

    def _rows(self, crops: Tensor) -> list[Tensor]:
        """Return embeddings and scores, (., columns) each, on the CPU."""
        if not len(crops) or not self._columns:
            return []
        if self._recorded is None:
            return [self._read(self._maps_in_caches(part)) for part in torch.split(crops, HEAD_BATCH)]
        batches = powers_of_two(len(crops), GPU_BATCH)
        return [torch.cat([self._recorded(crops[rows].to(self._device)) for rows in batches]).cpu()]

    def _maps_in_caches(self, crops: Tensor) -> dict[str, Tensor]:
        """Run the trunk in small batches, whose maps stay in the caches; the branches are faster with large ones."""
        parts = [self._intermediates(crops[rows]) for rows in powers_of_two(len(crops), CPU_BATCH)]
        return {depth: torch.cat([part[depth] for part in parts]) for depth in self._maps}

    def _intermediates(self, crops: Tensor) -> dict[str, Tensor]:
        """Run the trunk, from (N, 3, S, S) uint8 crops to the maps that are read."""
        return self._trunk.forward_intermediates(crops.contiguous(memory_format=torch.channels_last), self._maps)

    def _read(self, maps: dict[str, Tensor]) -> Tensor:
        """Return (N, sum of the columns) float32, embeddings and scores side by side: one tensor, one copy."""
        if self._embeds:
            maps = maps | {EMBEDDING_DEPTH: as_stored(self._trunk.embed(maps[self.layout.last_map]))}
        embeddings = [maps[EMBEDDING_DEPTH]] if self._identity else []
        return torch.cat([*embeddings, *self._heads(maps)], dim=1)

    def _heads(self, maps: dict[str, Tensor]) -> list[Tensor]:
        """Return the scores of each branch on their grid; what several of them read is averaged or computed once."""
        outputs, known, shared = [], {}, dict[str, Tensor]()
        for branch in self._branches.values():
            spec = branch.spec
            read = {depth: maps[depth] for depth in branch.depths}
            for depth in spec.depths:
                if depth in branch.whole:
                    continue
                if (depth, spec.pool) not in known:
                    known[depth, spec.pool] = averaged(maps[depth], spec.pool)
                read[depth] = known[depth, spec.pool]
            outputs.append(to_grid(spec.kind, logits(branch, read, self._shares, shared)))
        return outputs


def share_equal(branches: Mapping[str, Branch]) -> dict[str, str]:
    """Keep one copy of equal shared layers; return by task the task whose layers serve it."""
    found = sharing(branches.values())
    for task, first in found.items():
        branches[task].share_with(first)
    return {task: first.spec.task for task, first in found.items()}


def logits(branch: Branch, maps: Mapping[str, Tensor], shares: Mapping[str, str], known: dict[str, Tensor]) -> Tensor:
    """Return the (N, K) logits of a branch.

    Args:
        branch: one of several that read the same faces.
        maps: that it reads.
        shares: result of `share_equal`.
        known: outputs of shared layers by the task that they belong to; the missing one is added.
    """
    first = shares.get(branch.spec.task)
    if first is None:
        return torch.as_tensor(branch(maps))
    if first not in known:
        known[first] = branch.shared(maps)
    return branch.behind_shared(known[first])


class EmbeddingHeads:
    """Branches that read nothing but embeddings, for faces whose embeddings are stored.

    Given the embeddings of a forward pass, they return its scores: codes differ by 1 at most, where a score lies
    between two of them and a matrix product of another batch size rounds it to the other side.
    """

    def __init__(self, branches: Sequence[Branch], device: torch.device) -> None:
        """Convert the weights of branches in place.

        Args:
            branches: with their weights; one for each task.
            device: where to run.

        Raises:
            ValueError: a branch reads maps, too.
        """
        for branch in branches:
            if branch.spec.depths != (EMBEDDING_DEPTH,):
                message = (
                    f"branch {branch.spec.task!r} reads {', '.join(branch.spec.depths)}, expected the embedding alone: "
                    "infer it from crops"
                )
                raise ValueError(message)
        self._branches = {branch.spec.task: freeze(branch).to(device) for branch in branches}
        self._shares = share_equal(self._branches)
        self._device = device

    @torch.inference_mode()
    def infer(self, embeddings: Tensor) -> dict[str, HeadOutput]:
        """Run all branches over (N, D) float32 embeddings, on any device; N may be 0.

        Returns:
            Outputs by task, on the CPU.

        Raises:
            ModelError: a branch returned numbers that are not finite.
        """
        parts = [self._scores(part.to(self._device)) for part in torch.split(embeddings, STORED_BATCH)]
        found = {task: torch.cat([part[task] for part in parts]) for task in self._branches}
        return _answers(self._branches, found)

    def _scores(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Return the scores of each branch for some embeddings, on their grid and on the CPU."""
        maps, shared = {EMBEDDING_DEPTH: as_stored(embeddings)}, dict[str, Tensor]()
        return {
            task: to_grid(branch.spec.kind, logits(branch, maps, self._shares, shared)).cpu()
            for task, branch in self._branches.items()
        }


def _answers(branches: Mapping[str, Branch], scores: Mapping[str, Tensor]) -> dict[str, HeadOutput]:
    """Read each branch's (N, K) float32 scores, which lie on their grid."""
    found = {}
    for task, rows in scores.items():
        if not rows.sum().isfinite():  # one number that is none makes the sum none
            message = f"branch {task!r} returned numbers that are not finite: restore the release, or train it again"
            raise ModelError(message)
        found[task] = reread(branches[task].spec, rows.int())
    return found
