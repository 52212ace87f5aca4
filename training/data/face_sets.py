"""Labelled face data sets as typed columns, with their official splits.

Each reader takes the folder that holds the data sets (``utkface/``, ``fer2013/``, ``celeba10k/``, ``lfw/``) and reads
label files only; ``training.data.crops`` reads pixels. In a label file without splits all rows are test. The readers of
larger sets are in ``training.data.published_sets``, those of files as authors publish them in
``training.data.as_published`` and ``training.data.emotion_folders``. The terms of every set are in the model card; none
may be redistributed.
"""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

DataName = Literal[
    "utkface",
    "fer2013",
    "celeba10k",
    "fairface",
    "adience",
    "imdb_crop",
    "wiki_crop",
    "sfew",
    "emotiw",
    "rafdb",
    "ckplus",
    "lfwa",
]
Split = Literal["train", "val", "test"]

GENDERS = ("male", "female")  # UTKFace's order, which is the head's
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")  # UTKFace's five, in its order
# FairFace's seven, labels of a head `ethnicity7`.
RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
# FER+'s eight, in its order; its votes for 'unknown' and 'not a face' are no classes of the head.
EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
# FER2013's own seven, under FER+'s names and in its order: the labels of the head `emotion7`.
ORIGINAL_EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
MAX_AGE = 116  # years; the oldest age in UTKFace's labels

_SEVEN_AS_EMOTION = {
    "neutral": "neutral",
    "happy": "happiness",
    "surprise": "surprise",
    "sad": "sadness",
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
}
_WHOLE = ("name", "root", "names")  # fields of a FaceSet that describe all rows at once
# Columns of CelebA's label file that are no attributes.
_CELEBA_FACTS = ("file", "identity", "split", "official_partition")
# The forty names of CelebA, in its order.
CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
UNKNOWN = -1  # stands for a class or a person that a file does not name


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceSet:
    """N images that hold one labelled face each; every field has N rows but those in ``_WHOLE``."""

    name: str
    root: Path
    """Folder that ``files`` are relative to."""
    files: NDArray[np.str_]
    split: NDArray[np.str_]
    """'train', 'val' or 'test'; rows of other splits can be measured, but nothing is trained on them."""

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self) if f.name not in _WHOLE}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of {self.name} differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: NDArray[np.generic] | slice) -> Self:
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{k: v if k in _WHOLE else v[rows] for k, v in columns.items()})

    def paths(self) -> list[Path]:
        """Return the N image files."""
        return [self.root / str(name) for name in self.files]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the row numbers of one split, ascending."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True, slots=True, kw_only=True)
class People(FaceSet):
    """Faces with age, gender and ethnicity, as far as a set has these labels."""

    age: NDArray[np.float32]
    """(N,) years, 0..116; NaN where there is no label."""
    gender: NDArray[np.int64]
    """(N,) index into GENDERS, or UNKNOWN."""
    ethnicity: NDArray[np.int64]
    """(N,) index into ETHNICITIES, or UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtkFace(People):
    """UTKFace: one age, gender and ethnicity per face."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BinnedPeople(People):
    """FairFace and Adience: ages in ranges, of which ``age`` is the middle."""

    age_span: NDArray[np.float32]
    """(N, 2) first and last year of the range; NaN where there is no label."""
    race: NDArray[np.int64]
    """(N,) index into RACES, or UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fer2013(FaceSet):
    """FER2013 with FER+'s ten votes per face."""

    votes: NDArray[np.float32]
    """(N, 8) votes for EMOTIONS."""
    other_votes: NDArray[np.float32]
    """(N,) votes for 'unknown' or 'not a face'."""
    majority: NDArray[np.int64]
    """(N,) index into EMOTIONS of the FER+ majority, UNKNOWN where there is none."""
    original: NDArray[np.int64]
    """(N,) index into EMOTIONS of FER2013's own label, which never is contempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CelebA(FaceSet):
    """CelebA (first 10,000 images): forty attributes per face."""

    attributes: NDArray[np.float32]
    """(N, 40) 0 or 1, in the order of ``names``."""
    identity: NDArray[np.int64]
    """(N,) number of the person, or UNKNOWN."""
    names: tuple[str, ...]
    """The forty names; the one field without N rows."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows of a FaceSet to verify, in folds."""

    left: NDArray[np.int64]
    """(P,) row of the first image."""
    right: NDArray[np.int64]
    """(P,) row of the second image."""
    same: NDArray[np.bool_]
    """(P,) whether both show the same person."""
    fold: NDArray[np.int64]
    """(P,) 0..9."""

    def __len__(self) -> int:
        return len(self.same)

    def among(self, there: NDArray[np.bool_]) -> Pairs:
        """Return the pairs of which both images are there, given (N,) bool; rows are counted among the images there."""
        kept = there[self.left] & there[self.right]
        row = np.cumsum(there) - 1
        return Pairs(row[self.left[kept]], row[self.right[kept]], self.same[kept], self.fold[kept])


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header line.

    Raises:
        DataError: the file is not there.
    """
    try:
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError as err:
        raise DataError(
            f"no {path.name} in {path.parent}; expected the layout described in docs/evaluation.md"
        ) from err


def _columns(name: str, root: Path, rows: list[dict[str, str]]) -> FaceSet:
    splits = np.array([row.get("split") or "test" for row in rows], dtype=np.str_)
    if strange := sorted(set(splits.tolist()) - set(get_args(Split))):
        facts = {"action": "strange_splits", "set": name, "splits": strange}
        _log.warning("%s has splits %s, which nothing is trained on", name, ", ".join(strange), extra=facts)
    files = np.array([f"images/{row['file']}" for row in rows], dtype=np.str_)
    return FaceSet(name=name, root=root, files=files, split=splits)


def read_utkface(data: Path) -> UtkFace:
    """Read UTKFace, without byte-identical copies, copies with contradicting labels, and files without labels."""
    rows = read_rows(data / "utkface" / "labels.csv")
    rows = [row for row in rows if row.get("dup") not in ("dup", "conflict") and row["race"]]
    common = _columns("utkface", data / "utkface", rows)
    return UtkFace(
        name=common.name,
        root=common.root,
        files=common.files,
        split=common.split,
        age=np.array([row["age"] for row in rows], dtype=np.float32),
        gender=np.array([row["gender"] for row in rows], dtype=np.int64),
        ethnicity=np.array([row["race"] for row in rows], dtype=np.int64),
    )


def read_fer2013(data: Path) -> Fer2013:
    """Read FER2013 with its own labels and FER+'s votes."""
    rows = read_rows(data / "fer2013" / "labels.csv")
    common = _columns("fer2013", data / "fer2013", rows)
    votes = np.array([[row[f"v_{emotion}"] for emotion in EMOTIONS] for row in rows], dtype=np.float32)
    majority = [EMOTIONS.index(row["ferplus_majority"]) if row["ferplus_majority"] else UNKNOWN for row in rows]
    return Fer2013(
        name=common.name,
        root=common.root,
        files=common.files,
        split=common.split,
        votes=votes.reshape(-1, len(EMOTIONS)),
        other_votes=np.array([float(row["v_unknown"]) + float(row["v_NF"]) for row in rows], dtype=np.float32),
        majority=np.array(majority, dtype=np.int64),
        original=np.array([EMOTIONS.index(_SEVEN_AS_EMOTION[row["fer2013_label"]]) for row in rows], dtype=np.int64),
    )


def read_celeba(data: Path) -> CelebA:
    """Read the forty attributes of CelebA's first 10,000 images; splits share no identity."""
    rows = read_rows(data / "celeba10k" / "attributes.csv")
    common = _columns("celeba10k", data / "celeba10k", rows)
    names = tuple(name for name in (rows[0] if rows else ()) if name not in _CELEBA_FACTS)
    return CelebA(
        name=common.name,
        root=common.root,
        files=common.files,
        split=common.split,
        attributes=np.array([[row[name] for name in names] for row in rows], dtype=np.float32),
        identity=np.array([row.get("identity") or UNKNOWN for row in rows], dtype=np.int64),
        names=names,
    )


def read_lfw(data: Path) -> tuple[FaceSet, Pairs]:
    """Read the images of LFW's View 2, and its ten folds of pairs."""
    root = data / "lfw"
    try:
        header, *lines = (root / "pairs.txt").read_text().splitlines()
    except FileNotFoundError as err:
        raise DataError(f"no pairs.txt in {root}; expected LFW's View 2") from err
    folds, size = (int(word) for word in header.split())
    fields_of = [line.split("\t") for line in lines if line.strip()]
    if len(fields_of) != 2 * folds * size:
        raise DataError(
            f"{root / 'pairs.txt'} has {len(fields_of)} pairs, its header promises {2 * folds * size}; restore it"
        )
    named = [_pair(words) for words in fields_of]
    files = sorted({name for left, right, _ in named for name in (left, right)})
    row = {name: number for number, name in enumerate(files)}
    faces = FaceSet(
        name="lfw", root=root, files=np.array(files, dtype=np.str_), split=np.full(len(files), "test", dtype=np.str_)
    )
    return faces, Pairs(
        left=np.array([row[left] for left, _, _ in named], dtype=np.int64),
        right=np.array([row[right] for _, right, _ in named], dtype=np.int64),
        same=np.array([same for _, _, same in named], dtype=np.bool_),
        fold=np.arange(len(named), dtype=np.int64) // (2 * size),
    )


def read_lfw_images(data: Path) -> FaceSet:
    """Read all images of LFW by the person's split in ``persons_split.csv``: test are folds 9 and 10 of View 2."""
    root = data / "lfw"
    rows = read_rows(root / "persons_split.csv")
    named = [(row, number) for row in rows for number in range(1, int(row["images"]) + 1)]
    return FaceSet(
        name="lfw",
        root=root,
        files=np.array([_lfw_file(row["person"], str(number)) for row, number in named], dtype=np.str_),
        split=np.array([row["split"] for row, _ in named], dtype=np.str_),
    )


def read_lfw_genders(data: Path) -> dict[str, int]:
    """Read the gender of LFW's people, as index into GENDERS, by name; empty without `gender.csv`."""
    if not (data / "lfw" / "gender.csv").is_file():
        return {}
    rows = read_rows(data / "lfw" / "gender.csv")
    return {row["person"]: GENDERS.index(row["gender"]) for row in rows if row["gender"] in GENDERS}


def _pair(words: list[str]) -> tuple[str, str, bool]:
    same = len(words) == 3
    first, second = (words[0], words[0] if same else words[2])
    return _lfw_file(first, words[1]), _lfw_file(second, words[-1]), same


def _lfw_file(person: str, number: str) -> str:
    return f"images/{person}/{person}_{int(number):04d}.jpg"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of the WIDER FACE subset with its labelled faces."""

    path: Path
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2, pixels; without faces that are marked invalid."""
    ignored: NDArray[np.float32]
    """(G, 4) boxes of faces that are marked invalid: neither hits nor false positives."""


def read_wider(data: Path) -> list[LabelledImage]:
    """Read the images and boxes of the WIDER FACE subset."""
    root = data / "widerface_subset"
    try:
        entries = json.loads((root / "annotations.json").read_text())
    except FileNotFoundError as err:
        raise DataError(f"no annotations.json in {root}; expected the layout described in docs/evaluation.md") from err
    return [_labelled_image(root, entry) for entry in entries]


def _labelled_image(root: Path, entry: dict[str, Any]) -> LabelledImage:
    boxes = np.array([face["box"] for face in entry["faces"]], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    invalid = np.array([face["invalid"] for face in entry["faces"]], dtype=np.bool_).reshape(-1)
    return LabelledImage(path=root / "images" / entry["file"], boxes=boxes[~invalid], ignored=boxes[invalid])
