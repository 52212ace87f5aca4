"""Which files of a submission are read, by patterns over their names and paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import accumulate


@dataclass(slots=True)
class FileSelection:
    """Files that one of ``include`` fits (all, without any), and none of ``exclude``.

    A pattern fits the name or the path of a file, or of a folder that it is in; capitals make no difference. Paths
    begin below the folder that was named. An archive is one file: its members are not compared.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    left_out: int = field(default=0, compare=False)
    """Files that were not taken so far."""

    def takes(self, path: str) -> bool:
        """Return whether a file is read, and count it if not; its path is relative to the folder that was named."""
        if not (self.include or self.exclude):
            return True
        parts = path.lower().strip("/").split("/")
        names = {*parts, *accumulate(parts, "{}/{}".format)}
        taken = (not self.include or _fits(self.include, names)) and not _fits(self.exclude, names)
        self.left_out += not taken
        return taken


def _fits(patterns: tuple[str, ...], names: set[str]) -> bool:
    return any(fnmatchcase(name, pattern.lower().strip("/")) for pattern in patterns for name in names)
