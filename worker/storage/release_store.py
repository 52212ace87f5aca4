"""The release store: every registered release of a deployment, so that its workers fetch what the ledger has work for.

A release is a folder below the store, named by the fingerprint of its manifest. Its manifest is written last and
removed first: a release whose upload or removal was broken off is never served.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from models import manifest as manifests
from models.errors import ReleaseError
from worker.errors import FacetError, RetryableError, UsageError
from worker.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.manifest import Manifest

CHUNK_BYTES = 8 << 20
PARTIAL_SUFFIX = ".part"
MAX_UPLOAD_SECONDS = 3600.0  # of one file; what is older was left by a process that was killed


@dataclass(frozen=True, slots=True)
class ReleaseStore:
    """Puts releases under one address, and gets them from there."""

    url: str
    """Folder or fsspec URL."""

    def put(self, folder: Path, *, again: bool = False) -> str:
        """Copy a release folder to the store and return the fingerprint under which it is found there.

        Args:
            folder: of the release; every byte of it is checked.
            again: whether to replace the files of a release that is there.

        Raises:
            UsageError: the folder is no release, or one of its files is damaged.
            RetryableError: the store is full or unreachable.
        """
        manifest = check_folder(folder)
        if again or not self.has(manifest.fingerprint, manifest.files):
            with self._open() as (fs, root):
                target = f"{root}/{manifest.fingerprint}"
                if isinstance(fs, LocalFileSystem):  # an object store would make a bucket, under a mistyped name, too
                    Path(target).mkdir(parents=True, exist_ok=True)
                    _remove_old_partials(Path(target))
                for name in (*manifest.files, manifests.FILE):
                    _upload(fs, folder / name, f"{target}/{name}")
        return manifest.fingerprint

    def has(self, fingerprint: str, files: Iterable[str]) -> bool:
        """Whether a release is there with all of its files; their bytes are not compared.

        Args:
            fingerprint: of the release.
            files: names of its weights files.

        Raises:
            RetryableError: the store is unreachable.
        """
        return {manifests.FILE, *files} <= self._sizes(fingerprint).keys()

    def names(self) -> list[str]:
        """Return the fingerprints of all releases that are there, sorted.

        Raises:
            RetryableError: the store is unreachable.
        """
        with self._open() as (fs, root):
            try:
                folders = [entry["name"].rstrip("/") for entry in fs.ls(root, detail=True) if _is_folder(entry)]
            except FileNotFoundError:
                return []
            return sorted(_base(name) for name in folders if fs.exists(f"{name}/{manifests.FILE}"))

    def count_bytes(self, fingerprint: str) -> int:
        """Return the size of a release in the store; 0 where it is not there.

        Raises:
            RetryableError: the store is unreachable.
        """
        return sum(self._sizes(fingerprint).values())

    def remove(self, fingerprint: str) -> int:
        """Remove a release; return how many bytes it had. No release is no error.

        Raises:
            RetryableError: the store is unreachable.
        """
        sizes = self._sizes(fingerprint)
        with self._open() as (fs, root):
            folder = f"{root}/{fingerprint}"
            for name in sorted(sizes, key=lambda name: name != manifests.FILE):
                with suppress(FileNotFoundError):  # another process removes it, too
                    fs.rm_file(f"{folder}/{name}")
            if isinstance(fs, LocalFileSystem):  # object stores have no folders
                with suppress(FileNotFoundError):
                    Path(folder).rmdir()
        return sum(sizes.values())

    def download(self, fingerprint: str, folder: Path) -> None:
        """Copy a release to a new local folder, and check every byte of it.

        Args:
            fingerprint: of the release.
            folder: must not exist; it is complete when this returns, and absent when it raises.

        Raises:
            FacetError: the store does not hold the release, or other bytes than its manifest names.
            RetryableError: the store is unreachable, or the disk is full.
        """
        partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
        try:
            _make_folder(partial)
            manifest = self._manifest(fingerprint, partial)
            for name, sha256 in manifest.files.items():
                if self._get(f"{fingerprint}/{name}", partial / name) != sha256:
                    raise self._damaged(fingerprint, f"{name} has other bytes than {manifests.FILE} names")
            partial.replace(folder)
        except OSError as err:
            raise _cannot_write(folder, err) from err
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def verify(self, fingerprint: str) -> None:
        """Read every byte of a release, and keep none.

        Raises:
            FacetError: the store does not hold the release, or other bytes than its manifest names.
            RetryableError: the store is unreachable.
        """
        with TemporaryDirectory(prefix="facet-") as folder:
            manifest = self._manifest(fingerprint, Path(folder))
        for name, sha256 in manifest.files.items():
            total = hashlib.sha256()
            for chunk in self._chunks(f"{fingerprint}/{name}"):
                total.update(chunk)
            if total.hexdigest() != sha256:
                raise self._damaged(fingerprint, f"{name} has other bytes than {manifests.FILE} names")

    def _manifest(self, fingerprint: str, partial: Path) -> Manifest:
        self._get(f"{fingerprint}/{manifests.FILE}", partial / manifests.FILE)
        try:
            manifest = manifests.read_manifest(partial)
        except ReleaseError as err:
            raise self._damaged(fingerprint, str(err)) from err
        if manifest.fingerprint != fingerprint:
            raise self._damaged(fingerprint, f"its manifest is that of release {manifest.fingerprint}")
        if strange := _strange_names(manifest):
            raise self._damaged(fingerprint, f"it names files {strange}, which no release has")
        return manifest

    def _get(self, name: str, path: Path) -> str:
        """Copy a file of the store to a path; return the SHA-256 of its bytes."""
        total = hashlib.sha256()
        with path.open("xb") as target:
            for chunk in self._chunks(name):
                total.update(chunk)
                target.write(chunk)
        return total.hexdigest()

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._open() as (fs, root):
            try:
                with fs.open(f"{root}/{name}", "rb", block_size=CHUNK_BYTES) as source:
                    while chunk := source.read(CHUNK_BYTES):
                        yield chunk
            except FileNotFoundError as err:
                raise FacetError(
                    f"the release store {masked(self.url)} holds no {name}; "
                    "run `facet releases register FOLDER` with the folder of the release"
                ) from err

    def _sizes(self, fingerprint: str) -> dict[str, int]:
        """Return the sizes of a release's files by name."""
        with self._open() as (fs, root):
            try:
                found = fs.ls(f"{root}/{fingerprint}", detail=True)
            except FileNotFoundError:
                return {}
            return {_base(entry["name"]): int(entry["size"] or 0) for entry in found if not _is_folder(entry)}

    def _damaged(self, fingerprint: str, found: str) -> FacetError:
        return FacetError(
            f"release {fingerprint[:12]} in {masked(self.url)} is damaged: {found}; "
            "run `facet releases register FOLDER` with the folder of the release"
        )

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, str]]:
        """Yield file system and root; translate its errors."""
        try:
            fs, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as err:
            raise UsageError(
                f"FACET_RELEASES_URL={masked(self.url)} cannot be used ({err}); use a folder, or the URL of an object "
                "store, such as s3://bucket/releases (pip install 'facet[s3]')"
            ) from err
        try:
            yield fs, root
        except FacetError:
            raise
        except Exception as err:  # each store has errors of its own
            reason = getattr(err, "strerror", None) or masked(" ".join(str(err).split())) or type(err).__name__
            raise RetryableError(
                f"{reason}: releases are kept in {masked(self.url)}; free space there, fix permissions or set "
                "FACET_RELEASES_URL"
            ) from err


def check_folder(folder: Path) -> Manifest:
    """Check every byte of a release folder; return its manifest.

    Raises:
        UsageError: it is no release, or one of its files is missing or damaged.
    """
    try:
        manifest = manifests.read_manifest(folder)
    except ReleaseError as err:
        raise UsageError(str(err)) from err
    if strange := _strange_names(manifest):
        raise UsageError(f"{folder / manifests.FILE} names files {strange}, which no release has; restore it")
    for name, sha256 in manifest.files.items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as err:
            raise UsageError(f"{path} cannot be read ({err.strerror}); restore the folder of the release") from err
        if found != sha256:
            raise UsageError(f"{path} has SHA-256 {found}, expected {sha256}; it is damaged, restore it")
    return manifest


def _strange_names(manifest: Manifest) -> str:
    """Return names that are no weights files of the release: they might lead out of its folder."""
    branches = (manifests.branch_file(spec.task) for spec in manifest.branches)
    expected = {manifests.DETECTOR_FILE, manifests.TRUNK_FILE, *branches}
    return ", ".join(sorted(repr(name) for name in manifest.files if name not in expected or "/" in name))


def _remove_old_partials(folder: Path) -> None:
    """Remove what uploads left that were killed."""
    for path in folder.glob(f"*{PARTIAL_SUFFIX}"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - MAX_UPLOAD_SECONDS:
                path.unlink()


def _upload(fs: Any, path: Path, target: str) -> None:
    if not isinstance(fs, LocalFileSystem):  # object stores show an object when all of it is there
        fs.put_file(str(path), target)
        return
    partial = Path(f"{target}-{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    try:
        with path.open("rb") as source, partial.open("xb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
            _flush(copy)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)  # it takes space that may be lacking


def _flush(file: IO[bytes]) -> None:
    """Write a file to the disk: after a power cut, its name must not stand for other bytes."""
    file.flush()
    os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir()


def _cannot_write(folder: Path, err: OSError) -> RetryableError:
    return RetryableError(
        f"{folder.parent} cannot take a release ({err.strerror}); free space there or fix its permissions"
    )


def _is_folder(entry: dict[str, Any]) -> bool:
    return bool(entry["type"] == "directory")


def _base(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]
