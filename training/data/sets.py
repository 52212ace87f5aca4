"""Sets that are read in more than one layout: that of docs/evaluation.md, or the files that their authors publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.data import as_published, face_sets

if TYPE_CHECKING:
    from pathlib import Path

    from training.data.face_sets import CelebA, Fer2013, UtkFace


def load_utkface(data: Path) -> UtkFace:
    """Read UTKFace by its table of labels, or by the names of its files where there is no table."""
    own = (data / "utkface" / "labels.csv").is_file()
    return face_sets.read_utkface(data) if own else as_published.read_utkface_names(data)


def load_fer2013(data: Path) -> Fer2013:
    """Read FER2013 by its table of labels, or by fer2013.csv and fer2013new.csv."""
    published = (data / "fer2013" / "fer2013.csv").is_file() and not (data / "fer2013" / "labels.csv").is_file()
    return as_published.read_fer2013_csv(data) if published else face_sets.read_fer2013(data)


def load_celeba(data: Path) -> CelebA:
    """Read CelebA's first 10,000 images by their table of attributes, or all by its authors' lists in ``celeba``."""
    published = (data / "celeba").is_dir() and not (data / "celeba10k" / "attributes.csv").is_file()
    return as_published.read_celeba_lists(data) if published else face_sets.read_celeba(data)
