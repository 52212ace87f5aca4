"""Training of a trunk: on identity (softmax or ArcFace), or from a teacher's embeddings (distillation).

All randomness follows from the seed: the order of an epoch from seed and epoch, the augmentation of a batch from seed
and step. So a checkpoint holds weights, momenta and the step, and an interrupted run goes on exactly.
"""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models.manifest import DETECTOR_FILE, TRUNK_FILE, of_detector, read_manifest
from models.release import write_release
from models.weights import read_weights
from training.errors import RecipeError, TrainingError
from training.fit.augment import AugmentOptions, augment
from training.fit.progress import progress_bar
from training.trunk.losses import ArcFaceHead, BatchResult, DistilHead, Objective, SoftmaxHead

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from models.manifest import Manifest
    from models.trunks.base import Trunk
    from training.trunk.faces import IdentityFaces

_log = logging.getLogger(__name__)

EMBED_BATCH = 64  # crops per call when embeddings are computed


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityOptions:
    """Options of a trunk's training; the defaults of batch and steps are those of the paper."""

    objective: Objective = "softmax"
    steps: int = 40_000
    batch: int = 400
    learning_rate: float = 0.1
    decay_every: int = 10_000
    """Steps after which the learning rate is divided by four."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Our choice; the paper gives none."""
    least_images: int = 2
    """Of a person; people with fewer are not learnt."""
    augment: AugmentOptions = field(default_factory=lambda: AugmentOptions(erase=0.0, coarse=0.1))
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return float(self.learning_rate / 4 ** (step // self.decay_every))


class IdentityRun:
    """One training run, with checkpoint and log in a folder."""

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
            folder: for ``identity.safetensors`` and ``identity.csv``.
            options: of the training.
            teacher: (N, T) L2-normalised embeddings of the faces, for distillation.

        Raises:
            RecipeError: the objective lacks people or a teacher.
            TrainingError: the folder holds another run.
        """
        self.trunk, self.step, self._faces, self._options, self._teacher = trunk, 0, faces, options, teacher
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._csv = folder / "identity.safetensors", folder / "identity.csv"
        torch.manual_seed(options.seed)
        self.head = identity_head(trunk.layout.embedding_size, faces, options, teacher)
        self._parameters = [*trunk.parameters(), *self.head.parameters()]
        self._optimiser = torch.optim.SGD(
            self._parameters, options.learning_rate, options.momentum, weight_decay=options.weight_decay
        )
        self._rows = np.arange(len(faces)) if teacher is not None else np.flatnonzero(faces.person >= 0)
        if len(self._rows) < options.batch:
            raise RecipeError(f"got {len(self._rows)} faces for batches of {options.batch}; choose smaller batches")
        if self._path.is_file():
            self._load()

    def run(self, until: int | None = None) -> None:
        """Train to the end, or up to a step, and write a checkpoint."""
        end = min(until or self._options.steps, self._options.steps)
        with progress_bar(self._options.objective, end, self.step) as advance:
            while self.step < end:
                found = self._train_step()
                self.step += 1
                self._log(found)
                advance(self.step, f"{found.agreement:.3f}")
                if self.step % self._options.checkpoint_every == 0 or self.step == end:
                    self._save()
        self.trunk.eval()

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Return the faces of a step: each epoch is shuffled again, and a last, smaller batch is left out."""
        batches = len(self._rows) // self._options.batch
        epoch, place = divmod(step, batches)
        order = np.random.default_rng((self._options.seed, epoch)).permutation(self._rows)
        return np.sort(order[place * self._options.batch :][: self._options.batch])

    def _train_step(self) -> BatchResult:
        options, rows = self._options, self.rows_of(self.step)
        device = self._parameters[0].device
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.step)
        crops = augment(torch.from_numpy(self._faces.pixels(rows)).to(device), options.augment, generator)
        wanted = self._faces.person[rows] if self._teacher is None else self._teacher[rows]
        for group in self._optimiser.param_groups:
            group["lr"] = options.rate(self.step)
        self.trunk.train()
        with torch.autocast(device.type, torch.bfloat16):
            raw = embed_raw(self.trunk, crops)
        found: BatchResult = self.head(raw.float(), torch.from_numpy(wanted).to(device))
        if not torch.isfinite(found.loss):
            raise TrainingError(f"the loss of step {self.step} is {found.loss.item()}; choose a smaller learning rate")
        self._optimiser.zero_grad(set_to_none=True)
        found.loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return BatchResult(found.loss.detach(), found.agreement)

    def _log(self, found: BatchResult) -> None:
        begun = self._csv.is_file()
        with self._csv.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if not begun:
                writer.writerow(("step", "loss", "agreement", "learning_rate"))
            rate = self._options.rate(self.step - 1)
            writer.writerow((self.step, f"{found.loss.item():.5f}", f"{found.agreement:.5f}", f"{rate:g}"))

    def _facts(self) -> str:
        """Return what distinguishes this run from others; the steps in all and between checkpoints may change."""
        kept = asdict(replace(self._options, steps=0, checkpoint_every=0))
        shapes = [list(parameter.shape) for parameter in self._parameters]
        return json.dumps({"options": kept, "shapes": shapes, "faces": len(self._faces)}, sort_keys=True)

    def _save(self) -> None:
        modules = {"trunk": self.trunk, "head": self.head}
        tensors = {
            f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()
        }
        for number, state in self._optimiser.state_dict()["state"].items():
            tensors[f"momentum/{number}"] = state["momentum_buffer"]
        partial = self._path.with_suffix(".partial")
        copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        save_file(copies, partial, {"facts": self._facts(), "step": str(self.step)})
        partial.replace(self._path)

    def _load(self) -> None:
        with safe_open(self._path, framework="pt") as file:
            facts, self.step = file.metadata()["facts"], int(file.metadata()["step"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        if facts != self._facts():
            raise TrainingError(f"{self._path} belongs to another run; choose another folder, or remove it")
        for name, module in (("trunk", self.trunk), ("head", self.head)):
            start = f"{name}/"
            module.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        known = self._optimiser.state_dict()
        momenta = {int(k.partition("/")[2]): {"momentum_buffer": v} for k, v in tensors.items() if k.startswith("mom")}
        self._optimiser.load_state_dict({"state": momenta, "param_groups": known["param_groups"]})
        self._truncate_log()

    def _truncate_log(self) -> None:
        """Delete the lines of steps after the checkpoint, which are taken again."""
        if self._csv.is_file():
            head, *lines = self._csv.read_text().splitlines()
            kept = [line for line in lines if int(line.partition(",")[0]) <= self.step]
            self._csv.write_text("".join(f"{line}\n" for line in [head, *kept]))


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


def write_trunk(trunk: Trunk, name: str, base: Path, target: Path) -> Manifest:
    """Write a release with the detector of a base release, this trunk and no branches.

    Args:
        trunk: trained.
        name: of the trunk, such as face24-w0.5-r112.
        base: folder of the release whose detector and policies are taken.
        target: folder to write.
    """
    before = read_manifest(base)
    terms = {"trunk": "as the faces that it was trained on allow"}
    licences = {"detector": ""} | of_detector(before.licences) | terms
    manifest = replace(before.on_trunk(name), name=target.name, data=of_detector(before.data), licences=licences)
    detector = read_weights(base / DETECTOR_FILE, before.files[DETECTOR_FILE])
    tensors = {key: value.detach().float().cpu() for key, value in trunk.state_dict().items()}
    return write_release(target, manifest, {DETECTOR_FILE: detector, TRUNK_FILE: tensors})
