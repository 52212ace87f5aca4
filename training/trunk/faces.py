"""Faces of many people, to train a trunk on identity or to distil one from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.crops import crop_faces
from training.data.face_sets import UNKNOWN, FaceSet, read_lfw_images
from training.data.sets import load_celeba, load_utkface
from training.errors import DataError, unknown_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from models.detection.detector import FaceDetector
    from models.trunks.base import TrunkLayout


@dataclass(frozen=True, slots=True)
class NamedFaces:
    """Images of people, not yet cut."""

    faces: FaceSet
    people: NDArray[np.str_]
    """(N,) name of the person; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class IdentityFaces:
    """Crops of people."""

    crops: tuple[NDArray[np.uint8], ...]
    """(Ni, 3, S, S) of each set; sets are not joined, since they are mapped from disk."""
    person: NDArray[np.int64]
    """(N,) 0..people - 1 over all sets, or UNKNOWN."""

    def __post_init__(self) -> None:
        if sum(map(len, self.crops)) != len(self.person):
            raise ValueError(f"got {sum(map(len, self.crops))} crops of {len(self.person)} faces, expected as many")

    def __len__(self) -> int:
        return len(self.person)

    @property
    def people(self) -> int:
        """Number of known people."""
        return int(self.person.max(initial=UNKNOWN)) + 1

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the (B, 3, S, S) crops of some rows."""
        found = np.empty((len(rows), *self.crops[0].shape[1:]), dtype=np.uint8)
        start = 0
        for part in self.crops:
            inside = (rows >= start) & (rows < start + len(part))
            found[inside] = part[rows[inside] - start]
            start += len(part)
        return found


def read_celeba_people(data: Path) -> NamedFaces:
    """Read the training split of CelebA, which shares no person with the others."""
    every = load_celeba(data)
    faces = every[every.rows("train")]
    return NamedFaces(faces, np.array([f"celeba {n}" if n != UNKNOWN else "" for n in faces.identity], dtype=np.str_))


def read_lfw_people(data: Path) -> NamedFaces:
    """Read the people of split train in ``persons_split.csv`` of LFW: those outside folds 8, 9 and 10 of View 2."""
    every = read_lfw_images(data)
    faces = every[every.rows("train")]
    return NamedFaces(faces, np.array([f"lfw {file.split('/')[1]}" for file in faces.files.tolist()], dtype=np.str_))


def read_utkface_unnamed(data: Path) -> NamedFaces:
    """Read the training split of UTKFace, whose people have no names: for distillation only."""
    every = load_utkface(data)
    faces = every[every.rows("train")]
    return NamedFaces(faces, np.full(len(faces), "", dtype=np.str_))


SOURCES: dict[str, Callable[[Path], NamedFaces]] = {
    "celeba10k": read_celeba_people,
    "lfw": read_lfw_people,
    "utkface": read_utkface_unnamed,
}


def read_people(data: Path, sets: Iterable[str]) -> list[NamedFaces]:
    """Read the faces of some sets.

    Raises:
        DataError: a set is missing.
        RecipeError: a set is unknown.
    """
    if unknown := sorted(set(sets) - set(SOURCES)):
        raise unknown_names("faces of", unknown, SOURCES)
    return [SOURCES[name](data) for name in sets]


def number_people(people: NDArray[np.str_], min_images: int) -> NDArray[np.int64]:
    """Number the people with enough images: (N,) names to (N,) 0..P - 1, and UNKNOWN for all others."""
    names, person, counts = np.unique(people, return_inverse=True, return_counts=True)
    known = (counts >= min_images) & (names != "")
    number = np.where(known, np.cumsum(known) - 1, UNKNOWN)
    return np.asarray(number[person], dtype=np.int64)


def cut_people(
    sources: list[NamedFaces], detector: FaceDetector, cache: Path, layout: TrunkLayout, min_images: int = 2
) -> IdentityFaces:
    """Cut the crops that a trunk takes.

    Args:
        sources: images by set.
        detector: finds the faces.
        cache: folder for crops.
        layout: of the trunk.
        min_images: of a person; people with fewer are UNKNOWN.

    Raises:
        DataError: there is no face at all.
    """
    crops = tuple(crop_faces(source.faces, detector, cache, layout).pixels for source in sources)
    if not sum(map(len, crops)):
        raise DataError("the sets hold no face to train on; expected rows of split train")
    return IdentityFaces(crops, number_people(np.concatenate([source.people for source in sources]), min_images))
