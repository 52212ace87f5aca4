"""Reads the release that the views show: its models, and how it did on labelled faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

_ACTIVE = text("SELECT release, fingerprint, code_version, metrics, manifest FROM releases WHERE active")
MAIN = frozenset(
    {"accuracy", "balanced accuracy", "answered", "accuracy of answers", "mean absolute error",
     "80 % interval holds it", "mean accuracy", "recall of faces of 16 px or more", "false positives per photo"}
)  # fmt: skip
"""Measures that a report states; the manifest has more."""
NOT_ANSWERS = frozenset({"detection, all boxes", "ethnicity, label by label"})
"""Parts of the evaluation that no view shows."""
IN_YEARS = frozenset({"mean absolute error"})
A_COUNT = frozenset({"false positives per photo"})


@dataclass(frozen=True, slots=True)
class ReleaseMeasure:
    """A figure of a release on labelled faces that it has not learnt from."""

    head: str
    data: str
    """Name of the labelled set."""
    measure: str
    value: str
    """With its unit."""
    faces: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRelease:
    """The release behind a report."""

    name: str
    fingerprint: str | None
    code_version: str | None
    detector: str | None
    trunk: str | None
    files: Mapping[str, str]
    """SHA-256 of each file of weights."""
    measures: tuple[ReleaseMeasure, ...]


def read_release(connection: Connection) -> ReportedRelease | None:
    """Return the active release; None where there is none."""
    row = connection.execute(_ACTIVE).one_or_none()
    if row is None:
        return None
    manifest: Mapping[str, Any] = row.manifest or {}
    return ReportedRelease(
        name=row.release,
        fingerprint=row.fingerprint,
        code_version=row.code_version,
        detector=manifest.get("detector"),
        trunk=manifest.get("trunk"),
        files=manifest.get("files") or {},
        measures=tuple(_measures(row.metrics or {})),
    )


def _measures(metrics: Mapping[str, Any]) -> list[ReleaseMeasure]:
    found = []
    for head, own in sorted(metrics.items()):
        for name, figure in own.items() if isinstance(own, dict) else ():
            if not isinstance(figure, dict) or not isinstance(figure.get("value"), int | float):
                continue  # of a release that another program registered
            data, _, measure = name.partition(": ")
            if measure not in MAIN or head in NOT_ANSWERS:
                continue
            found.append(ReleaseMeasure(head, data, measure, _with_unit(measure, figure["value"]), figure.get("faces")))
    return found


def _with_unit(measure: str, value: float) -> str:
    if measure in IN_YEARS:
        return f"{value:.2f} years"
    return f"{value:.2f}" if measure in A_COUNT else f"{value:.1%}"
