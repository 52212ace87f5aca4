"""Walks the arguments of a user and classifies each file: media, or refused with a reason."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.ingest.files import FileReader
from worker.ingest.items import RefusedFile
from worker.ingest.walk import walk
from worker.storage.remote import is_url, list_remote_files, local_path
from worker.storage.roots import is_below, local_roots, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.ingest.items import FoundFile, IngestOptions
    from worker.storage.remote import RemoteFile


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
    return _items(walk_arguments(paths, options), FileReader(options, staging))


def _items(
    named: Iterator[NamedPath | RemoteFile | RefusedFile], reader: FileReader
) -> Iterator[FoundFile | RefusedFile]:
    for item in named:
        if isinstance(item, RefusedFile):
            yield item
        elif isinstance(item, NamedPath):
            yield from reader.read(item.path, follow=item.follow)
        else:
            yield from reader.read_remote(item)


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A path on disk that an argument names, or that is below one."""

    path: str
    follow: bool
    """Whether it may be a link."""


def walk_arguments(paths: Sequence[str], options: IngestOptions) -> Iterator[NamedPath | RemoteFile | RefusedFile]:
    """Check the arguments, then yield every file that is selected, in a fixed order, without opening it.

    Raises:
        UsageError: as `discover` does.
    """
    check_arguments(paths, options.roots)
    named = list(chain.from_iterable(_expanded(argument) for argument in paths))
    for path in named:
        _check_root(path, options.roots)
    return chain.from_iterable(_remote(path, options) if is_url(path) else _local(path, options) for path in named)


def _remote(url: str, options: IngestOptions) -> Iterator[RemoteFile | RefusedFile]:
    for file in list_remote_files(url):
        if not options.selection.takes(file.url.removeprefix(url) or file.url.rpartition("/")[2]):
            continue
        if options.roots and not within(file.url, options.roots):
            yield RefusedFile(file.url, "link", "its listing leads out of what may be read")
        else:
            yield file


def _local(path: str, options: IngestOptions) -> Iterator[NamedPath | RefusedFile]:
    takes = options.selection.takes
    if not os.path.isdir(path):  # noqa: PTH112  # bytes that are no UTF-8 stay
        if takes(os.path.basename(path)):  # noqa: PTH119  # as above
            yield NamedPath(path, follow=True)
        return
    for item in walk(path):
        if isinstance(item, RefusedFile):
            yield item
        elif takes(os.path.relpath(item.path, path)):
            yield NamedPath(item.path, follow=False)


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
