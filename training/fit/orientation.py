"""Training of the orientation model, which decides whether a face is upright in its crop.

A run depends on its seed alone: the batch of a step follows from both. So a checkpoint holds weights, moments and the
step, and an interrupted run goes on exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from models.detection.orientation import OrientationNet
from models.inference.precision import resolve_device
from training.errors import TrainingError
from training.fit.progress import RunLog, progress_bar
from training.fit.turned_batches import TurnedBatches, draw_crops

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from training.data.turned_crops import TurnedCrops

LOST = 0.005  # share of upright crops that may be lost where the share of turned ones that pass is measured
RISE = 0.3  # share of the steps in which the learning rate rises
_TASK = "orientation"  # in the run's log


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientationOptions:
    """How the model is trained."""

    steps: int = 2400
    batch: int = 256
    """Crops of a step; a multiple of four."""
    learning_rate: float = 3e-3
    """Peak of one cycle, which begins at a 25th of it and ends near zero."""
    weight_decay: float = 1e-2
    look_every: int = 100
    """Steps between two looks at the held-out crops, each with a checkpoint."""
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self._cycle(step, self.learning_rate / 25, self.learning_rate, self.learning_rate / 250_000)

    def momentum(self, step: int) -> float:
        """Return the decay of the first moment in a step: it falls while the learning rate rises."""
        return self._cycle(step, 0.95, 0.85, 0.95)

    def _cycle(self, step: int, first: float, turn: float, last: float) -> float:
        """Go from one value to the next along half a cosine, and on to the last one along another."""
        top = RISE * self.steps - 1
        if step <= top:
            return _along(first, turn, step / top)
        return _along(turn, last, (step - top) / max(1, self.steps - 1 - top))


@dataclass(frozen=True, slots=True)
class OrientationScore:
    """How many turned crops pass where few upright ones are lost."""

    threshold: float
    """Logit below which LOST of the upright crops lie."""
    detected: float
    """Share of the detector's crops of turned faces that reach it."""
    drawn: float
    """The same of crops that are drawn from patches."""


class OrientationRun:
    """One training run in a folder, which holds its checkpoint and its log."""

    def __init__(self, train: TurnedCrops, held_out: TurnedCrops, folder: Path, options: OrientationOptions) -> None:
        """Begin a run, or go on where the folder's checkpoint stands.

        Args:
            train: crops to learn from.
            held_out: crops of other faces, which only judge.
            folder: for ``orientation.safetensors`` and ``log.csv``.
            options: how to train.

        Raises:
            DataError: there are no crops of one kind.
            TrainingError: the folder holds another run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.step, self._options, self._held_out = 0, options, held_out
        self._path, self._log = folder / "orientation.safetensors", RunLog(folder)
        torch.manual_seed(options.seed)
        device = resolve_device()
        self.model = OrientationNet().to(device).eval()
        self._batches = TurnedBatches(train, options.batch, options.seed, device)
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(), options.learning_rate, weight_decay=options.weight_decay
        )
        self._facts = json.dumps({"options": asdict(options), "crops": _digest(train)}, sort_keys=True)
        if self._path.is_file():
            self._load()

    def run(self, until: int | None = None) -> OrientationScore:
        """Train up to a step, or to the end; a checkpoint is left behind."""
        end = min(until or self._options.steps, self._options.steps)
        with progress_bar(_TASK, end, self.step) as advance:
            while self.step < end:
                loss = self._train_step()
                self.step += 1
                advance(self.step, f"{loss:.3f}")
                if self.step % self._options.look_every == 0 or self.step == end:
                    self._look(loss)
                    self._save()
        return self.score()

    def score(self) -> OrientationScore:
        """Judge the model on the held-out crops."""
        return score_orientation(self.model, self._held_out)

    def _look(self, loss: float) -> None:
        noticed = 1 - self.score().detected
        self._log.write(_TASK, self.step, loss, noticed, noticed)

    def _train_step(self) -> float:
        options, batch = self._options, self._batches.take(self.step)
        for group in self._optimiser.param_groups:
            group["lr"], group["betas"] = options.rate(self.step), (options.momentum(self.step), 0.999)
        torch.manual_seed(options.seed * 1_000_003 + self.step)  # dropout
        self.model.train()
        loss = functional.binary_cross_entropy_with_logits(self.model(batch.crops), batch.upright)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of step {self.step} is {loss.item()}; choose a smaller learning rate")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.model.eval()
        return loss.item()

    def _save(self) -> None:
        tensors = {f"network/{key}": value for key, value in self.model.state_dict().items()}
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"moments/{number}/{key}": value for key, value in moments.items()}
        partial = self._path.with_suffix(".partial")
        copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        save_file(copies, partial, {"facts": self._facts, "step": str(self.step)})
        partial.replace(self._path)

    def _load(self) -> None:
        with safe_open(self._path, framework="pt") as file:
            facts, self.step = file.metadata()["facts"], int(file.metadata()["step"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        if facts != self._facts:
            raise TrainingError(f"{self._path} belongs to another run; choose another folder, or remove it")
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "moments":
                number, _, name = name.partition("/")
                moments.setdefault(int(number), {})[name] = value
        start = "network/"
        self.model.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.model.eval()


@torch.inference_mode()
def score_orientation(model: OrientationNet, held_out: TurnedCrops) -> OrientationScore:
    """Measure how many turned crops pass where few upright ones are lost.

    Args:
        model: in its evaluation mode.
        held_out: crops of faces that the model has not learnt from.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    cut = torch.from_numpy(held_out.crops).to(device)[:, None]
    patches = torch.from_numpy(held_out.patches).to(device).float()[:, None]
    drawn = [model(draw_crops(patches, generator, upright=upright)) for upright in (True, False)]
    logits, upright = model(cut), torch.from_numpy(held_out.upright).to(device)
    every = torch.cat((logits[upright], drawn[0]))
    threshold = torch.quantile(every, LOST) if len(every) else torch.tensor(math.nan)
    passed = [float((found >= threshold).float().mean()) for found in (logits[~upright], drawn[1])]
    return OrientationScore(float(threshold), *passed)


def _along(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _digest(crops: TurnedCrops) -> str:
    digest = hashlib.sha256()
    for column in (crops.patches, crops.crops, crops.upright):
        digest.update(column.tobytes())
    return digest.hexdigest()
