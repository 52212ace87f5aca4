"""Walks what a user names and tells what each file is: media, or refused with a reason."""

from __future__ import annotations

import glob
import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.ingest.files import FileReader
from worker.ingest.walk import Entry, walk
from worker.remote import is_url, list_files, local_path, within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.ingest.items import Found, IngestOptions, Refused


def check_arguments(paths: Sequence[str]) -> None:
    """Check that each argument names something, before anything is started.

    Raises:
        UsageError: one does not, or is an empty folder.
    """
    for path in chain.from_iterable(_expanded(argument) for argument in paths):
        if is_url(path):
            next(list_files(path))
        elif os.path.isdir(path) and next(walk(path), None) is None:  # noqa: PTH112  # bytes that are no UTF-8 stay
            raise UsageError(f"no files in {path}; name a folder, a file or an archive that holds some")


def discover(paths: Sequence[str], options: IngestOptions, staging: Path) -> Iterator[Found | Refused]:
    """Check the arguments, then yield every file in them once for each time it is named, in a fixed order.

    Files are read once, to their end where they are media. Members of archives are copied to the staging folder.

    Args:
        paths: files, folders (all that is below them), patterns, and archives by content; or URLs of such.
        options: limits.
        staging: folder for members of archives, by content.

    Raises:
        UsageError: an argument names nothing, an empty folder, or something outside of ``options.roots``.
        RetryableError: the staging folder cannot be written (while iterating).
    """
    check_arguments(paths)
    named = list(chain.from_iterable(_expanded(argument) for argument in paths))
    for path in named:
        _check_root(path, options)
    return _items(named, FileReader(options, staging))


def _items(named: Sequence[str], reader: FileReader) -> Iterator[Found | Refused]:
    for path in named:
        if is_url(path):
            for file in list_files(path):
                yield from reader.read_remote(file)
            continue
        if not os.path.isdir(path):  # noqa: PTH112  # as above
            yield from reader.read(path, follow=True)
            continue
        for item in walk(path):
            if isinstance(item, Entry):
                yield from reader.read(item.path, follow=False)
            else:
                yield item


def _expanded(argument: str) -> list[str]:
    """Return the argument itself, or what it matches as a pattern; a URL stands for itself.

    Raises:
        UsageError: neither is there.
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


def _check_root(path: str, options: IngestOptions) -> None:
    if not options.roots:
        return
    folders = [Path(root).resolve() for root in options.roots if not is_url(root)]
    if is_url(path):
        allowed = within(path, options.roots)
    else:
        allowed = any(Path(path).resolve().is_relative_to(folder) for folder in folders)
    if not allowed:
        raise UsageError(f"{path} is outside of what may be read ({', '.join(options.roots)})")
