"""Training several branches in one run, on crops that are changed anew each time.

Each step draws a batch from every data set, changes the crops, runs the trunk once over all of them, and lets each
branch learn from the rows of its own set; the trunk is frozen, or learns from all of them. All randomness follows from
the seed and the number of the step, so a run that was interrupted goes on exactly as if it had not been: its
checkpoints hold weights, moments and scores, no random state.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.errors import TrainingError
from training.fit.features import add_weights
from training.fit.fit import parameter_groups
from training.fit.losses import LOSSES
from training.fit.progress import Journal, bar
from training.fit.targets import labelled
from training.joint.batches import Batches
from training.joint.task import JointTask
from training.joint.tuned_trunk import RunTrunk

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from models.trunks.base import Trunk
    from training.data.face_sets import DataName
    from training.fit.heads import TrainedBranch
    from training.joint.batches import FaceViews, Lesson, Mix
    from training.joint.teachers import Teachers
    from training.recipes.joint import JointOptions
    from training.recipes.recipe import HeadRecipe

_log = logging.getLogger(__name__)

_EVAL_BATCH = 128
_DRIFT = "embedding"
"""In the log: what holding the embeddings costs, and their mean cosine to the original's."""
_STANDARDISED_ON = 768
_CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class JointHead:
    """A branch after training, with the averaged weights that scored best."""

    head: TrainedBranch
    score: float
    step: int


class JointRun:
    """A run that can be interrupted at any step.

    Args of the constructor: recipes of the branches, the trunk (on its device; float32 where the options tune it, else
    in the format in which it is used), the data sets by name, the options, a folder for checkpoint and log, the seed,
    crops of the sets that hold the embeddings, the splits that are learnt from, and teachers that add to the labels.
    """

    def __init__(  # noqa: PLR0913 - what a run stands on
        self,
        recipes: Sequence[HeadRecipe],
        trunk: Trunk,
        views: Mapping[DataName, FaceViews],
        options: JointOptions,
        folder: Path,
        seed: int = 0,
        *,
        held_by: Mapping[str, NDArray[np.uint8]] | None = None,
        splits: Collection[str] = ("train",),
        teachers: Teachers | None = None,
    ) -> None:
        """Set the run up and go on from its checkpoint, if there is one.

        Raises:
            TrainingError: the checkpoint belongs to another run.
        """
        self._views, self._options, self._seed = views, options, seed
        self._device = next(trunk.parameters()).device
        self._folder, self._journal = folder, Journal(folder)
        digest = hashlib.sha256()
        add_weights(digest, trunk)
        self._splits, self._teachers = tuple(splits), teachers
        if teachers:
            teachers.add_to(digest)
        self._began_with = digest.hexdigest()
        self._tasks = [JointTask(recipe, trunk, views[recipe.data].faces, splits, seed) for recipe in recipes]
        self._trunk = RunTrunk(trunk, {depth for recipe in recipes for depth in recipe.spec.depths}, options.trunk)
        self._batches = Batches(self._tasks, views, dict(held_by or {}), options, seed, self._device)
        groups = [group for task in self._tasks for group in parameter_groups(task.head, task.recipe.fit)]
        groups += self._trunk.groups()
        self._optimiser = torch.optim.AdamW(groups, weight_decay=recipes[0].fit.weight_decay)
        self._peaks = [float(group["lr"]) for group in groups]
        self.step = 0
        if self._path.is_file():
            self._load()
        else:
            self._standardise()

    @property
    def _path(self) -> Path:
        return self._folder / _CHECKPOINT

    def run(self, until: int | None = None, checkpoint_seconds: float = 300.0) -> list[JointHead]:
        """Train to the end, or to a step; a checkpoint is written at the end and now and then."""
        end = min(until or self._options.steps, self._options.steps)
        saved = time.monotonic()
        with bar("training", self._options.steps, self.step) as advance:
            while self.step < end and not self._finished():
                losses = self._train_step()
                self.step += 1
                advance(self.step, "")
                if self.step % self._options.evaluate_every == 0 or self.step == self._options.steps:
                    self._evaluate(losses)
                if time.monotonic() - saved > checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
        self._save()
        return [self._result(task) for task in self._tasks]

    @property
    def trunk(self) -> Trunk:
        """The trunk that goes with the branches: the running mean of one that learns, float32; else the given one."""
        return self._trunk.average

    def _result(self, task: JointTask) -> JointHead:
        head = copy.deepcopy(task.head)
        head.load_state_dict(task.best)
        return JointHead(head, task.score, task.step)

    def _finished(self) -> bool:
        if self._options.trunk:
            return False
        waited = self._options.patience * self._options.evaluate_every
        return all(self.step - task.step >= waited and task.step > 0 for task in self._tasks)

    def _train_step(self) -> dict[str, Tensor]:
        batch = self._batches.take(self.step)
        torch.manual_seed(self._seed * 1_000_003 + self.step)  # dropout
        maps, drift = self._trunk.learn(batch.crops)
        places = {task: lesson.place for task, lesson in batch.lessons.items()}
        taught = self._teachers.answers(batch.crops[: batch.changed], places) if self._teachers else {}
        losses = {
            task.name: self._loss(task, maps, batch.lessons[task.name], taught.get(task.name)) for task in self._tasks
        }
        every = [*losses.values(), *([] if drift is None else [drift])]
        torch.stack(every).sum().backward()  # type: ignore[no-untyped-call]
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * _one_cycle(self.step / self._options.steps)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        for task in self._tasks:
            task.follow(self.step)
        self._trunk.follow(min(self._tasks[0].recipe.fit.average, (self.step + 1) / (self.step + 10)))
        return losses if drift is None else {**losses, _DRIFT: drift}

    def _loss(self, task: JointTask, maps: Mapping[str, Tensor], lesson: Lesson, taught: Tensor | None) -> Tensor:
        maps = {depth: maps[depth][lesson.place][lesson.keep] for depth in task.recipe.spec.depths}
        soft = lesson.soft
        if taught is not None and self._teachers:
            soft = soft.lerp(taught[lesson.keep], self._teachers.share)
        if lesson.mix:
            maps, soft = _mixed(maps, soft, lesson.mix)
        task.head.train()
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = task.head(maps)
        return LOSSES[task.recipe.fit.loss](logits + task.offset, soft, task.weights)

    def logits(self, task: str, rows: NDArray[np.int64], head: torch.nn.Module) -> Tensor:
        """Apply a head to unchanged crops, cut as users get them: (M, K) float32."""
        return self._logits({task: head}, self._task(task).recipe.data, rows)[task]

    def soft(self, task: str) -> Tensor:
        """Return the (N, K) targets of a branch."""
        return self._task(task).soft

    def validation_rows(self, task: str) -> NDArray[np.int64]:
        """Return the labelled rows of the validation split, of which training has seen none."""
        found = self._task(task)
        faces = self._views[found.recipe.data].faces
        return labelled(task, found.soft, np.flatnonzero(faces.split == "val"))

    def _task(self, name: str) -> JointTask:
        return next(task for task in self._tasks if task.name == name)

    @torch.inference_mode()
    def _logits(
        self, heads: Mapping[str, torch.nn.Module], name: DataName, rows: NDArray[np.int64]
    ) -> dict[str, Tensor]:
        pixels = self._views[name].pixels[-1]
        found: dict[str, list[Tensor]] = {task: [] for task in heads}
        for head in heads.values():
            head.eval()
        for start in range(0, len(rows), _EVAL_BATCH):
            maps = self._trunk.maps(torch.from_numpy(np.array(pixels[rows[start : start + _EVAL_BATCH]])))
            with torch.autocast(self._device.type, torch.bfloat16):
                for task, head in heads.items():
                    found[task].append(head(maps).float().cpu())
        return {task: torch.cat(parts) for task, parts in found.items()}

    def _evaluate(self, losses: Mapping[str, Tensor]) -> None:
        told = {name: found.item() for name, found in losses.items()}
        if bad := [name for name, loss in told.items() if not math.isfinite(loss)]:
            raise TrainingError(f"the loss of {bad[0]} is {told[bad[0]]} at step {self.step}; choose smaller rates")
        for name in self._views:
            tasks = [task for task in self._tasks if task.recipe.data == name]
            rows = np.unique(np.concatenate([task.held for task in tasks]))
            logits = self._logits({task.name: task.average for task in tasks}, name, rows)
            for task in tasks:
                own = np.isin(rows, task.held)
                reached = task.judge(logits[task.name][own], task.soft[rows[own]])
                if reached > task.score or self._options.trunk:  # a trunk that has moved on takes its branches along
                    task.score, task.step = reached, self.step
                    task.best = copy.deepcopy(task.average.state_dict())
                self._log(task.name, told[task.name], reached, task.score)
        if self._options.trunk:
            kept = 1 - told[_DRIFT] / self._options.trunk.hold if self._options.trunk.hold else math.nan
            self._log(_DRIFT, told[_DRIFT], kept, kept)

    def _log(self, task: str, loss: float, reached: float, best: float) -> None:
        self._journal.write(task, self.step, loss, reached, best)
        facts = {"action": "evaluated", "task": task, "step": self.step, "held_out": round(reached, 4)}
        _log.info("looked at the held-out rows", extra=facts)

    def _standardise(self) -> None:
        """Bring each branch's features to mean 0 and deviation 1 on some unchanged crops."""
        for task in self._tasks:
            rows = np.random.default_rng(self._seed).choice(task.rows, min(len(task.rows), _STANDARDISED_ON), False)
            pixels = self._views[task.recipe.data].pixels[-1]
            maps = self._trunk.maps(torch.from_numpy(np.array(pixels[np.sort(rows)])))
            with torch.no_grad():
                task.standardise({depth: maps[depth].float() for depth in task.recipe.spec.depths})

    def _facts(self) -> dict[str, Any]:
        """Say what makes this run itself: what training reads, not what calibration adds to it."""
        tasks = {task.name: repr(_learnt(task.recipe)) for task in self._tasks}
        facts = {"tasks": tasks, "options": repr(self._options), "seed": self._seed, "trunk": self._began_with}
        return facts | {"splits": list(self._splits)}

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for task in self._tasks:
            for kind, state in (
                ("head", task.head.state_dict()),
                ("average", task.average.state_dict()),
                ("best", task.best),
            ):
                tensors |= {f"{task.name}/{kind}/{key}": value.contiguous() for key, value in state.items()}
        tensors |= self._trunk.state()
        for number, state in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{number}/{key}": value.contiguous() for key, value in state.items()}
        progress = {task.name: [task.score, task.step] for task in self._tasks}
        state = {"facts": self._facts(), "step": self.step, "progress": progress}
        partial = self._path.with_suffix(".partial")
        save_file({key: value.clone() for key, value in tensors.items()}, partial, {"state": json.dumps(state)})
        partial.replace(self._path)

    def _load(self) -> None:
        with safe_open(self._path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        if state["facts"] != self._facts():
            raise TrainingError(
                f"{self._path} belongs to another run (trunk, teachers, splits, branches, options or seed differ); "
                "choose another folder, or remove it to start again"
            )
        self.step = int(state["step"])
        for task in self._tasks:
            task.head.load_state_dict(_below(tensors, f"{task.name}/head/"))
            task.average.load_state_dict(_below(tensors, f"{task.name}/average/"))
            task.best = _below(tensors, f"{task.name}/best/")
            task.score, task.step = float(state["progress"][task.name][0]), int(state["progress"][task.name][1])
        self._trunk.load(tensors)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimiser/").items():
            number, _, kind = key.partition("/")
            moments.setdefault(int(number), {})[kind] = value
        known = self._optimiser.state_dict()
        self._optimiser.load_state_dict({"state": moments, "param_groups": known["param_groups"]})


def _learnt(recipe: HeadRecipe) -> HeadRecipe:
    """Take away what a joint run does not read."""
    spec = replace(recipe.spec, temperature=1.0, abstain=None, thresholds=())
    return replace(recipe, spec=spec, answers_accuracy=None, most_false=None, refit=False, smallest_search=None)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _mixed(maps: Mapping[str, Tensor], soft: Tensor, mix: Mix) -> tuple[dict[str, Tensor], Tensor]:
    found = {depth: m * mix.share + m[mix.others] * (1 - mix.share) for depth, m in maps.items()}
    return found, soft * mix.share + soft[mix.others] * (1 - mix.share)


def _one_cycle(progress: float, warm: float = 0.08) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine to zero."""
    if progress < warm:
        return 0.04 + 0.96 * progress / warm
    return 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))
