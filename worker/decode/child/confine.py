"""Confines a decode child before it reads the first byte of a file."""

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

# From the Linux headers sys/prctl.h, sched.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CLONE_NEWIPC = 0x08000000
CAPABILITY_VERSION = 0x20080522

# Of one child over all its files: a backstop behind the time limits of the client, never reached in normal work.
CPU_SECONDS = 24 * 3600
OPEN_FILES = 64
SPARE_THREADS = 64
FIRST_USER = 0x70000000  # user ids from here on are never assigned; the process id is added
LIMITS, NETWORK, LANDLOCK, FILTER = "resource limits", "no network", "Landlock", "system calls filtered"
READING, THREADS, CAPABILITIES = "reads no file by path", "few threads", "no capabilities"
PROTECTIONS = (LIMITS, THREADS, CAPABILITIES, NETWORK, LANDLOCK, READING, FILTER)  # that may hold, as text
STATUS_BYTES = 1 << 14
# Address space is reserved in large pieces (64 MiB for each allocator arena, stacks) that are never filled.
ADDRESS_SPACE_SLACK = 4 << 30


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; exit if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def leave_network() -> bool:
    """Move this process to its own network and System V namespaces; return whether the system allowed it.

    Without privileges this needs a new user namespace, which only a process with one thread may enter: call it before
    libraries start threads.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET | CLONE_NEWIPC
    return bool(libc.unshare(flags) == 0 or libc.unshare(CLONE_NEWUSER | flags) == 0)


def confine(memory_bytes: int, *, reads_paths: bool = False) -> list[str]:
    """Limit memory, threads, CPU time, files and system calls of this process.

    Call it after the heavy imports: ``memory_bytes`` limits the memory that is mapped from now on.

    Args:
        memory_bytes: that a file may use.
        reads_paths: whether every file may be opened for reading, which decord needs.

    Returns:
        The protections that hold, as text.
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
    has_few_threads = _limit_threads()
    has_no_capabilities = _drop_capabilities(libc)
    has_landlock = apply_landlock(reads_paths=True) if reads_paths else apply_landlock()
    holds = {LIMITS: True, THREADS: has_few_threads, CAPABILITIES: has_no_capabilities, LANDLOCK: has_landlock}
    holds |= {READING: has_landlock and not reads_paths, FILTER: filter_system_calls()}
    return [name for name, held in holds.items() if held]


def max_threads() -> int:
    """Return the maximum number of threads of a child: codecs start one for each processor."""
    return SPARE_THREADS + 2 * (os.cpu_count() or 1)


def _limit_threads() -> bool:
    """Limit threads if the kernel can count those of this process alone; return whether it can.

    The kernel counts by real user and user namespace, and exempts root. Therefore root takes a real user id of its own;
    files are still opened by the effective user. Without a user namespace the threads of all processes of a user are
    counted together; in that case the parent counts the threads of this process.
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
    """Return whether this process created a user namespace: none of its users is mapped to one outside."""
    return not Path("/proc/self/uid_map").read_text().strip()


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Drop all capabilities of this process; return whether no thread keeps any."""
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
    """Open the status file of this process, once: a confined process opens no more files."""
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
