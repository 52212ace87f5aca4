"""What a decode child gives up before it reads the first byte of a file."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from functools import lru_cache
from pathlib import Path

from worker.decode.child.sandbox import apply_landlock, filter_system_calls

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CLONE_NEWIPC = 0x08000000
CAPABILITY_VERSION = 0x20080522  # all from the Linux headers sys/prctl.h, sched.h and linux/capability.h

# Of one child over all its files: a backstop behind the client's watchdog, never met by honest work.
CPU_SECONDS = 24 * 3600
OPEN_FILES = 64
SPARE_THREADS = 64
FIRST_USER = 0x70000000  # numbers of users that no system gives out; process numbers are added
LIMITS, NETWORK, LANDLOCK, FILTER = "resource limits", "no network", "Landlock", "system calls filtered"
READING, THREADS, CAPABILITIES = "reads no file by path", "few threads", "no capabilities"
PROTECTIONS = (LIMITS, THREADS, CAPABILITIES, NETWORK, LANDLOCK, READING, FILTER)  # what may hold, in words
STATUS_BYTES = 1 << 14
# Address space is reserved in big pieces (64 MiB for each allocator arena, stacks) that are never filled.
ADDRESS_SPACE_SLACK = 4 << 30


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; leave now if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def leave_network() -> bool:
    """Move to a network and System V objects of its own, where the system allows it; whether it did.

    Without privileges that takes a user namespace of its own, which only a process of one thread may enter: call it
    before libraries start theirs.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET | CLONE_NEWIPC
    return bool(libc.unshare(flags) == 0 or libc.unshare(CLONE_NEWUSER | flags) == 0)


def confine(memory_bytes: int, *, reads_paths: bool = False) -> list[str]:
    """Limit memory beyond what is mapped now, threads, CPU time, files, and what the kernel does for this process.

    Call it after the heavy imports, so that ``memory_bytes`` means what a file may use, not what libraries cost.

    Args:
        memory_bytes: that a file may use.
        reads_paths: whether every file may be opened for reading, which decord needs.

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
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    few_threads = _limit_threads()
    powerless = _drop_capabilities(libc)
    walled = apply_landlock(reads_paths=True) if reads_paths else apply_landlock()
    holds = {LIMITS: True, THREADS: few_threads, CAPABILITIES: powerless, LANDLOCK: walled}
    holds |= {READING: walled and not reads_paths, FILTER: filter_system_calls()}
    return [name for name, held in holds.items() if held]


def max_threads() -> int:
    """Return how many threads a child may have: codecs start one for each processor."""
    return SPARE_THREADS + 2 * (os.cpu_count() or 1)


def _limit_threads() -> bool:
    """Limit threads where they can be counted for this process alone; whether they are.

    The kernel counts by real user and user namespace, and exempts root. So root takes a number of its own as its real
    user; files are opened as before, by the effective one. Without a user namespace another user's threads are counted
    with those of all its processes: the parent looks at their number then.
    """
    if os.geteuid() == 0:
        try:
            os.setresuid(FIRST_USER + os.getpid(), -1, -1)
        except OSError:
            return False
    elif not _in_user_namespace():
        return False
    _limit(resource.RLIMIT_NPROC, max_threads())
    return True


def _in_user_namespace() -> bool:
    """Whether this process made itself a user namespace: none of its users has a name outside."""
    return not Path("/proc/self/uid_map").read_text().strip()


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Give up what root may do beyond its files, for all threads there are; whether nothing is left."""
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    done = libc.capset(header, bytes(24))
    return bool(done == 0 and len(list(Path("/proc/self/task").iterdir())) == 1)


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
    lines = (line.split() for line in os.pread(_own_status(), STATUS_BYTES, 0).decode().splitlines())
    return {parts[0].rstrip(":"): int(parts[1]) << 10 for parts in lines if parts and parts[0].startswith("Vm")}


@lru_cache(maxsize=1)
def _own_status() -> int:
    """Open what the kernel says of this process, once: a confined one opens nothing more."""
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
