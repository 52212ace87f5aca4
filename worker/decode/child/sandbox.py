"""Restricts a decode child by the kernel: a filter of system calls and a Landlock ruleset.

Neither needs privileges, and neither can be undone. To a library a refusal looks like a system error, and then to us
like a damaged file. Where a kernel lacks one, or a container forbids it, the other limits remain.

Source: the Linux headers linux/seccomp.h, linux/filter.h and linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from worker.decode.child.system_calls import (
    CLONE3,
    COMMON,
    FCNTL_REFUSED,
    IOCTL_ALLOWED,
    OPENAT2,
    PRCTL_REFUSED,
    SYSTEM_CALLS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.decode.child.system_calls import SystemCalls

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1  # applies to all threads of the process
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
# Instructions of the filter: load a word, return, and three jumps.
LOAD, RETURN, EQUAL, AT_LEAST, ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45
# Offsets in the data of the filter; arguments have eight bytes each, the low word first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
CLONE_THREAD = 0x10000
# Flags of opening a file to change it; the last one is ``O_TMPFILE`` without ``O_DIRECTORY``.
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000
X32 = 0x40000000  # first number of the x32 calls on x86-64
# An instruction: operation, lines to jump if true and if false, operand.
Line = tuple[int, int, int, int]

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH = 1
LANDLOCK_VERSION = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
READ_RIGHTS = READ_FILE | READ_DIR
# Execute, write, remove, create: all rights but reading files and folders.
WRITE_RIGHTS = (1 << 0) | (1 << 1) | sum(1 << bit for bit in range(4, 13))
# By Landlock version: moving between folders, truncating, ioctl on devices.
RIGHTS_SINCE = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
NETWORK_SINCE, NETWORK = 4, 0b11
SCOPES_SINCE, SCOPES = 6, 0b11


def filter_system_calls() -> bool:
    """Refuse sockets, programs, access to other processes and all changes to files; return whether the filter holds."""
    calls = SYSTEM_CALLS.get(platform.machine())
    if calls is None:
        return False
    program = _program(calls, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, padding, their address
    description = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(calls.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, description)
    return bool(done == 0)


def _program(calls: SystemCalls, pid: int) -> bytes:
    """Return the filter; calls that it does not name are allowed, since libraries need many harmless ones."""
    lines = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, calls.architecture), (RETURN, 0, 0, KILL)]
    lines += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), _refuse(errno.EPERM)]
    for number in (*calls.refused, *COMMON):
        lines += [(EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    for number in (CLONE3, OPENAT2):
        lines += [(EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    # each test reads an argument and ends there, so that the number need not be loaded again
    lines += _when(calls.clone, 0, [(ANY_BIT, 1, 0, CLONE_THREAD), _refuse(errno.EPERM), _ALLOWED])
    for opening, place in ((calls.open, 1), (calls.openat, 2)):
        if opening is not None:
            lines += _when(opening, place, [(ANY_BIT, 0, 1, WRITING), _refuse(errno.EACCES), _ALLOWED])
    for number in calls.signals:
        lines += _when(number, 0, _among([pid], _ALLOWED, _refuse(errno.EPERM)))
    lines += _when(calls.prlimit, 0, _among([0, pid], _ALLOWED, _refuse(errno.EPERM)))
    lines += _when(calls.affinity, 0, _among([0, pid], _ALLOWED, _refuse(errno.EPERM)))
    lines += _when(calls.control, 0, _among(PRCTL_REFUSED, _refuse(errno.EPERM), _ALLOWED))
    lines += _when(calls.files, 1, _among(FCNTL_REFUSED, _refuse(errno.EPERM), _ALLOWED))
    lines += _when(calls.devices, 1, _among(IOCTL_ALLOWED, _ALLOWED, _refuse(errno.ENOTTY)))
    lines.append(_ALLOWED)
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _when(number: int, place: int, body: Sequence[Line]) -> list[Line]:
    """Return lines that run for one system call only, with one of its arguments loaded."""
    return [(EQUAL, 0, len(body) + 1, number), _argument(place), *body]


def _among(values: Sequence[int], then: Line, otherwise: Line) -> list[Line]:
    """Return lines that end with ``then`` if the loaded word is one of the values, else with ``otherwise``."""
    tests = [(EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [*tests, otherwise, then]


_ALLOWED = (RETURN, 0, 0, ALLOW)


def _refuse(number: int) -> Line:
    return RETURN, 0, 0, REFUSE | number


def _argument(place: int) -> Line:
    return LOAD, 0, 0, ARGUMENTS + 8 * place


def apply_landlock(*, reads_paths: bool = False) -> bool:
    """Refuse changes to files, reading by path, programs and TCP, whatever the call; return whether Landlock holds.

    Args:
        reads_paths: whether every file may be opened for reading, or only the code of libraries.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(LANDLOCK_VERSION))
    if version < 1:
        return False
    rights = WRITE_RIGHTS | sum(right for since, right in RIGHTS_SINCE.items() if version >= since)
    fields = [rights if reads_paths else rights | READ_RIGHTS]
    if version >= NETWORK_SINCE:
        fields.append(NETWORK)
    if version >= SCOPES_SINCE:
        fields.append(SCOPES)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    if not reads_paths:
        for place in _libraries():
            _allow_reading(libc, ruleset, place)
    done = libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)
    return bool(done == 0)


def _libraries() -> list[Path]:
    """Return the folders of Python and system code: a child may still load modules."""
    package = Path(__file__).resolve().parents[2]
    found = [Path(place).resolve() for place in sys.path if place]
    code = [place for place in found if place != package.parent or place.name in {"site-packages", "dist-packages"}]
    system = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/sys/devices/system/cpu", "/dev/urandom")
    return [package, *code, Path(sys.base_prefix, "lib"), *map(Path, system)]


def _allow_reading(libc: ctypes.CDLL, ruleset: int, place: Path) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not on this system
    rights = READ_RIGHTS if place.is_dir() else READ_FILE
    rule = struct.pack("=Qi", rights, descriptor)
    libc.syscall(LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
    os.close(descriptor)
