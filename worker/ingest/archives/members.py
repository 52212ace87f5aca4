"""A member of an archive of any format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.storage.staging import Readable

DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a member is not read."""

    code: str
    """A stable code; docs/reasons.md lists them."""
    message: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member as its archive describes it, before it is read."""

    name: str
    """As the archive spells it: for people, never for the file system."""
    byte_size: int
    """As the archive claims."""
    refusal: Refusal | None
    """None for a member that is read."""
    open: Callable[[], Readable]


def unsafe_name(name: str) -> Refusal | None:
    """Return the refusal of a name that points out of the archive; honest archives have no such names."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in parts or "\0" in name:
        return Refusal("unsafe_path", "the member's name points out of the archive")
    return None
