"""Training of a trunk: on identity (softmax or ArcFace), or from a teacher's embeddings (distillation).

All randomness follows from the seed: the order of an epoch from seed and epoch, the augmentation of a batch from seed
and step. So a checkpoint holds weights, running statistics, moments and the step, and an interrupted run goes on
exactly. Faces that are held out judge the trunk now and then, and the weights that suit them best are kept.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.errors import RecipeError, TrainingError
from training.fit.augment import augment
from training.fit.progress import progress_bar
from training.trunk.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.trunk.held_out import Best, Rows, StepLog
from training.trunk.losses import ArcFaceHead, BatchResult, DistilHead, SoftmaxHead
from training.trunk.options import start_normal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from models.trunks.base import Trunk
    from training.trunk.faces import IdentityFaces
    from training.trunk.options import IdentityOptions

_log = logging.getLogger(__name__)

EMBED_BATCH = 64  # crops per call when embeddings are computed
_STEP_COLUMNS = ("step", "loss", "agreement", "learning_rate")
_HELD_OUT_COLUMNS = ("step", "agreement", "best", "lfw")


class IdentityRun:
    """One training run, with checkpoint and logs in a folder."""

    def __init__(
        self,
        trunk: Trunk,
        faces: IdentityFaces,
        folder: Path,
        options: IdentityOptions,
        teacher: NDArray[np.float32] | None = None,
    ) -> None:
        """Begin a run, or go on from the checkpoint in the folder.

        Args:
            trunk: with random or earlier weights; trained in place.
            faces: crops and people.
            folder: for ``identity.safetensors``, ``identity.csv`` and ``held_out.csv``.
            options: of the training.
            teacher: (N, T) L2-normalised embeddings of the faces, for distillation.

        Raises:
            RecipeError: the objective lacks people or a teacher.
            TrainingError: the folder holds another run.
        """
        self.trunk, self._faces, self._options, self._teacher = trunk, faces, options, teacher
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "identity.safetensors"
        self._steps = StepLog(folder / "identity.csv", _STEP_COLUMNS)
        self._evaluations = StepLog(folder / "held_out.csv", _HELD_OUT_COLUMNS)
        torch.manual_seed(options.seed)
        self.head = identity_head(trunk.layout.embedding_size, faces, options, teacher)
        if options.start_deviation is not None:
            start_normal(trunk, options.start_deviation)
        self._device = next(trunk.parameters()).device
        self.head.to(self._device)
        self._parameters = [*trunk.parameters(), *self.head.parameters()]
        optimiser = options.descent.optimise(self._parameters, options.learning_rate, options.weight_decay)
        self._state = RunState(trunk, self.head, optimiser)
        self.rows = Rows.of_people(faces.person, options) if teacher is None else Rows.of_faces(len(faces), options)
        if len(self.rows.learnt) < options.batch:
            raise RecipeError(
                f"got {len(self.rows.learnt)} faces for batches of {options.batch}; choose smaller batches"
            )
        if load_checkpoint(self._state, self._path, self._facts()):
            self._steps.truncate(self.step)
            self._evaluations.truncate(self.step)

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self._state.step

    @property
    def best(self) -> Best:
        """Best evaluation on the held-out faces so far."""
        return self._state.best

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the held-out score has not grown for long."""
        waited = self.step - self.best.step
        stopped = self.best.step > 0 and waited >= self._options.patience * self._options.evaluate_every
        return stopped or self.step >= self._options.steps

    def run(self, until: int | None = None, verify: Callable[[Trunk], float] | None = None) -> None:
        """Train up to a step or to the end, and write a checkpoint.

        At the end the trunk has the weights and statistics that scored best on the held-out faces, if there are any.

        Args:
            until: last step; None for the end.
            verify: measures the verification of faces at each evaluation, for the log alone.
        """
        end = min(until or self._options.steps, self._options.steps)
        with progress_bar(self._options.objective, end, self.step) as advance:
            while self.step < end and not self.finished:
                found = self._train_step()
                self._state.step += 1
                self._log(found)
                advance(self.step, f"{found.agreement:.3f}")
                if self.step % self._options.evaluate_every == 0 or self.step == self._options.steps:
                    self._evaluate(verify)
                if self.step % self._options.checkpoint_every == 0 or self.step == end or self.finished:
                    save_checkpoint(self._state, self._path, self._facts())
        if self.finished and self._state.best_trunk:
            self.trunk.load_state_dict(self._state.best_trunk)
        self.trunk.eval()

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Return the faces of a step: each epoch is shuffled again, and a last, smaller batch is left out."""
        batches = len(self.rows.learnt) // self._options.batch
        epoch, place = divmod(step, batches)
        order = np.random.default_rng((self._options.seed, epoch)).permutation(self.rows.learnt)
        return np.sort(order[place * self._options.batch :][: self._options.batch])

    def _train_step(self) -> BatchResult:
        options, rows, optimiser = self._options, self.rows_of(self.step), self._state.optimiser
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.step)
        crops = augment(torch.from_numpy(self._faces.pixels(rows)).to(self._device), options.augment, generator)
        for group in optimiser.param_groups:
            group["lr"] = options.rate(self.step)
        self.trunk.train()
        found = self._compare(crops, rows)
        if not torch.isfinite(found.loss):
            raise TrainingError(f"the loss of step {self.step} is {found.loss.item()}; choose a smaller learning rate")
        optimiser.zero_grad(set_to_none=True)
        found.loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return BatchResult(found.loss.detach(), found.agreement)

    def _compare(self, crops: Tensor, rows: NDArray[np.int64]) -> BatchResult:
        """Compare the embeddings of crops with the people, or the teacher's embeddings, of their rows."""
        wanted = self._faces.person[rows] if self._teacher is None else self._teacher[rows]
        with torch.autocast(self._device.type, torch.bfloat16):
            raw = embed_raw(self.trunk, crops)
        found: BatchResult = self.head(raw.float(), torch.from_numpy(wanted).to(self._device))
        return found

    @torch.no_grad()
    def _held_out_agreement(self) -> float:
        """Return the share of the held-out faces that are recognised, or their mean cosine to the teacher."""
        self.trunk.eval()
        rows, total = self.rows.held_out, 0.0
        for start in range(0, len(rows), EMBED_BATCH):
            part = rows[start : start + EMBED_BATCH]
            crops = torch.from_numpy(self._faces.pixels(part)).to(self._device)
            total += self._compare(crops, part).agreement * len(part)
        return total / len(rows)

    def _evaluate(self, verify: Callable[[Trunk], float] | None) -> None:
        """Judge the trunk by the held-out faces, if there are any, and keep it if it is better than before."""
        if not len(self.rows.held_out):
            return
        score = self._held_out_agreement()
        if score > self.best.score:
            self._state.keep_as_best(score)
        verified = "" if verify is None else f"{verify(self.trunk):.4f}"
        self._evaluations.write(self.step, f"{score:.5f}", f"{self.best.score:.5f}", verified)
        facts = {"action": "trunk_evaluated", "step": self.step, "held_out": score, "best": self.best.score}
        line = "step %d: held-out agreement %.4f, best %.4f, LFW %s"
        _log.info(line, self.step, score, self.best.score, verified or "not measured", extra=facts)

    def _log(self, found: BatchResult) -> None:
        rate = self._options.rate(self.step - 1)
        self._steps.write(self.step, f"{found.loss.item():.5f}", f"{found.agreement:.5f}", f"{rate:g}")

    def _facts(self) -> str:
        """Return what distinguishes this run from others.

        Patience and the steps between checkpoints may change, and the steps in all if no rate depends on them.
        """
        steps = self._options.steps if self._options.schedule == "cosine" else 1
        kept = asdict(replace(self._options, steps=steps, checkpoint_every=1, patience=1))
        shapes = [list(parameter.shape) for parameter in self._parameters]
        found = {"options": kept, "shapes": shapes, "faces": len(self._faces), "side": self.trunk.layout.side}
        return json.dumps(found, sort_keys=True)


def identity_head(
    embedding: int, faces: IdentityFaces, options: IdentityOptions, teacher: NDArray[np.float32] | None
) -> nn.Module:
    """Return the head of the objective, which computes the loss of embeddings.

    Raises:
        RecipeError: distillation without a teacher, a teacher without distillation, or no people.
    """
    if (options.objective == "distil") != (teacher is not None):
        raise RecipeError("distillation needs a teacher, and only distillation takes one; give both or neither")
    if teacher is not None:
        return DistilHead(embedding, teacher.shape[1])
    if faces.people < 2:
        raise RecipeError(f"got {faces.people} people with enough images, expected many; add sets with identities")
    kind = SoftmaxHead if options.objective == "softmax" else ArcFaceHead
    return kind(embedding, faces.people)


def embed_raw(trunk: Trunk, crops: Tensor) -> Tensor:
    """Run a trunk over (N, 3, S, S) crops without normalising: (N, D)."""
    last = trunk.layout.last_map
    return trunk.project(trunk.forward_intermediates(crops, {last})[last])


@torch.inference_mode()
def embed(trunk: Trunk, crops: IdentityFaces | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the (N, D) L2-normalised embeddings of N crops."""
    trunk.eval()
    parameter = next(trunk.parameters())
    parts = [np.zeros((0, trunk.layout.embedding_size), dtype=np.float32)]
    for start in range(0, len(crops), EMBED_BATCH):
        rows = np.arange(start, min(start + EMBED_BATCH, len(crops)))
        pixels = np.array(crops[rows]) if isinstance(crops, np.ndarray) else crops.pixels(rows)
        parts.append(trunk(torch.from_numpy(pixels).to(parameter.device)).float().cpu().numpy())
    return np.concatenate(parts)
