"""One member of an archive, whatever the archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.storage.staging import Readable

DRIVE = re.compile(r"[A-Za-z]:[\\/]")

Refusal = tuple[str, str]  # code and message


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive says of a member, before it is read."""

    name: str
    """As the archive spells it: for people, never for the file system."""
    byte_size: int
    """As the archive claims."""
    refusal: Refusal | None
    """Why it is not read, None where it is."""
    open: Callable[[], Readable]


def unsafe_name(name: str) -> Refusal | None:
    """Refuse names that point out of the archive: honest archives have none, so the rest of it is suspect too."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in parts or "\0" in name:
        return "unsafe_path", "the member's name points out of the archive"
    return None
