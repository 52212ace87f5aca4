"""Sets with one annotator's expression of each face and the person it shows: film stills, and the images of LFW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import EMOTIONS, UNKNOWN, FaceSet, read_lfw_images, read_rows
from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILM_FACES = "film_faces"
# Of LFW's expressions, those with twenty faces or more of people outside the training split; others stay without label.
LFW_EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressiveFaces(FaceSet):
    """Faces with an expression and a person."""

    expression: NDArray[np.int64]
    """(N,) index into EMOTIONS, or UNKNOWN."""
    person: NDArray[np.str_]
    """(N,) name of the person."""


def read_film_faces(data: Path) -> ExpressiveFaces:
    """Read the faces of film stills; splits share no person.

    Raises:
        DataError: there are no labels, or one of an expression that FER+ does not have.
    """
    root = data / FILM_FACES
    rows = read_rows(root / "labels.csv")
    return ExpressiveFaces(
        name=FILM_FACES,
        root=root,
        files=np.array([f"images/{row['file']}" for row in rows], dtype=np.str_),
        split=np.array([row["split"] for row in rows], dtype=np.str_),
        expression=np.array([_emotion(row["expression"], root / "labels.csv") for row in rows], dtype=np.int64),
        person=np.array([row["person"] for row in rows], dtype=np.str_),
    )


def read_lfw_expressions(data: Path) -> ExpressiveFaces:
    """Read all images of LFW by the person's split, with their expressions from `expressions.csv` if it is there.

    Raises:
        DataError: there is no `persons_split.csv`, or an expression that FER+ does not have.
    """
    images = read_lfw_images(data)
    path = data / "lfw" / "expressions.csv"
    rows = read_rows(path) if path.is_file() else []
    emotion_of = {row["file"]: _emotion(row["expression"], path) for row in rows}
    names = [name.split("/")[1:] for name in images.files.tolist()]
    found = np.array([emotion_of.get(file, UNKNOWN) for _, file in names], dtype=np.int64)
    judged = np.isin(found, [EMOTIONS.index(name) for name in LFW_EXPRESSIONS])
    return ExpressiveFaces(
        name=images.name,
        root=images.root,
        files=images.files,
        split=images.split,
        expression=np.where(judged, found, UNKNOWN),
        person=np.array([person for person, _ in names], dtype=np.str_),
    )


def _emotion(name: str, path: Path) -> int:
    if name not in EMOTIONS:
        raise DataError(f"{path} has expression {name!r}, expected one of {', '.join(EMOTIONS)}")
    return EMOTIONS.index(name)
