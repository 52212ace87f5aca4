"""Readers of FairFace, Adience and IMDB-WIKI, in the layouts in which their authors publish them.

fairface/              fairface_label_train.csv, fairface_label_val.csv, train/*.jpg, val/*.jpg; the published parts
                       train and val are train (of which 5 % are val) and test here
adience/               fold_0_data.txt ... fold_4_data.txt, faces/USER/coarse_tilt_aligned_face.ID.IMAGE; of the five
                       folds 0 to 2 are train, 3 is val, 4 is test
imdb_crop/, wiki_crop/ imdb.mat, wiki.mat, 00/*.jpg ... 99/*.jpg; published without splits, so people are divided here:
                       90 % train, 5 % val, 5 % test
"""

from __future__ import annotations

import csv
import hashlib
import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from training.data.as_published import split_of
from training.data.face_sets import ETHNICITIES, MAX_AGE, RACES, UNKNOWN, BinnedPeople, People, read_rows
from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# FairFace's seven races under UTKFace's five names. Source: UTKFace's page, 'Others (like Hispanic, Latino, Middle
# Eastern)'.
RACE_AS_ETHNICITY = {
    "White": "White",
    "Black": "Black",
    "East Asian": "Asian",
    "Southeast Asian": "Asian",
    "Indian": "Indian",
    "Latino_Hispanic": "Other",
    "Middle Eastern": "Other",
}
# FairFace's nine ranges of ages, first and last year, by their place among the labels of a head `age_range`.
AGE_RANGE_LABELS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
# FairFace's own test images are not published. Papers report its validation part, so that is the test here; a part of
# its train, by the names of the files, is val.
FAIRFACE_VAL = (("val", 0.05),)
FAIRFACE_SPLITS = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "test"}
ADIENCE_SPLITS = ("train", "train", "train", "val", "test")  # of Adience's five folds, which share no person
# Of IMDB-WIKI's own detector; below it, or beside a second face, the image often shows another person. Source: Rothe et
# al. 2015, 'DEX', leave out images with a second face; the score is our choice.
MIN_FACE_SCORE = 1.0
MAX_YEARS = 100  # greater ages are errors of the dates

_NUMBERS = re.compile(r"\d+")


def read_fairface(data: Path) -> BinnedPeople:
    """Read FairFace: age in nine ranges, gender, seven races; one of the two label files is enough."""
    root = data / "fairface"
    files = {name: split for name, split in FAIRFACE_SPLITS.items() if (root / name).is_file()}
    if not files:
        raise DataError(f"no {' or '.join(FAIRFACE_SPLITS)} in {root}; expected FairFace's label files")
    rows = [row for name, split in files.items() for row in _fairface_rows(root / name, split)]
    race = [RACES.index(row["race"]) if row["race"] in RACES else UNKNOWN for row, _ in rows]
    five = np.array([ETHNICITIES.index(RACE_AS_ETHNICITY[name]) for name in RACES])
    span = np.array([age_span(row["age"]) for row, _ in rows], dtype=np.float32).reshape(-1, 2)
    return BinnedPeople(
        name="fairface",
        root=root,
        files=np.array([row["file"] for row, _ in rows], dtype=np.str_),
        split=np.array([_fairface_split(row["file"], split) for row, split in rows], dtype=np.str_),
        age=span.mean(axis=1),
        age_span=span,
        gender=np.array([_gender(row["gender"]) for row, _ in rows], dtype=np.int64),
        ethnicity=np.where(np.array(race) == UNKNOWN, UNKNOWN, five[race]).astype(np.int64),
        race=np.array(race, dtype=np.int64),
    )


def _fairface_rows(path: Path, split: str) -> list[tuple[dict[str, str], str]]:
    """Return the rows of a label file with their split.

    Raises:
        DataError: a row has an age, gender or race that FairFace does not have.
    """
    known = {"age": AGE_RANGE_LABELS, "gender": ("Male", "Female"), "race": RACES}
    rows = read_rows(path)
    for number, row in enumerate(rows, 2):
        for column, labels in known.items():
            if (found := row.get(column)) not in labels:
                raise DataError(
                    f"{path}: line {number} has {column} {found!r}, expected one of {', '.join(labels)}; restore it"
                )
    return [(row, split) for row in rows]


def _fairface_split(file: str, split: str) -> str:
    return split_of(file.encode(), FAIRFACE_VAL) if split == "train" else split


def read_adience(data: Path) -> BinnedPeople:
    """Read Adience: age in ranges or years, gender; faces without either are left out."""
    root = data / "adience"
    folds = [(number, root / f"fold_{number}_data.txt") for number in range(len(ADIENCE_SPLITS))]
    rows = [(row, ADIENCE_SPLITS[number]) for number, path in folds for row in _tab_rows(path)]
    rows = [(row, split) for row, split in rows if _NUMBERS.search(row["age"]) or _gender(row["gender"]) != UNKNOWN]
    span = np.array([age_span(row["age"]) for row, _ in rows], dtype=np.float32).reshape(-1, 2)
    names = [f"faces/{r['user_id']}/coarse_tilt_aligned_face.{r['face_id']}.{r['original_image']}" for r, _ in rows]
    unlabelled = np.full(len(rows), UNKNOWN, dtype=np.int64)
    return BinnedPeople(
        name="adience",
        root=root,
        files=np.array(names, dtype=np.str_),
        split=np.array([split for _, split in rows], dtype=np.str_),
        age=span.mean(axis=1),
        age_span=span,
        gender=np.array([_gender(row["gender"]) for row, _ in rows], dtype=np.int64),
        ethnicity=unlabelled,
        race=unlabelled,
    )


def _tab_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except FileNotFoundError as err:
        raise DataError(f"no {path.name} in {path.parent}; expected Adience's five fold files") from err


def age_span(text: str) -> tuple[float, float]:
    """Parse an age as its first and last year: '(25, 32)', '20-29', 'more than 70', '35', or 'None' (NaN)."""
    years = [float(word) for word in _NUMBERS.findall(text)]
    if not years:
        return float("nan"), float("nan")
    if "more" in text:
        return years[0], float(MAX_AGE)
    return years[0], years[-1]


AGE_RANGES = {age_span(label): place for place, label in enumerate(AGE_RANGE_LABELS)}


def _gender(text: str) -> int:
    return {"m": 0, "f": 1}.get(text[:1].lower(), UNKNOWN)


def read_imdb(data: Path) -> People:
    """Read the IMDB part of IMDB-WIKI: age in the year of the image, and gender."""
    return _read_mat(data / "imdb_crop", "imdb")


def read_wiki(data: Path) -> People:
    """Read the Wikipedia part of IMDB-WIKI: age in the year of the image, and gender."""
    return _read_mat(data / "wiki_crop", "wiki")


def _read_mat(root: Path, name: Literal["imdb", "wiki"]) -> People:
    from scipy.io import loadmat  # type: ignore[import-untyped]  # noqa: PLC0415 - only these files need it

    path = root / f"{name}.mat"
    if not path.is_file():
        raise DataError(f"no {path.name} in {root}; expected the cropped faces of IMDB-WIKI")
    table: Any = loadmat(str(path), squeeze_me=True, struct_as_record=False)[name]
    columns = {key: np.atleast_1d(getattr(table, key)) for key in ("dob", "photo_taken", "full_path", "gender")}
    scores = np.atleast_1d(table.face_score).astype(np.float64)
    alone = np.isnan(np.atleast_1d(table.second_face_score).astype(np.float64))
    ages = ages_at(columns["dob"], columns["photo_taken"])
    kept = (scores >= MIN_FACE_SCORE) & alone & (ages >= 0) & (ages <= MAX_YEARS)
    people = np.atleast_1d(table.name)
    gender = columns["gender"].astype(np.float64)[kept]
    return People(
        name=root.name,
        root=root,
        files=columns["full_path"][kept].astype(np.str_),
        split=np.array([person_split(str(person)) for person in people[kept]], dtype=np.str_),
        age=ages[kept],
        gender=np.where(np.isnan(gender), UNKNOWN, 1 - np.nan_to_num(gender)).astype(np.int64),
        ethnicity=np.full(int(kept.sum()), UNKNOWN, dtype=np.int64),
    )


def ages_at(born: NDArray[np.generic], taken: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the age in whole years in the middle of the year in which an image was taken.

    Args:
        born: (N,) day of birth, as MATLAB numbers days.
        taken: (N,) year of the image; its day is not known.
    """
    return np.array([_age(int(day), int(year)) for day, year in zip(born, taken, strict=True)], dtype=np.float32)


def _age(day: int, year: int) -> float:
    try:
        birth = date.fromordinal(day) - timedelta(days=366)  # MATLAB counts from the year 0, Python from the year 1
    except (OverflowError, ValueError):
        return float("nan")
    return float(year - birth.year - ((birth.month, birth.day) > (7, 1)))


def person_split(person: str) -> str:
    """Return the split of all images of a person, the same one in every run."""
    place = int.from_bytes(hashlib.sha256(person.encode()).digest()[:4]) % 20
    return {0: "val", 1: "test"}.get(place, "train")
