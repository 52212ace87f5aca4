"""Registers a foreign release: a row of releases with layers of its own, and no models.

One finder is one operation of one service in one version of its model: a file has one current analysis a finder.
"""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.ledger.releases import free_name, insert_release, lock_releases, read_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds
    from worker.releases.foreign.results import ForeignResults

_FIND = text("SELECT release_id, retired_at FROM release WHERE fingerprint = :fingerprint")


def register_foreign(session: Session, results: ForeignResults) -> ReleaseIds:
    """Return the numbers of the release of these results, which is inserted if it is new, and never the active one.

    Results that are imported again after their release was retired get a new one.
    """
    from models.manifest import sha256_of_json  # noqa: PLC0415 - it imports torch

    lock_releases(session)
    spec = {
        "service": results.service,
        "operation": results.operation,
        "model_version": results.model_version,
    }
    for generation in count():
        fingerprint = sha256_of_json(spec | {"generation": generation})
        known = session.execute(_FIND, {"fingerprint": fingerprint}).first()
        if known is None:
            break
        if known.retired_at is None:
            return read_ids(session, known.release_id)
    name = free_name(session, "-".join(spec.values()))
    values = {"fingerprint": fingerprint, "name": name, "weights": "", "metrics": "{}"}
    values["manifest"] = json.dumps({"name": name, **spec, "branches": [], "files": {}})
    return read_ids(session, insert_release(session, values, _layers(spec, results.heads), "imported"))


def _layers(spec: Mapping[str, Any], heads: Mapping[str, tuple[str, ...]]) -> Any:
    """Return layers that no other release has, as `models.layers.ReleaseLayers`."""
    from models.layers import ReleaseLayers, layer_entry  # noqa: PLC0415 - it imports torch

    finder = layer_entry("finder", None, spec)
    trunk = layer_entry("trunk", finder, {"service": spec["service"]})
    branches = {
        task: layer_entry("head", trunk, {"task": task, "labels": labels}, task, labels)
        for task, labels in heads.items()
    }
    readings = {
        task: layer_entry("reading", branches[task], {"kind": "softmax" if labels else "age"}, task)
        for task, labels in heads.items()
    }
    return ReleaseLayers(finder, trunk, branches, readings)
