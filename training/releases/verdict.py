"""The verdict of a release: is it worse than its base for any group of people? It is written into the release."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from models.manifest import Verdict, read_manifest
from models.release import load_release, write_release
from models.weights import read_weights
from training.errors import DataError
from training.evaluate.evaluate import EvaluateOptions, evaluate
from training.evaluate.report.compare import compare, worse_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from models.manifest import Manifest
    from training.evaluate.report.compare import Comparison

_log = logging.getLogger(__name__)

_PEOPLE = ("utkface", "fairface", "adience")
_EVERYTHING = (*_PEOPLE, "fer2013", "celeba10k", "lfw", "film_faces")
# The labelled sets that judge a head, those whose labels it has not learnt among them.
_SETS = {
    "gender": (*_PEOPLE, "celeba10k", "lfw"),
    "age": (*_PEOPLE, "celeba10k"),
    "ethnicity": _PEOPLE,
    "emotion": ("fer2013", "celeba10k", "lfw", "film_faces"),
    "emotion7": ("fer2013", "lfw", "film_faces"),
    "attributes": ("celeba10k", *_PEOPLE),
}


def add_verdict(base: Path, folder: Path, data: Path, cache: Path | None = None) -> Verdict | None:
    """Compare a release with its base on the test rows of labelled sets, and write the verdict into it.

    Args:
        base: folder of the release that it was made from.
        folder: of the release; its manifest is written again, weights and fingerprint stay.
        data: folder of the data sets; those that judge what differs are read.
        cache: folder for aligned crops; None keeps none.

    Returns:
        The verdict; None where the two cannot be compared, since no set is there or they have no head in common.
    """
    before, after = read_manifest(base), read_manifest(folder)
    sets = judging_sets(before, after)
    try:
        options = EvaluateOptions(sets=sets, cache=cache)
        found = compare(*(evaluate(load_release(each), data, options) for each in (base, folder)))
    except DataError as err:
        facts = {"action": "no_verdict", "release": after.name}
        _log.warning("%s is not compared with %s: %s", after.name, before.name, err, extra=facts)
        return None
    verdict = _verdict(before, found)
    write_verdict(folder, verdict)
    return verdict


def judging_sets(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """Return the names of the sets that judge what differs between two releases; all where the trunk differs."""
    if before.trunk != after.trunk or _file(before, "trunk") != _file(after, "trunk"):
        return _EVERYTHING
    known = {spec.task: (spec, _file(before, f"branch-{spec.task}")) for spec in before.branches}
    changed = [s.task for s in after.branches if known.get(s.task) != (s, _file(after, f"branch-{s.task}"))]
    return _unique(name for task in changed for name in _SETS.get(task, ())) or _EVERYTHING


def write_verdict(folder: Path, verdict: Verdict) -> Manifest:
    """Write a verdict into the manifest of a release folder; weights and fingerprint stay as they are."""
    manifest = read_manifest(folder)
    weights = {file: read_weights(folder / file, sha256) for file, sha256 in manifest.files.items()}
    return write_release(folder, replace(manifest, verdict=verdict), weights)


def _verdict(before: Manifest, found: Comparison) -> Verdict:
    judged = [one for one in found.differences if one.judged]
    return Verdict(
        base=before.name,
        base_fingerprint=before.fingerprint,
        judged=len(judged),
        worse=tuple(worse_text(one) for one in found.worse),
        data=_unique(one.data for one in judged),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _file(manifest: Manifest, name: str) -> str | None:
    return manifest.files.get(f"{name}.safetensors")


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
