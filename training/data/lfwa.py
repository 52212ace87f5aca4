"""Reader of LFWA, the forty attributes of CelebA for the images of LFW, as its authors publish it.

lfwa/   lfw_att_40.mat (AttrName, label, name) and indices_train_test.mat (indices_img_train, indices_img_test, counted
        from 1); lfw/PERSON/PERSON_0001.jpg, or the folders of people beside the two files

Both files are of MATLAB's version 7.3, which is HDF5. scipy, which the extra ``train`` brings, reads the versions
before; for 7.3 h5py has to be installed, or MATLAB or Octave saves the files again with ``-v7``. A part of the official
train, by the hash of the images' bytes, is val.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from training.data.as_published import split_of
from training.data.face_sets import CELEBA_ATTRIBUTES, CelebA
from training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

VAL_SHARE = (("val", 0.1),)  # of the official train
_HDF5 = b"MATLAB 7.3 MAT-file"


def read_lfwa(data: Path) -> CelebA:
    """Read LFWA's forty attributes with its official train and test.

    Raises:
        DataError: a file is missing, is not readable here or has not the form.
    """
    root = data / "lfwa"
    path, parts = root / "lfw_att_40.mat", root / "indices_train_test.mat"
    table, indices = _read(path, ("AttrName", "label", "name")), _read(parts, ("indices_img_train", "indices_img_test"))
    labels = np.atleast_2d(table["label"]).astype(np.float32)
    names = tuple(str(name).strip().replace(" ", "_") for name in table["AttrName"])
    if tuple(name.lower() for name in names) != tuple(name.lower() for name in CELEBA_ATTRIBUTES):
        raise DataError(f"{path}: AttrName has {', '.join(names[:3])}, ..., expected CelebA's forty; restore the file")
    files = [str(name).strip().replace("\\", "/") for name in table["name"]]
    if labels.shape != (len(files), len(names)) or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: label is {labels.shape}, expected {len(files)} x 40 of 0 and 1; restore the file")
    folder = root / "lfw" if (root / "lfw").is_dir() else root
    return CelebA(
        name="lfwa",
        root=folder,
        files=np.array(files, dtype=np.str_),
        split=_splits(folder, files, indices, parts),
        attributes=labels,
        identity=np.unique([name.partition("/")[0] for name in files], return_inverse=True)[1].astype(np.int64),
        names=CELEBA_ATTRIBUTES,
    )


def _splits(folder: Path, files: list[str], indices: dict[str, Any], path: Path) -> NDArray[np.str_]:
    split = np.full(len(files), "unused", dtype="U6")
    for part in ("train", "test"):
        rows = np.atleast_1d(indices[f"indices_img_{part}"]).astype(np.int64).reshape(-1) - 1
        if len(rows) and (rows.min() < 0 or rows.max() >= len(files)):
            raise DataError(f"{path}: indices_img_{part} has {rows.max() + 1}, expected 1 to {len(files)}; restore it")
        split[rows] = part
    for row in np.flatnonzero(split == "train"):
        split[row] = split_of(_bytes(folder / files[row]), VAL_SHARE)
    return split


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise DataError(f"{path} cannot be read ({err.strerror}); unpack LFW's images there") from err


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return some variables of a MATLAB file: cell arrays of text as lists, numbers as arrays in MATLAB's order."""
    try:
        with path.open("rb") as stream:
            newer = stream.read(len(_HDF5)) == _HDF5
    except FileNotFoundError as err:
        raise DataError(f"no {path.name} in {path.parent}; expected LFWA's two MATLAB files") from err
    found = _read_hdf5(path) if newer else _read_before(path)
    if missing := [key for key in keys if key not in found]:
        raise DataError(f"{path} lacks {', '.join(missing)}; restore the file")
    return found


def _read_before(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # type: ignore[import-untyped]  # noqa: PLC0415 - only these files need it
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return dict(loadmat(str(path), squeeze_me=True))
    except (MatReadError, OSError, TypeError, ValueError) as err:
        raise DataError(f"{path} is no MATLAB file ({err}); restore it") from err


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        h5py = import_module("h5py")
    except ModuleNotFoundError as err:
        raise DataError(
            f"{path} is of MATLAB 7.3, which needs h5py; pip install h5py, or save the file again in MATLAB with -v7"
        ) from err
    with h5py.File(path) as file:
        return {key: _variable(file, file[key][()]) for key in file if key != "#refs#"}


def _variable(file: Any, value: NDArray[Any]) -> Any:
    if value.dtype != object:
        return value.T
    return ["".join(chr(code) for code in file[reference][()].reshape(-1)) for reference in value.T.reshape(-1)]
