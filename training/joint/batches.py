"""Batches of a joint run, each prepared on a thread of its own while the step before is computed.

On GPUs they have a stream of their own as well, so that drawing, copying and augmenting crops never holds up the model.
Everything follows from the seed and the number of the step.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data.degrade import degrade_at_random
from training.fit.augment import augment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.face_sets import DataName, FaceSet
    from training.joint.setup import JointSetup
    from training.joint.task import JointTask

_MIRRORED = 0.5  # share of the faces that only hold the embeddings


@dataclass(frozen=True, slots=True)
class FaceViews:
    """One data set, its faces cut in several ways."""

    faces: FaceSet
    pixels: tuple[NDArray[np.uint8], ...]
    """One (N, 3, S, S) for each of ``JointOptions.searches``."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How the faces of a task's batch are mixed with each other."""

    share: float
    """Of each face itself."""
    others: Tensor
    """(n,) number of the face that each is mixed with."""

    def of(self, x: Tensor) -> Tensor:
        """Mix the (n, ...) rows of the faces."""
        return x * self.share + x[self.others] * (1 - self.share)


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """The part of a batch from which one task learns."""

    place: slice
    """Of the crops of its data set."""
    keep: Tensor
    """(n,) numbers, within the place, of the crops from which it learns."""
    soft: Tensor
    """(n, K) targets."""
    offset: Tensor
    """(n, K) or (n, 1) of the logits, besides that of the task."""
    mix: Mix | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The crops and targets of a step, on the run's device."""

    crops: Tensor
    """(M, 3, S, S) float32, 0..255: first the augmented ones, then those that only hold the embeddings."""
    reference: Tensor
    """(M, 3, S, S): the same before some were degraded, as teachers and the original trunk get them."""
    augmented: int
    """Number of augmented ones."""
    tasks: dict[str, TaskBatch]
    """By task."""

    def others(self, task: str) -> Tensor:
        """Return the (m,) numbers of the augmented crops that are not of a task's data set, on the device."""
        numbers = torch.arange(self.augmented, device=self.crops.device)
        place = self.tasks[task].place
        return numbers[(numbers < place.start) | (numbers >= place.stop)]

    def tensors(self) -> Iterator[Tensor]:
        """Yield everything that lies on the device."""
        yield from (self.crops, self.reference)
        for part in self.tasks.values():
            yield from (part.keep, part.soft, part.offset, *((part.mix.others,) if part.mix else ()))


class Batches:
    """The batches of a run, one after the other."""

    def __init__(self, setup: JointSetup, tasks: Sequence[JointTask]) -> None:
        self._tasks, self._views, self._held_by = tasks, setup.views, setup.held_by
        self._options, self._seed, self._device = setup.options, setup.seed, setup.device
        self._pools = {name: self._pool(name) for name in setup.views}
        on_gpu = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def take(self, step: int) -> Batch:
        """Return the batch of a step, and begin to prepare that of the next one."""
        if self._next is None or self._next[0] != step:
            self._next = step, self._thread.submit(self._prepared, step)
        batch = self._next[1].result()
        self._next = step + 1, self._thread.submit(self._prepared, step + 1)
        if self._stream:
            here = torch.cuda.current_stream(self._device)
            for tensor in batch.tensors():
                tensor.record_stream(here)
        return batch

    def rows(self, name: DataName, step: int) -> NDArray[np.int64]:
        """Return the rows of a data set in a step: each once an epoch, or as often as its balance wants it.

        Only seed and epoch decide the order.
        """
        pool, size = self._pools[name], self._options.batch[name]
        per_epoch = max(1, len(pool) // size)
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((self._seed, epoch, len(pool))).permutation(pool)
        return order[place * size : (place + 1) * size]

    def _pool(self, name: DataName) -> NDArray[np.int64]:
        """Return the rows of a data set from which a branch learns, each as often as one of them wants it."""
        shown = np.max([task.copies for task in self._tasks if task.recipe.data == name], axis=0)
        return np.repeat(np.arange(len(shown)), shown)

    @torch.no_grad()
    def _prepared(self, step: int) -> Batch:
        """Prepare a batch and wait until it lies on the device."""
        if self._stream is None:
            return self._batch(step)
        with torch.cuda.stream(self._stream):
            batch = self._batch(step)
        self._stream.synchronize()
        return batch

    def _batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        rows = {name: self.rows(name, step) for name in self._views}
        crops = torch.cat([self._draw(name, rows[name], generator) for name in rows])
        augmented = augment(crops, self._options.augment, generator)
        places = _places({name: len(found) for name, found in rows.items()})
        tasks = {
            task.name: self._task_batch(task, rows[task.recipe.data], places[task.recipe.data], step)
            for task in self._tasks
        }
        reference = torch.cat([augmented, *self._held_crops(generator)])
        return Batch(self._degraded(reference, generator), reference, len(augmented), tasks)

    def _degraded(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade some of the crops; draws nothing where none are to be, so that other runs go on exactly."""
        chance = self._options.degraded
        return degrade_at_random(crops, chance, generator).round() if chance else crops

    def _draw(self, name: DataName, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Take each face from one of its views."""
        pixels = self._views[name].pixels
        which = torch.randint(len(pixels), (len(rows),), generator=generator).tolist()
        drawn = np.stack([pixels[view][row] for view, row in zip(which, rows.tolist(), strict=True)])
        return torch.from_numpy(drawn).to(self._device)

    def _held_crops(self, generator: torch.Generator) -> list[Tensor]:
        """Draw the faces that only hold the embeddings, as they are or mirrored."""
        tuning, found = self._options.trunk, []
        for name, count in tuning.held_by.items() if tuning else ():
            rows = torch.randint(len(self._held_by[name]), (count,), generator=generator).numpy()
            crops = torch.from_numpy(self._held_by[name][rows]).to(self._device).float()
            mirrored = (torch.rand(count, generator=generator) < _MIRRORED).to(self._device)
            found.append(torch.where(mirrored[:, None, None, None], crops.flip(3), crops))
        return found

    def _task_batch(self, task: JointTask, rows: NDArray[np.int64], place: slice, step: int) -> TaskBatch:
        keep = np.flatnonzero(task.may_learn[rows])
        soft = task.soft[rows[keep]].to(self._device)
        mix = None
        if task.recipe.fit.mixup:
            random = np.random.default_rng((self._seed, step))
            share = float(random.beta(task.recipe.fit.mixup, task.recipe.fit.mixup))
            mix = Mix(share, torch.from_numpy(random.permutation(len(keep))).to(self._device))
        numbers = torch.from_numpy(rows[keep]).to(task.group_offset.device)
        return TaskBatch(place, torch.from_numpy(keep).to(self._device), soft, task.group_offset[numbers], mix)


def _places(lengths: Mapping[DataName, int]) -> dict[DataName, slice]:
    """Return the place of the crops of each data set in a batch."""
    places, start = {}, 0
    for name, length in lengths.items():
        places[name] = slice(start, start + length)
        start += length
    return places
