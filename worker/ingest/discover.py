"""Walks the arguments of a user and classifies each file: media, or refused with a reason."""

from __future__ import annotations

import glob
import os
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.ingest.files import FileReader
from worker.ingest.items import RefusedFile
from worker.ingest.walk import WalkedPath, walk
from worker.storage.remote import is_url, list_remote_files, local_path
from worker.storage.roots import is_below, local_roots, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.ingest.items import FoundFile, IngestOptions


def check_arguments(paths: Sequence[str], roots: Sequence[str] = ()) -> None:
    """Check that each argument lies below a root and names at least one file.

    The file system is not asked about arguments outside of the roots.

    Raises:
        UsageError: an argument lies outside of the roots, names nothing, or is an empty folder.
    """
    for path in paths:
        _check_root(local_path(path), roots, is_pattern=True)
    for path in chain.from_iterable(_expanded(argument) for argument in paths):
        if is_url(path):
            next(list_remote_files(path))
        elif os.path.isdir(path) and next(walk(path), None) is None:  # noqa: PTH112  # bytes that are no UTF-8 stay
            raise UsageError(f"no files in {path}; name a folder, a file or an archive that holds some")


def discover(paths: Sequence[str], options: IngestOptions, staging: Path) -> Iterator[FoundFile | RefusedFile]:
    """Check the arguments, then yield every file in them, in a fixed order, as often as it is named.

    Each file is read once, media to their end. Members of archives are copied to the staging folder.

    Args:
        paths: files, folders (with all files below them), patterns and archives, or their URLs.
        options: limits.
        staging: folder for members of archives, by content.

    Raises:
        UsageError: an argument names nothing, an empty folder, or something outside of ``options.roots``.
        RetryableError: the staging folder cannot be written (while iterating).
    """
    check_arguments(paths, options.roots)
    named = list(chain.from_iterable(_expanded(argument) for argument in paths))
    for path in named:
        _check_root(path, options.roots)
    return _items(named, options.roots, FileReader(options, staging))


def _items(named: Sequence[str], roots: Sequence[str], reader: FileReader) -> Iterator[FoundFile | RefusedFile]:
    for path in named:
        if is_url(path):
            for file in list_remote_files(path):
                if roots and not within(file.url, roots):
                    yield RefusedFile(file.url, "link", "its listing leads out of what may be read")
                else:
                    yield from reader.read_remote(file)
            continue
        if not os.path.isdir(path):  # noqa: PTH112  # as above
            yield from reader.read(path, follow=True)
            continue
        for item in walk(path):
            if isinstance(item, WalkedPath):
                yield from reader.read(item.path, follow=False)
            else:
                yield item


def _expanded(argument: str) -> list[str]:
    """Return the argument itself if it exists or is a URL, else the paths that it matches as a pattern.

    Raises:
        UsageError: there is neither.
    """
    argument = local_path(argument)
    if is_url(argument):
        return [argument]
    if os.path.lexists(argument):
        if not os.path.exists(argument):  # noqa: PTH110  # as above
            raise UsageError(f"{argument} is a link to what does not exist")
        return [argument]
    matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []  # noqa: PTH207
    if not matches:
        what = "matches nothing" if glob.has_magic(argument) else "does not exist"
        raise UsageError(f"{argument} {what}; name files, folders or archives")
    return matches


def _check_root(path: str, roots: Sequence[str], *, is_pattern: bool = False) -> None:
    """Check that a path lies below a root, or that a pattern can match a path below one.

    Raises:
        UsageError: it does not, or cannot.
    """
    if not roots:
        return
    folders = local_roots(roots)
    if is_url(path):
        allowed = within(path, roots)
    elif is_pattern and glob.has_magic(path):
        fixed = Path(*takewhile(lambda part: not glob.has_magic(part), Path(path).parts)).resolve()
        allowed = any(fixed.is_relative_to(folder) or folder.is_relative_to(fixed) for folder in folders)
    else:
        allowed = is_below(Path(path), folders)
    if not allowed:
        raise UsageError(f"{path} is outside of what may be read ({', '.join(roots)})")
