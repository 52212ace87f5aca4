"""The folder of a sample: crops, a table and tasks to fill in, and the design that weighs the answers.

Nothing in it that labellers see states what the model reads: an answer that is shown is repeated.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from worker.errors import FacetError, UsageError
from worker.pictures.labels.sampling import Sample, SampledFace, Stratum
from worker.pictures.sheets import write_image
from worker.pictures.tiles import CROP_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from worker.storage.crops import CropStore

DESIGN, TABLE, TASKS, INTERFACE, CROPS = "sample.json", "labels.csv", "label-studio.json", "label-studio.xml", "crops"
AGE = "age"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Design:
    """A sample as its folder keeps it."""

    stratify: tuple[str, ...]
    heads: dict[str, tuple[str, ...]]
    """Labels of each head that is labelled; none for age, which is a number."""
    faces: dict[int, int]
    """Stratum of each face."""
    strata: tuple[Stratum, ...]


def write_sample(
    folder: Path, sample: Sample, design: Design, crops: CropStore, base_url: str | None
) -> list[tuple[int, str]]:
    """Write a sample; returns the faces whose crops cannot be read, and why.

    Args:
        folder: new or empty.
        sample: the faces.
        design: of the sample.
        crops: the crop store.
        base_url: address of the folder for Label Studio; None for its local files.

    Raises:
        UsageError: the folder holds a sample.
        FacetError: it cannot be written, or no crop can be read.
    """
    if (folder / DESIGN).exists():
        raise UsageError(f"{folder} holds a sample, whose labels would no longer fit; give another folder")
    missing = []
    try:
        (folder / CROPS).mkdir(parents=True, exist_ok=True)
        read = lru_cache(maxsize=1)(lambda name: crops.read(name, CROP_SIZE))
        for face in sorted(sample.faces, key=lambda one: (one.crop_uri, one.crop_index)):
            try:
                write_image(read(face.crop_uri)[face.crop_index], folder / CROPS / f"{face.face_id}.png")
            except FacetError as err:
                missing.append((face.face_id, str(err)))
        gone = {face_id for face_id, _ in missing}
        faces = sorted((one for one in sample.faces if one.face_id not in gone), key=lambda one: one.face_id)
        if not faces:
            raise FacetError(f"no crop of the sample can be read: {missing[0][1]}")
        _write_table(folder, faces, design)
        _write_tasks(folder, faces, base_url)
        (folder / INTERFACE).write_text(_interface(design.heads), encoding="utf-8")
        (folder / DESIGN).write_text(json.dumps({"version": VERSION} | asdict(design), indent=1), encoding="utf-8")
    except OSError as err:
        raise FacetError(f"{err.filename or folder} cannot be written: {err.strerror or err}") from err
    return missing


def _write_table(folder: Path, faces: list[SampledFace], design: Design) -> None:
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("face_id", "crop", "uri", "at_seconds", *design.heads, "labeller"))
        for face in faces:
            table.writerow(
                (face.face_id, f"{CROPS}/{face.face_id}.png", face.uri, round(face.at_seconds, 3))
                + ("",) * (len(design.heads) + 1)
            )


def _write_tasks(folder: Path, faces: list[SampledFace], base_url: str | None) -> None:
    base = f"/data/local-files/?d={quote(folder.resolve().name)}" if base_url is None else base_url.rstrip("/")
    tasks = [
        {"data": {"image": f"{base}/{CROPS}/{face.face_id}.png", "face_id": face.face_id, "media_id": face.media_id}}
        for face in faces
    ]
    (folder / TASKS).write_text(json.dumps(tasks, indent=1), encoding="utf-8")


def _interface(heads: Mapping[str, tuple[str, ...]]) -> str:
    """Return the labelling interface of Label Studio: a choice for each head, and a number for the age."""
    lines = ["<View>", '  <Image name="image" value="$image" zoom="true"/>']
    for head, labels in heads.items():
        lines.append(f"  <Header value={quoteattr(head)}/>")
        if not labels:
            lines.append(f'  <Number name={quoteattr(head)} toName="image" min="0" max="120"/>')
            continue
        lines.append(f'  <Choices name={quoteattr(head)} toName="image" choice="single-radio" showInLine="true">')
        lines += [f"    <Choice value={quoteattr(label)}/>" for label in labels]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


def read_design(folder: Path) -> Design:
    """Read the design of a sample.

    Raises:
        UsageError: the folder holds none, or one of another version.
    """
    path = folder / DESIGN
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["version"] != VERSION:
            raise UsageError(f"{path} is of version {stored['version']}, expected {VERSION}; draw the sample again")
        return Design(
            stratify=tuple(stored["stratify"]),
            heads={str(head): tuple(map(str, labels)) for head, labels in stored["heads"].items()},
            faces={int(face): int(stratum) for face, stratum in stored["faces"].items()},
            strata=tuple(
                Stratum(values=tuple(one["values"]), population=int(one["population"]), sampled=int(one["sampled"]))
                for one in stored["strata"]
            ),
        )
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror}; expected a folder of `facet sample`") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise UsageError(f"{path} is damaged ({err}); draw the sample again") from err
