"""The table of systems side by side: cost, speed, training and figures of each, beside those that its authors print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from models.manifest import TRUNK_PART
from training.errors import DataError
from training.evaluate.operating_points import FALSE_POSITIVES, SHARED_TASK, TRUE_POSITIVES
from training.evaluate.report.tables import NOT_SHARES, table
from training.evaluate.robustness.cross_domain import SMILE_TASK
from training.evaluate.scores import EXACT_YEAR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from training.evaluate.evaluate import Evaluation, ReleaseFacts
    from training.evaluate.metrics import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A published system, or one of this program: everything of its row that no evaluation has."""

    name: str
    """Of the recipe that trains it."""
    source: str
    """Its publication."""
    printed: Mapping[str, float] = field(default_factory=dict)
    """Figures that its authors print, of their own data, by the title of a column: percent, years."""
    start: str = ""
    """Weights that it starts from, where the release does not know its runs; else the release's trunk."""
    data: tuple[str, ...] = ()
    """Data sets that its recipe learns from, where the release does not know its runs."""
    hours: float | None = None
    """Of its training, where the release does not know them; on the machine below."""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class SystemRow:
    """A system with the evaluation of a release that was trained here."""

    name: str
    """NAME, or NAME@DETAIL where a system has several releases."""
    system: System
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class ReleaseSpeed:
    """Speed of one release among others of the same run."""

    release: str
    weights_sha256: str
    identity: float
    """Faces a second with all heads off."""
    everything: float
    """Faces a second with identity and all heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRun:
    """Speeds of several releases that took turns in one run."""

    device: str
    dtype: str
    threads: int
    batch: int
    rounds: int
    releases: tuple[ReleaseSpeed, ...]

    @property
    def setting(self) -> str:
        """Device, number format and size of the measurement."""
        return (
            f"{self.device}, {self.dtype}, {self.threads} threads, {self.batch} faces at once, "
            f"the best of {self.rounds} rounds"
        )

    def of(self, weights_sha256: str) -> float | None:
        """Return the speed of a release as a share of that of REFERENCE; None where it was not measured."""
        found = next((each.everything for each in self.releases if each.weights_sha256 == weights_sha256), None)
        return None if found is None else found / self.reference

    @property
    def reference(self) -> float:
        """Faces a second of REFERENCE in this run.

        Raises:
            DataError: it took no part.
        """
        check_reference([each.release for each in self.releases])
        return next(each.everything for each in self.releases if each.release == REFERENCE)


def check_reference(names: Sequence[str]) -> None:
    """Refuse a run of releases whose speeds could not be compared.

    Raises:
        DataError: REFERENCE is not among them.
    """
    if REFERENCE not in names:
        found = ", ".join(names)
        raise DataError(f"got the speeds of {found}; measure the release {REFERENCE!r}, too: theirs are shares of its")


@dataclass(frozen=True, slots=True)
class Speeds:
    """Runs of several days; releases that are not kept keep their place beside REFERENCE."""

    runs: tuple[SpeedRun, ...]

    def of(self, weights_sha256: str) -> float | None:
        """Return what ``SpeedRun.of`` returns for the latest run that has the release."""
        found = (run.of(weights_sha256) for run in reversed(self.runs))
        return next((speed for speed in found if speed is not None), None)

    def to_json(self) -> str:
        """Write the runs as JSON."""
        return TypeAdapter(Speeds).dump_json(self, indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Speeds:
        """Read the JSON of ``facet-train systems --measure``.

        Raises:
            DataError: it is no such JSON.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as err:
            first = err.errors()[0]
            raise DataError(f"this is no JSON of facet-train systems ({first['loc']}: {first['msg']})") from err


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """A column of figures."""

    title: str
    places: tuple[tuple[str, str, str], ...]
    """Data, task and measure; the first that was measured counts."""

    def find(self, found: Evaluation) -> Figure | None:
        """Return the figure of an evaluation, or None where it has none."""
        return next((figure for place in self.places if (figure := found.find(*place))), None)

    def text(self, row: SystemRow) -> str:
        """Format the figure and its interval, and behind a slash the figure that the authors print."""
        figure, printed = self.find(row.evaluation), row.system.printed.get(self.title)
        scale, digits = (1.0, 2) if self.places[0][2] in NOT_SHARES else (100.0, 1)
        own = ""
        if figure:
            low, high = (f"{end * scale:.{digits}f}" for end in (figure.low, figure.high))
            own = f"{figure.value * scale:.{digits}f} ({low}-{high})"
        return own if printed is None else f"{own} / {printed:.2f}*".strip()


FIGURES = (
    FigureColumn("gender", (("utkface", "gender", "accuracy"),)),
    FigureColumn("ethnicity", (("utkface", "ethnicity", "accuracy"),)),
    FigureColumn("age MAE", (("utkface", "age", "mean absolute error"),)),
    FigureColumn("age RMSE", (("utkface", "age", "root mean square error"),)),
    FigureColumn("exact year", (("utkface", "age", EXACT_YEAR),)),
    FigureColumn("14 bins", (("utkface", "age", "accuracy of fourteen bins"),)),
    FigureColumn("9 bins", (("utkface", "age", "accuracy of nine bins"),)),
    FigureColumn("FER+", (("ferplus", "emotion", "accuracy"),)),
    FigureColumn("seven emotions", (("fer2013", "emotion7", "accuracy"), ("fer2013", "emotion", "accuracy of seven"))),
    FigureColumn("attributes", (("celeba10k", "attributes", "mean accuracy"),)),
    FigureColumn("attributes, balanced", (("celeba10k", "attributes", "mean balanced accuracy"),)),
    FigureColumn("LFW", (("lfw", "verification", "accuracy"),)),
)
ELSEWHERE = (
    FigureColumn("gender, CelebA", (("celeba10k", "gender", "accuracy"),)),
    FigureColumn("gender, LFW", (("lfw", "gender", "accuracy"),)),
    FigureColumn("happiness as CelebA's Smiling", (("celeba10k", SMILE_TASK, "accuracy"),)),
    FigureColumn("ethnicity: true", (("utkface", SHARED_TASK, TRUE_POSITIVES),)),
    FigureColumn("ethnicity: false", (("utkface", SHARED_TASK, FALSE_POSITIVES),)),
    FigureColumn("ethnicity: none", (("utkface", SHARED_TASK, "left without a label"),)),
)
_BEYOND = (
    "Gender and happiness on sets whose labels were not learnt, and ethnicity over all labels together at one "
    "threshold that 1 % of the false labels pass: true and false labels given, faces without any."
)
_MEANING = (
    "GMAC: multiply-adds of a face with identity and all heads, without detection. MB: all weights, the detector's "
    "too. Hours: of training alone."
)
_PRINTED = "* as the system's authors print it, on data of their own."
_ABOUT = ("source", "start weights", "data", "GMAC", "parameters", "MB", "speed", "hours")
REFERENCE = "default"  # name of the release whose speed in the same run is 1
_TEXTS = 4  # columns of text: the name and the first of _ABOUT


def systems_text(rows: Sequence[SystemRow], speeds: Speeds) -> str:
    """Format the table of systems, the table of what heads do elsewhere, and how both were measured.

    Raises:
        DataError: the systems were measured on different rows.
    """
    _check_counts(rows)
    lines = [[row.name, *_about(row, speeds), *(column.text(row) for column in FIGURES)] for row in rows]
    parts = [table(("system", *_ABOUT, *(column.title for column in FIGURES)), lines, _TEXTS), _notes(rows, speeds)]
    beyond = [[row.name, *(column.text(row) for column in ELSEWHERE)] for row in rows]
    if any(cell for line in beyond for cell in line[1:]):
        parts += [_BEYOND, table(("system", *(column.title for column in ELSEWHERE)), beyond)]
    return "\n\n".join(parts)


def _about(row: SystemRow, speeds: Speeds) -> list[str]:
    """Return the cells of _ABOUT; those that nothing is known of are empty."""
    facts, speed = row.evaluation.facts, speeds.of(row.evaluation.weights_sha256)
    cost = ["", "", ""]
    if facts:
        cost = [f"{facts.macs / 1e9:.3f}", f"{facts.parameters / 1e6:.2f} M", f"{facts.bytes / 1e6:.1f}"]
    rate = f"{speed:.2f}" if speed else ""
    data = ", ".join(facts.data if facts and (facts.training or not row.system.data) else row.system.data)
    return [row.system.source, _start(row.system, facts), data, *cost, rate, _hours(row.system, facts)]


def _start(system: System, facts: ReleaseFacts | None) -> str:
    """Describe the weights before any run, and the objective of a run that made the trunk alone."""
    if not facts or not facts.training:
        return system.start or (facts.trunk if facts else "")
    first = facts.training[0]
    alone = {part for parts in first.learnt.values() for part in parts} == {TRUNK_PART}
    return f"{first.start}, {first.recipe}" if alone else first.start


def _hours(system: System, facts: ReleaseFacts | None) -> str:
    """Format the hours of all runs, with the devices."""
    if facts and facts.training:
        hours, devices = sum(run.seconds for run in facts.training) / 3600, [run.device for run in facts.training]
    elif system.hours is not None:
        hours, devices = system.hours, [system.machine]
    else:
        return ""
    return f"{hours:.2f} ({', '.join(dict.fromkeys(devices))})"


def _check_counts(rows: Iterable[SystemRow]) -> None:
    counts: dict[str, tuple[str, int]] = {}
    for row in rows:
        for column in (*FIGURES, *ELSEWHERE):
            if figure := column.find(row.evaluation):
                first, count = counts.setdefault(column.title, (row.name, figure.count))
                if count != figure.count:
                    raise DataError(
                        f"{column.title}: {row.name} was measured on {figure.count}, {first} on {count}; "
                        "evaluate all systems on the same rows"
                    )


def _notes(rows: Sequence[SystemRow], speeds: Speeds) -> str:
    """State the number of faces behind each column, the speed's setting, and the meaning of the marks."""
    found = [(c.title, next((f.count for r in rows if (f := c.find(r.evaluation))), None)) for c in FIGURES]
    counts = ", ".join(f"{title} {count}" for title, count in found if count)
    splits = ", ".join(dict.fromkeys(row.evaluation.split for row in rows))
    notes = [
        f"Shares in percent, ages in years, with 95 % intervals; {splits} rows, the same for all: {counts}.",
        _MEANING,
        *_speed_notes(speeds),
        _PRINTED,
    ]
    return "\n".join(f"- {note}" for note in notes)


def _speed_notes(speeds: Speeds) -> list[str]:
    """State what the speeds are shares of, and where each of the runs was made."""
    runs = dict.fromkeys(f"{run.setting} ({REFERENCE}: {run.reference:.0f})" for run in speeds.runs)
    about = f"Speed: faces a second with identity and all heads, as a share of {REFERENCE}'s, by turns in one run"
    return [f"{about}; {'; '.join(runs)}."] if runs else []
