"""The parts of a release or a trunk and their costs: the tables of ``facet-train describe``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.branches import sharing
from models.cost import Cost, ModelCost, measure_cost
from models.manifest import TRUNK_FILE, branch_file, read_manifest
from training.evaluate.evaluate import ReleaseFacts
from training.releases.export import branches_of
from training.releases.origin import SET_TERMS

if TYPE_CHECKING:
    from pathlib import Path

    from models.branches import BranchSpec
    from models.manifest import Manifest

_FLOAT32_BYTES = 4
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Description:
    """A trunk and branches with their costs."""

    trunk: str
    cost: ModelCost
    sizes: dict[str, int]
    """Bytes of the weights file by task, the trunk's under the empty name; in float32 where there is no file."""

    def runs(self) -> dict[str, int]:
        """Return the multiply-adds for a face by the heads that are on."""
        alone = {f"{task} alone, no identity": self.cost.macs((task,), identity=False) for task in self.cost.branches}
        without = {
            f"all but {task}": self.cost.macs([other for other in self.cost.branches if other != task])
            for task in self.cost.branches
        }
        everything = {"identity and all heads": self.cost.macs()} if self.cost.branches else {}
        all_heads = {"all heads, no identity": self.cost.macs(identity=False)} if self.cost.branches else {}
        return {"identity alone": self.cost.macs(()), **everything, **all_heads, **without, **alone}

    def plain(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        trunk = {
            "name": self.trunk,
            **asdict(self.cost.trunk),
            "macs_as_standard_convolutions": self.cost.standard,
            "bytes": self.sizes[""],
            "depths": self.cost.depths,
        }
        branches = [
            {
                "task": spec.task,
                "depths": spec.depths,
                "stages": spec.stages,
                "relearnt_to": spec.relearnt_to,
                "regions": asdict(spec.regions) if spec.regions else None,
                "hidden": spec.widths,
                "shared": spec.shared,
                **asdict(self.cost.branches[spec.task]),
                "bytes": self.sizes[spec.task],
                "share_of_trunk": self._share(spec),
            }
            for spec in self.cost.specs
        ]
        shared = [{"tasks": tasks, **asdict(cost)} for tasks, cost in self.cost.shared.items()]
        return {"trunk": trunk, "branches": branches, "shared": shared, "macs_per_face": self.runs()}

    def table(self) -> str:
        """Format two Markdown tables: the parts, and the cost of a face."""
        lines = [
            "| part | leaves at | own layers | weights | norm, slopes | MMAC a face | of the trunk | MB |",
            "|---|---|---|---|---|---|---|---|",
            _row(f"trunk {self.trunk}", "", "", self.cost.trunk, ("100 %", self.sizes[""])),
        ]
        for spec in self.cost.specs:
            own = f"to {spec.relearnt_to}" if spec.relearnt_to else ""
            own = own or (f"{len(spec.labels)} regions" if spec.regions else "")
            own = own or ", ".join(f"{outputs}/{stride}" for outputs, stride in spec.stages)
            share = (f"{self._share(spec):.1%}".replace("%", " %"), self.sizes[spec.task])
            lines.append(_row(spec.task, "+".join(spec.depths), own, self.cost.branches[spec.task], share))
        for tasks, cost in self.cost.shared.items():
            first = next(spec for spec in self.cost.specs if spec.task == tasks[0])
            of_trunk = f"{cost.macs / self.cost.trunk.macs:.1%}".replace("%", " %")
            lines.append(_row(f"shared by {', '.join(tasks)}", "+".join(first.depths), "", cost, (of_trunk, 0)))
        runs = [f"| {name} | {macs / _MILLION:.1f} |" for name, macs in self.runs().items()]
        return "\n".join([*lines, *self._separation(), "", "| switched on | MMAC a face |", "|---|---|", *runs])

    def _separation(self) -> list[str]:
        """Format what depthwise-separable convolutions save, where the trunk has any."""
        if self.cost.standard == self.cost.trunk.macs:
            return []
        times = self.cost.standard / self.cost.trunk.macs
        standard = self.cost.standard / _MILLION
        return [
            "",
            f"As standard convolutions the trunk would take {standard:.1f} MMAC a face, {times:.1f} times as many.",
        ]

    def _share(self, spec: BranchSpec) -> float:
        return self.cost.branches[spec.task].macs / self.cost.trunk.macs


def describe_release(folder: Path) -> Description:
    """Describe a release; weights are read of branches that may share layers only.

    Raises:
        ReleaseError: the folder is no release.
        WeightsError: a file of such a branch is damaged or exchanged.
    """
    manifest = read_manifest(folder)
    files = {"": TRUNK_FILE, **{spec.task: branch_file(spec.task) for spec in manifest.branches}}
    sizes = {task: (folder / file).stat().st_size for task, file in files.items()}
    return Description(manifest.trunk, release_cost(folder, manifest), sizes)


def release_cost(folder: Path, manifest: Manifest) -> ModelCost:
    """Count the cost of a release; layers that branches share are counted as often as there are different ones.

    Raises:
        WeightsError: the file of a branch with shared layers is damaged or exchanged.
    """
    tasks = [spec.task for spec in manifest.branches if spec.shared]
    groups: dict[str, tuple[str, ...]] = {}
    for task, first in sharing(branches_of(folder, tasks)).items():
        groups[first.spec.task] = (*groups.get(first.spec.task, ()), task)
    return measure_cost(manifest.trunk, manifest.branches, tuple(groups.values()))


def release_facts(folder: Path) -> ReleaseFacts:
    """Return cost and origin of a release, for its evaluation.

    Raises:
        ReleaseError: the folder is no release.
    """
    manifest = read_manifest(folder)
    cost = release_cost(folder, manifest)
    parts = (cost.trunk, *cost.branches.values(), *cost.shared.values())
    return ReleaseFacts(
        trunk=manifest.trunk,
        macs=cost.macs(),
        parameters=sum(part.weights + part.others for part in parts),
        bytes=sum((folder / file).stat().st_size for file in manifest.files),
        data=tuple(name for name in manifest.data if name in SET_TERMS),
        training=manifest.training,
    )


def describe_trunk(name: str) -> Description:
    """Describe a trunk that need not be in any release.

    Raises:
        ReleaseError: this program has no such trunk.
    """
    cost = measure_cost(name)
    return Description(name, cost, {"": (cost.trunk.weights + cost.trunk.others) * _FLOAT32_BYTES})


def _row(name: str, depth: str, own: str, cost: Cost, share_and_bytes: tuple[str, int]) -> str:
    share, size = share_and_bytes
    numbers = f"{cost.weights:,} | {cost.others:,} | {cost.macs / _MILLION:.1f} | {share} | {size / _MILLION:.1f}"
    return f"| {name} | {depth} | {own} | {numbers} |"
