"""What a decode child gives up before it reads the first byte of a file."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from worker.decode.sandbox import filter_calls, landlock

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
"""All four from the Linux headers sys/prctl.h and sched.h."""

CPU_SECONDS = 24 * 3600
"""Of one child over all its files: a backstop behind the client's watchdog, never met by honest work."""
OPEN_FILES = 64
LIMITS, NETWORK, LANDLOCK, FILTER = "resource limits", "no network", "Landlock", "system calls filtered"
PROTECTIONS = (LIMITS, NETWORK, LANDLOCK, FILTER)
"""What may hold, in words."""
ADDRESS_SPACE_SLACK = 4 << 30
"""Address space is reserved in big pieces (64 MiB for each allocator arena, stacks) that are never filled."""


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; leave now if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def leave_network() -> bool:
    """Move to a network of its own that leads nowhere, where the system allows it; whether it did.

    Without privileges that takes a user namespace of its own, which only a process of one thread may enter: call it
    before libraries start theirs.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)


def confine(memory_bytes: int) -> list[str]:
    """Limit memory beyond what is mapped now, CPU time, files, and what the kernel does for this process.

    Call it after the heavy imports, so that ``memory_bytes`` means what a file may use, not what libraries cost.

    Returns:
        What holds, in words.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    base = _mapped_bytes()
    _limit(resource.RLIMIT_DATA, base["VmData"] + memory_bytes)
    _limit(resource.RLIMIT_AS, base["VmSize"] + memory_bytes + ADDRESS_SPACE_SLACK)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    holds = {LIMITS: True, LANDLOCK: landlock(), FILTER: filter_calls()}
    return [name for name, held in holds.items() if held]


def memory_left() -> int:
    """Return the bytes that this process may still map for data."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit - memory_mapped()


def memory_mapped() -> int:
    """Return the bytes of data that this process has mapped."""
    return _mapped_bytes()["VmData"]


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _mapped_bytes() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {parts[0].rstrip(":"): int(parts[1]) << 10 for parts in lines if parts and parts[0].startswith("Vm")}
