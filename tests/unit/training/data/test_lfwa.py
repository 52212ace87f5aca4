"""Reader of LFWA on made MATLAB files: those that scipy writes, and those of version 7.3 where h5py is installed."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import lfwa
from training.data.face_sets import CELEBA_ATTRIBUTES
from training.errors import DataError
from training.fit.targets import READERS, targets

scipy_io = pytest.importorskip("scipy.io")
NAMES = [f"{person}\\{person}_000{number}.jpg" for person in ("Ann_B", "Cy_D") for number in (1, 2, 3)]
LABELS = np.array([[(row + column) % 2 for column in range(40)] for row in range(6)], dtype=np.float64)
TITLES = [name.replace("_", " ") for name in CELEBA_ATTRIBUTES]


def cells(texts):
    return np.array([[text] for text in texts], dtype=object)


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "lfwa"
    for name in NAMES:
        path = root / "lfw" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    write(tmp_path)
    return tmp_path


def write(data, **changes):
    table = {"AttrName": cells(TITLES), "label": LABELS, "name": cells(NAMES)} | changes
    scipy_io.savemat(data / "lfwa" / "lfw_att_40.mat", table)
    parts = {"indices_img_train": np.array([[1.0], [2], [3]]), "indices_img_test": np.array([[4.0], [6]])}
    scipy_io.savemat(data / "lfwa" / "indices_train_test.mat", parts | changes.get("parts", {}))


def check(faces):
    assert faces.files.tolist() == [name.replace("\\", "/") for name in NAMES]
    assert all(path.is_file() for path in faces.paths())
    assert set(faces.split[:3]) <= {"train", "val"}
    assert faces.split[3:].tolist() == ["test", "unused", "test"]
    assert faces.identity.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(faces.attributes, LABELS)
    assert np.array_equal(targets("attributes", faces, 40).numpy(), LABELS)


def test_lfwa_has_forty_attributes_and_its_own_parts(data):
    check(READERS["lfwa"](data))


def test_the_folders_of_people_may_lie_beside_the_files(data):
    for path in sorted((data / "lfwa" / "lfw").iterdir()):
        path.rename(data / "lfwa" / path.name)
    (data / "lfwa" / "lfw").rmdir()
    check(lfwa.read_lfwa(data))


def test_a_file_of_matlab_7_3_is_read_with_h5py(data):
    h5py = pytest.importorskip("h5py")
    tables = {
        "lfw_att_40.mat": {"AttrName": TITLES, "label": LABELS.T, "name": NAMES},
        "indices_train_test.mat": {
            "indices_img_train": np.array([[1.0, 2, 3]]),
            "indices_img_test": np.array([[4.0, 6]]),
        },
    }
    for file, table in tables.items():
        with h5py.File(data / "lfwa" / file, "w", userblock_size=512) as stream:
            for key, value in table.items():
                if isinstance(value, list):
                    kept = [stream.create_dataset(f"#refs#/{key}{n}", data=codes(text)) for n, text in enumerate(value)]
                    references = np.array([[each.ref for each in kept]], dtype=h5py.ref_dtype)
                    stream.create_dataset(key, data=references, dtype=h5py.ref_dtype)
                else:
                    stream.create_dataset(key, data=value)
        path = data / "lfwa" / file
        content = path.read_bytes()
        head = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Mon Jun 15 2015 HDF5 schema 1.00 ."
        path.write_bytes(head.ljust(512) + content[512:])
    check(lfwa.read_lfwa(data))


def codes(text):
    return np.array([[ord(letter)] for letter in text], dtype=np.uint16)


def test_without_h5py_the_remedy_is_named(data, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(lfwa, "import_module", absent)
    (data / "lfwa" / "lfw_att_40.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform".ljust(600))
    with pytest.raises(DataError, match=r"lfw_att_40\.mat is of MATLAB 7\.3, which needs h5py; pip install h5py"):
        lfwa.read_lfwa(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": LABELS[:5]}, r"label is \(5, 40\), expected 6 x 40"),
        ({"label": LABELS * 2 - 1}, "of 0 and 1; restore"),
        ({"AttrName": cells(TITLES[::-1])}, "AttrName has Young"),
        ({"parts": {"indices_img_test": np.array([[7.0]])}}, "indices_img_test has 7, expected 1 to 6"),
        ({"parts": {"indices_img_train": np.array([[0.0], [1]])}}, "indices_img_train has 1, expected 1 to 6"),
    ],
)
def test_wrong_variables_are_named(data, changes, message):
    write(data, **changes)
    with pytest.raises(DataError, match=message):
        lfwa.read_lfwa(data)


def test_missing_parts_are_named(data):
    (data / "lfwa" / "lfw" / "Ann_B" / "Ann_B_0002.jpg").unlink()
    with pytest.raises(DataError, match=r"Ann_B_0002\.jpg cannot be read .*; unpack LFW's images there"):
        lfwa.read_lfwa(data)
    (data / "lfwa" / "indices_train_test.mat").write_bytes(b"no matlab file")
    with pytest.raises(DataError, match="is no MATLAB file"):
        lfwa.read_lfwa(data)
    (data / "lfwa" / "indices_train_test.mat").unlink()
    with pytest.raises(DataError, match=r"no indices_train_test\.mat in"):
        lfwa.read_lfwa(data)
