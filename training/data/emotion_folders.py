"""Readers of sets of emotions whose images lie in a folder for each label: EmotiW and SFEW, RAF-DB, CK+.

sfew/, emotiw/   Train/LABEL/*.png, Val/LABEL/*.png; Train_Aligned_Faces and the like are read as well
rafdb/           train/1/*.jpg ... test/7/*.jpg, or the authors' EmoLabel/list_patition_label.txt (also in basic/) and
                 Image/aligned/NAME_aligned.jpg
ckplus/          LABEL/*.png, without official splits
Images of a set without official splits, or of its train where a set has no val or no test, are divided by their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data.as_published import split_of
from training.data.face_sets import EMOTIONS, UNKNOWN, Fer2013
from training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Names of folders, in lower case, for FER+'s names.
EMOTION_FOLDERS = {
    "neutral": "neutral",
    "happy": "happiness",
    "happiness": "happiness",
    "surprise": "surprise",
    "surprised": "surprise",
    "sad": "sadness",
    "sadness": "sadness",
    "angry": "anger",
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contempt",
}
# RAF-DB's numbers. Source: the README of its basic emotions.
RAFDB_NUMBERS = {
    "1": "surprise",
    "2": "fear",
    "3": "disgust",
    "4": "happiness",
    "5": "sadness",
    "6": "anger",
    "7": "neutral",
}
_SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_SHARES = {"val": 0.1, "test": 0.2}  # of the images of a set without such a split


def read_sfew(data: Path) -> Fer2013:
    """Read SFEW: an emotion for each image, by its folder."""
    return read_class_folders(data / "sfew", EMOTION_FOLDERS)


def read_emotiw(data: Path) -> Fer2013:
    """Read frames or images of EmotiW: an emotion for each, by its folder."""
    return read_class_folders(data / "emotiw", EMOTION_FOLDERS)


def read_ckplus(data: Path) -> Fer2013:
    """Read CK+: an emotion for each image, by its folder."""
    return read_class_folders(data / "ckplus", EMOTION_FOLDERS)


def read_rafdb(data: Path) -> Fer2013:
    """Read RAF-DB's basic emotions, by its authors' list or by folders of their numbers."""
    root = data / "rafdb"
    for folder in (root, root / "basic"):
        if (folder / "EmoLabel" / "list_patition_label.txt").is_file():
            return _read_rafdb_list(root, folder)
    return read_class_folders(root, RAFDB_NUMBERS | EMOTION_FOLDERS)


def read_class_folders(root: Path, labels: Mapping[str, str]) -> Fer2013:
    """Read images by the name of their folder, which may lie in a folder of a split.

    Args:
        root: of the set; its name is that of the set.
        labels: emotion of EMOTIONS by name of a folder in lower case.

    Raises:
        DataError: there is no image, or a folder with images has another name.
    """
    rows = []
    for path in _images(root):
        *above, folder = path.relative_to(root).parts[:-1] or ("",)
        if folder.lower() not in labels:
            raise DataError(
                f"{path} lies in {folder or root.name!r}, expected a folder named {', '.join(labels)}; rename the "
                "folder, or move images without a label elsewhere"
            )
        rows.append((path, labels[folder.lower()], _split(above)))
    if not rows:
        raise DataError(f"no images in {root}; expected a folder for each of {', '.join(labels)}")
    return _emotions(root, rows)


def _images(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in _IMAGES and path.is_file())


def _split(folders: Iterable[str]) -> str | None:
    """Return the split that a folder names, such as Train or Val_Aligned_Faces; None where none does."""
    for folder in folders:
        if found := _SPLITS.get(folder.lower().partition("_")[0]):
            return found
    return None


def _read_rafdb_list(root: Path, folder: Path) -> Fer2013:
    path = folder / "EmoLabel" / "list_patition_label.txt"
    rows: list[tuple[Path, str, str | None]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        split = _split([words[0]])
        if len(words) != 2 or words[1] not in RAFDB_NUMBERS or split is None:
            raise DataError(
                f"{path}: line {number} is {line[:60]!r}, expected train_N.jpg or test_N.jpg and 1 to 7; restore it"
            )
        name = words[0].rpartition(".")[0]
        rows.append((folder / "Image" / "aligned" / f"{name}_aligned.jpg", RAFDB_NUMBERS[words[1]], split))
    return _emotions(root, rows)


def _emotions(root: Path, rows: list[tuple[Path, str, str | None]]) -> Fer2013:
    """Return a set whose ten votes are all for the label, with a val and a test."""
    found = np.array([EMOTIONS.index(label) for _, label, _ in rows], dtype=np.int64)
    official = {split for _, _, split in rows if split}
    missing = tuple((name, share) for name, share in _SHARES.items() if name not in official)
    divided = [
        split_of(path.read_bytes(), missing) if missing and split in (None, "train") else split or "train"
        for path, _, split in rows
    ]
    votes = np.zeros((len(rows), len(EMOTIONS)), dtype=np.float32)
    votes[np.arange(len(rows)), found] = 10
    return Fer2013(
        name=root.name,
        root=root,
        files=np.array([str(path.relative_to(root)) for path, _, _ in rows], dtype=np.str_),
        split=np.array(divided, dtype=np.str_),
        votes=votes,
        other_votes=np.zeros(len(rows), dtype=np.float32),
        majority=found,
        original=np.where(found == EMOTIONS.index("contempt"), UNKNOWN, found),
    )
