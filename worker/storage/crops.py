"""The crop store: aligned crops as lossless PNG strips, so that a retrained branch never needs the video again.

A strip stacks the crops of one chunk of a unit vertically; a face row names its strip and its place in it.
Each attempt at a unit has names of its own, so that a failed attempt never overwrites stored strips.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from worker.errors import FacetError, RetryableError
from worker.masking import masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STRIP_ROWS = 256  # crops per strip: 256 x 112 rows stay far below the 65,535 that viewers open
PNG_COMPRESSION = 1  # of 9: 4 times faster than the default for 8 % more bytes


def strip_folder(sha256: str, analysis_id: int) -> str:
    """Return the folder of the crops of an analysis, as a path below the store."""
    return f"{sha256[:2]}/{sha256}/{analysis_id}"


@dataclass(frozen=True, slots=True)
class CropStore:
    """Write and read strips under one address."""

    url: str
    """Folder or fsspec URL."""

    def write(self, name: str, crops: NDArray[np.uint8]) -> None:
        """Store a strip.

        Args:
            name: path below the store: a folder (see ``strip_folder``), then ``<unit>-<token>-<strip>.png``.
            crops: (N, H, W, 3) uint8 RGB, N >= 1.

        Raises:
            RetryableError: the store is full or unreachable.
        """
        strip = crops.reshape(-1, *crops.shape[2:])
        self._put(name, strip[..., ::-1])

    def blank(self, name: str, rows: Sequence[int]) -> bool:
        """Black out some crops of a strip; all others keep their pixels and their places.

        A damaged strip is removed: its crops cannot be separated.

        Returns:
            Whether the strip exists and is whole.

        Raises:
            RetryableError: the store is full or unreachable.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            data = fs.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            return False
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err
        strip = _decoded(data)
        if strip is None or strip.shape[0] % strip.shape[1]:
            self.remove(name)
            return False
        crops = strip.reshape(-1, strip.shape[1], *strip.shape[1:])
        crops[[row for row in rows if row < len(crops)]] = 0
        self._put(name, strip)
        return True

    def find(self, path: str) -> list[str]:
        """Return the names of the strips at or below a path of the store.

        Raises:
            RetryableError: the store is unreachable.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            return sorted(found.removeprefix(f"{root}/") for found in fs.find(f"{root}/{path}"))
        except FileNotFoundError:
            return []
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err

    def require(self) -> None:
        """Check that the store is not empty; call it where rows name crops.

        Raises:
            RetryableError: it is unreachable or empty.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            fs.invalidate_cache()
            is_empty = all(entry["type"] != "directory" for entry in fs.ls(root, detail=True))
        except FileNotFoundError:
            is_empty = True
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err
        if is_empty:
            raise RetryableError(f"the crop store {self.url} holds nothing, though rows name crops; is it mounted?")

    def folders(self, path: str) -> list[str]:
        """Return the folders directly below a folder of the store, as paths below the store, sorted.

        Raises:
            RetryableError: the store is unreachable.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            fs.invalidate_cache()
            entries = fs.ls(f"{root}/{path}", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err
        found = [str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
        return sorted(f"{path}/{name}" for name in found)

    def remove(self, path: str) -> None:
        """Remove all strips at or below a path, and the folders that this empties; no strip is no error.

        Raises:
            RetryableError: the store is unreachable.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            for name in self.find(path):
                fs.rm_file(f"{root}/{name}")
            if isinstance(fs, LocalFileSystem):  # object stores have no folders
                _remove_empty(Path(root), path)
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err

    def copy_out(self, names: Sequence[str], folder: Path) -> list[str]:
        """Copy strips to a local folder, below which they keep their paths.

        Returns:
            Names of those that the store lacks.

        Raises:
            RetryableError: the store is unreachable, or the folder is full.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        missing = []
        for name in names:
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(f"{root}/{name}", str(target))
            except FileNotFoundError:
                missing.append(name)
            except Exception as err:  # each store has errors of its own
                raise RetryableError(f"{_reason(err)}: copying {name} from {self.url} to {folder}") from err
        return missing

    def copy_in(self, names: Sequence[str], folder: Path) -> None:
        """Copy strips from a local folder, below which they have the paths of the store.

        Raises:
            RetryableError: the store is full or unreachable.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            for name in names:
                fs.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
                fs.put_file(str(folder / name), f"{root}/{name}")
        except Exception as err:  # each store has errors of its own
            raise self._unreachable(err) from err

    def _put(self, name: str, strip: NDArray[Any]) -> None:
        """Write a strip, (rows, H, 3) uint8 BGR."""
        _, data = cv2.imencode(".png", strip, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
        fs, root = fsspec.core.url_to_fs(self.url)
        path = f"{root}/{name}"
        try:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(fs, LocalFileSystem):  # object stores replace an object atomically, a folder needs a rename
                fs.pipe_file(path + ".part", data.tobytes())
                fs.mv(path + ".part", path)
            else:
                fs.pipe_file(path, data.tobytes())
        except Exception as err:  # each store has errors of its own
            if isinstance(fs, LocalFileSystem):  # the partial file takes space that is lacking
                with suppress(OSError):
                    Path(path + ".part").unlink()
            raise self._unreachable(err) from err

    def _unreachable(self, err: Exception) -> RetryableError:
        return RetryableError(f"{_reason(err)}: crops go to {self.url}; free space there or set FACET_CROPS_URL")

    def read(self, name: str, size: int) -> NDArray[np.uint8]:
        """Read a strip back as (N, size, size, 3) uint8 RGB.

        Raises:
            FacetError: the strip is missing or damaged.
        """
        fs, root = fsspec.core.url_to_fs(self.url)
        try:
            data = fs.cat_file(f"{root}/{name}")
        except FileNotFoundError as err:
            raise FacetError(f"crop strip {name} is missing from {self.url}; analyse its file again") from err
        image = _decoded(data)
        if image is None or image.shape[1] != size or image.shape[0] % size:
            raise FacetError(f"crop strip {name} in {self.url} is damaged; analyse its file again")
        rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        return rgb.reshape(-1, size, size, 3)


def _reason(err: Exception) -> str:
    """Return the reason of an error of a store in one line, without credentials."""
    return getattr(err, "strerror", None) or masked(" ".join(str(err).split())) or type(err).__name__


def _decoded(data: bytes) -> NDArray[Any] | None:
    """Return a strip, (rows, H, 3) uint8 BGR, or None where it is damaged."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def _remove_empty(root: Path, path: str) -> None:
    """Remove a folder of the store and its parents, as long as they are empty."""
    folder = root / path
    while folder != root:
        if folder.is_dir():
            try:
                folder.rmdir()
            except OSError as err:
                if err.errno == errno.ENOTEMPTY:
                    return
                raise
        folder = folder.parent
