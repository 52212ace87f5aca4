"""The running server as its file ``postmaster.pid`` describes it: process, port and folder of the socket."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PORT = 5432  # of the socket's name; also of TCP, unless another is asked for

_PID_LINE, _PORT_LINE, _SOCKET_LINE, _ADDRESS_LINE = 0, 3, 4, 5  # of the file, counted from 0


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server that runs, or ran until it was killed."""

    pid: int
    port: int
    socket: Path
    """Folder of its socket."""
    address: str
    """Host name or address on which it listens for TCP; empty for none."""

    @classmethod
    def read(cls, data: Path) -> Postmaster | None:
        """Read the file of a cluster; None where no server runs, or one has only begun to start.

        Args:
            data: folder of the cluster.
        """
        try:
            lines = os.fsdecode((data / "postmaster.pid").read_bytes()).split("\n")
            return cls(
                int(lines[_PID_LINE]), int(lines[_PORT_LINE]), Path(lines[_SOCKET_LINE]), lines[_ADDRESS_LINE].strip()
            )
        except (OSError, ValueError, IndexError):
            return None
