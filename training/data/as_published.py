"""Readers of UTKFace, CelebA and FER2013 in the files in which their authors publish them.

utkface/    AGE_GENDER_RACE_DATE.jpg in any folders, labels in the names; no official split, so the bytes of each file
            decide: 80 % train, 5 % val, 15 % test
celeba/     list_attr_celeba.txt, list_eval_partition.txt and, if wanted, identity_CelebA.txt, in Anno/ and Eval/ or
            beside each other; img_align_celeba/*.jpg, also in Img/
fer2013/    fer2013.csv (pixels and FER2013's label) and fer2013new.csv (FER+'s votes), a row for the same image in the
            same line; PublicTest is val and PrivateTest is test; the images are written to images/ beside them once
"""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from typing import TYPE_CHECKING

import cv2
import numpy as np

from training.data.face_sets import (
    CELEBA_ATTRIBUTES,
    EMOTIONS,
    ETHNICITIES,
    GENDERS,
    MAX_AGE,
    UNKNOWN,
    CelebA,
    Fer2013,
    UtkFace,
)
from training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

UTKFACE_SHARES = (("val", 0.05), ("test", 0.15))  # the rest is train
_UTK_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\d+)")  # age, gender, race, date and time
_CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}
_FER_SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
# FER2013's numbers 0 to 6, under FER+'s names.
FER_NUMBERS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_FER_VOTES = (*EMOTIONS, "unknown", "NF")
_FER_SIDE = 48  # pixels


def split_of(data: bytes, shares: tuple[tuple[str, float], ...] = UTKFACE_SHARES, seed: int = 0) -> str:
    """Return the split of a file by its bytes, so that copies are in one split whatever they are called.

    Args:
        data: all bytes of the file, or another name of it.
        shares: of the splits but `train`, which has the rest.
        seed: another one gives other splits.
    """
    place = int.from_bytes(hashlib.sha256(b"%d:" % seed + data).digest()[:8]) / 2**64
    for split, share in shares:
        if place < share:
            return split
        place -= share
    return "train"


def read_utkface_names(data: Path) -> UtkFace:
    """Read UTKFace by the names of its files, without byte-identical copies and files that lack one of the labels.

    Raises:
        DataError: there is no image, or a name has an impossible label.
    """
    root = data / "utkface"
    named = [(path, _utk_labels(path)) for path in sorted(root.rglob("*.jpg"))]
    if not named:
        raise DataError(
            f"no labels.csv and no *.jpg in {root}; expected UTKFace's files or docs/evaluation.md's layout"
        )
    labelled = [(path, labels) for path, labels in named if labels]
    copies: dict[bytes, list[tuple[Path, tuple[int, int, int]]]] = {}
    for path, labels in labelled:
        copies.setdefault(hashlib.sha256(path.read_bytes()).digest(), []).append((path, labels))
    kept = [(key, *same[0]) for key, same in copies.items() if len({labels for _, labels in same}) == 1]
    facts = {"action": "left_out", "set": "utkface", "unlabelled": len(named) - len(labelled), "kept": len(kept)}
    _log.info("kept %d of UTKFace's %d files", len(kept), len(named), extra=facts)
    ages, genders, races = np.array([labels for _, _, labels in kept], dtype=np.int64).reshape(-1, 3).T
    return UtkFace(
        name="utkface",
        root=root,
        files=np.array([str(path.relative_to(root)) for _, path, _ in kept], dtype=np.str_),
        split=np.array([split_of(key) for key, _, _ in kept], dtype=np.str_),
        age=ages.astype(np.float32),
        gender=genders,
        ethnicity=races,
    )


def _utk_labels(path: Path) -> tuple[int, int, int] | None:
    """Return age, gender and race by a name; None where it lacks one of them, as some published names do."""
    found = _UTK_NAME.match(path.name)
    if found is None:
        return None
    age, gender, race = (int(found[place]) for place in (1, 2, 3))
    if age > MAX_AGE or gender >= len(GENDERS) or race >= len(ETHNICITIES):
        raise DataError(
            f"{path} has age {age}, gender {gender}, race {race}, expected at most {MAX_AGE}, {len(GENDERS) - 1}, "
            f"{len(ETHNICITIES) - 1}; rename or remove the file"
        )
    return age, gender, race


def read_celeba_lists(data: Path) -> CelebA:
    """Read CelebA's forty attributes by its authors' lists; without identities where identity_CelebA.txt is missing.

    Raises:
        DataError: a list is missing, or a line of it contradicts another or the form.
    """
    root = data / "celeba"
    path = _found(root, "list_attr_celeba.txt", ("", "Anno"))
    count, names, rows = _celeba_attributes(path)
    if len(rows) != count:
        raise DataError(f"{path}: line 1 promises {count} images, {len(rows)} follow; restore the file")
    parts = dict(_pairs(_found(root, "list_eval_partition.txt", ("", "Eval"))))
    people = dict(_pairs(found)) if (found := _optional(root, "identity_CelebA.txt", ("", "Anno"))) else {}
    folder = next((name for name in ("img_align_celeba", "Img/img_align_celeba") if (root / name).is_dir()), "")
    if not folder:
        raise DataError(f"no folder img_align_celeba in {root} or {root / 'Img'}; unpack CelebA's aligned images there")
    return CelebA(
        name="celeba",
        root=root,
        files=np.array([f"{folder}/{name}" for name in rows], dtype=np.str_),
        split=np.array([_celeba_split(parts, name, path) for name in rows], dtype=np.str_),
        attributes=np.array(list(rows.values()), dtype=np.float32).reshape(-1, len(names)),
        identity=np.array([people.get(name, UNKNOWN) for name in rows], dtype=np.int64),
        names=names,
    )


def _celeba_attributes(path: Path) -> tuple[int, tuple[str, ...], dict[str, list[bool]]]:
    """Return the promised number of images, the names, and whether each image has each attribute."""
    first, second, *lines = [*_lines(path), "", ""]
    if not first.strip().isdecimal():
        raise DataError(f"{path}: line 1 is {first.strip()!r}, expected the number of images; restore the file")
    names = tuple(second.split())
    if names != CELEBA_ATTRIBUTES:
        raise DataError(f"{path}: line 2 has {len(names)} names, expected CelebA's forty in order; restore the file")
    rows: dict[str, list[bool]] = {}
    for number, line in enumerate(lines, 3):
        name, *values = line.split() or [""]
        if not name:
            continue
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise DataError(f"{path}: line {number} is {line[:60]!r}, expected a file and forty of 1 or -1; restore it")
        rows[name] = [value == "1" for value in values]
    return int(first), names, rows


def _celeba_split(parts: dict[str, str], name: str, path: Path) -> str:
    if parts.get(name) not in _CELEBA_SPLITS:
        raise DataError(
            f"{path} has {name}, list_eval_partition.txt gives it {parts.get(name, 'nothing')!r}, expected 0, 1 or 2; "
            "restore the files of one version"
        )
    return _CELEBA_SPLITS[parts[name]]


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield file and number of each line."""
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdecimal():
            raise DataError(f"{path}: line {number} is {line[:60]!r}, expected a file and a number; restore the file")
        yield words[0], words[1]


def read_fer2013_csv(data: Path) -> Fer2013:
    """Read FER2013 by its table of pixels, and FER+'s table of votes; write the images beside them once.

    Raises:
        DataError: a table is missing, a line has not the form, or the two tables do not belong together.
    """
    root = data / "fer2013"
    tables = (root / "fer2013.csv", root / "fer2013new.csv")
    labels, votes = (_table(path) for path in tables)
    if len(labels) != len(votes):
        raise DataError(
            f"{tables[0]} has {len(labels)} images, {tables[1].name} {len(votes)}; use files of one version"
        )
    usage = [_usage(number, one, other, root) for number, (one, other) in enumerate(zip(labels, votes, strict=True), 2)]
    files = [f"images/fer{number:07d}.png" for number in range(len(labels))]
    for number, (row, file) in enumerate(zip(labels, files, strict=True), 2):
        _write_once(root / file, row["pixels"], f"{tables[0]}: line {number}")
    counts = np.array([_votes(row, tables[1], n) for n, row in enumerate(votes, 2)], dtype=np.float32).reshape(-1, 10)
    original = [_fer_label(row["emotion"], tables[0], number) for number, row in enumerate(labels, 2)]
    return Fer2013(
        name="fer2013",
        root=root,
        files=np.array(files, dtype=np.str_),
        split=np.array(usage, dtype=np.str_),
        votes=counts[:, : len(EMOTIONS)],
        other_votes=counts[:, len(EMOTIONS) :].sum(axis=1),
        majority=majority(counts),
        original=np.array(original, dtype=np.int64),
    )


def majority(counts: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the emotion with the most of (N, 10) votes; UNKNOWN for ties, 'unknown' and 'not a face'."""
    best = counts.argmax(axis=1)
    alone = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return np.where(alone & (best < len(EMOTIONS)), best, UNKNOWN).astype(np.int64)


def _usage(number: int, label: dict[str, str], vote: dict[str, str], root: Path) -> str:
    one, other = label["Usage"], vote["Usage"]
    if one != other or one not in _FER_SPLITS:
        raise DataError(
            f"{root}: line {number} has Usage {one!r} in fer2013.csv and {other!r} in fer2013new.csv, "
            f"expected the same of {', '.join(_FER_SPLITS)}; use files of one version"
        )
    return _FER_SPLITS[one]


def _votes(row: dict[str, str], path: Path, number: int) -> list[float]:
    try:
        return [float(row[name]) for name in _FER_VOTES]
    except (TypeError, ValueError) as err:
        raise DataError(f"{path}: line {number} has votes that are no numbers, expected ten; restore the file") from err


def _fer_label(text: str, path: Path, number: int) -> int:
    if text not in {str(label) for label in range(len(FER_NUMBERS))}:
        raise DataError(f"{path}: line {number} has emotion {text!r}, expected 0 to 6; restore the file")
    return EMOTIONS.index(FER_NUMBERS[int(text)])


def _write_once(path: Path, pixels: str, place: str) -> None:
    """Write an image of grey pixels, unless it is there."""
    if path.is_file():
        return
    try:
        grey = np.array(pixels.split(), dtype=np.int64)
    except (AttributeError, ValueError) as err:
        raise DataError(f"{place} has pixels that are no numbers; restore the file") from err
    if grey.size != _FER_SIDE**2 or grey.min() < 0 or grey.max() > 255:
        raise DataError(f"{place} has {grey.size} pixels, expected {_FER_SIDE**2} of 0 to 255; restore the file")
    try:
        path.parent.mkdir(exist_ok=True)
        written = cv2.imwrite(str(path), grey.reshape(_FER_SIDE, _FER_SIDE).astype(np.uint8))
    except OSError:
        written = False
    if not written:
        raise DataError(f"{path} cannot be written; copy the tables to a folder that can, the images go beside them")


def _table(path: Path) -> list[dict[str, str]]:
    lines = _lines(path)
    rows = list(csv.DictReader(lines))
    wanted = {"emotion", "pixels", "Usage"} if path.name == "fer2013.csv" else {"Usage", *_FER_VOTES}
    if missing := sorted(wanted - set(rows[0] if rows else ())):
        raise DataError(f"{path}: line 1 lacks {', '.join(missing)}; restore the file")
    return rows


def _found(root: Path, name: str, folders: tuple[str, ...]) -> Path:
    path = _optional(root, name, folders)
    if path is None:
        raise DataError(f"no {name} in {' or '.join(str(root / folder) for folder in folders)}; unpack it there")
    return path


def _optional(root: Path, name: str, folders: tuple[str, ...]) -> Path | None:
    return next((path for folder in folders if (path := root / folder / name).is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as err:
        raise DataError(f"no {path.name} in {path.parent}; expected the files that its authors publish") from err
