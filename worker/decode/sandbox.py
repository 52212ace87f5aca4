"""What the kernel refuses a decode child, where it offers that: a filter of system calls and a Landlock ruleset.

Both need no privilege and cannot be undone. What was refused looks like an error of the system to the library that
asked, and then like a broken file to us. Where a kernel lacks one, or a container forbids it, the other limits stay.

Source: the Linux headers linux/seccomp.h, linux/filter.h, linux/landlock.h and asm/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
"""For all threads of the process."""
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, RETURN, EQUAL, AT_LEAST, ANY_BIT = 0x20, 0x06, 0x15, 0x35, 0x45
"""Instructions of the filter: load a word, return, and three jumps."""
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Where they stand in what the filter sees; arguments have eight bytes each, the low word first."""
CLONE_THREAD = 0x10000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000
"""Flags of opening a file to change it; the last is that of ``O_TMPFILE`` which is not ``O_DIRECTORY``."""
X32 = 0x40000000
"""Numbers from here on are a second set on x86-64."""

LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_VERSION = 1
WRITE_RIGHTS = (1 << 0) | (1 << 1) | sum(1 << bit for bit in range(4, 13))
"""Execute, write, remove, and make whatever: all but reading files and folders."""
RIGHTS_SINCE = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Moving between folders, truncating, and talking to devices, by the version that knows them."""
NETWORK_SINCE, NETWORK = 4, 0b11
SCOPES_SINCE, SCOPES = 6, 0b11


@dataclass(frozen=True, slots=True)
class Calls:
    """Numbers of system calls of one kind of processor."""

    architecture: int
    seccomp: int
    open: int | None
    openat: int
    clone: int
    refused: tuple[int, ...]


# From 424 on, numbers are the same everywhere: pidfd_send_signal, io_uring (3), mounts (6), pidfd_open, pidfd_getfd,
# mount_setattr, fchmodat2.
_COMMON = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442, 452)
CLONE3, OPENAT2 = 435, 437
"""Their arguments cannot be looked into: answered as if the kernel were too old, so that the older call is used."""

_CALLS = {
    "x86_64": Calls(
        0xC000003E,
        317,
        2,
        257,
        56,
        (
            # socket connect accept sendto sendmsg bind listen socketpair accept4
            *(41, 42, 43, 44, 46, 49, 50, 53, 288),
            # fork vfork execve execveat kill tkill rt_sigqueueinfo ptrace process_vm_readv and writev, kcmp
            *(57, 58, 59, 322, 62, 200, 129, 101, 310, 311, 312),
            # truncate rename mkdir rmdir creat link unlink symlink chmod fchmod chown fchown lchown mknod
            *(76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133),
            # mkdirat mknodat fchownat unlinkat renameat linkat symlinkat fchmodat renameat2, extended attributes
            *(258, 259, 260, 263, 264, 265, 266, 268, 316, 188, 189, 190, 197, 198, 199),
            # pivot_root chroot mount umount2 swapon reboot modules keys unshare setns perf handles bpf faults kexec
            *(155, 161, 165, 166, 167, 169, 175, 176, 313, 248, 249, 250, 272, 308, 298, 304, 321, 323, 246, 320),
        ),
    ),
    "aarch64": Calls(
        0xC00000B7,
        277,
        None,
        56,
        220,
        (  # the same calls, as far as they exist here
            *(198, 203, 202, 206, 211, 200, 201, 199, 242),
            *(221, 281, 129, 130, 138, 117, 270, 271, 272),
            *(45, 52, 55, 33, 34, 54, 35, 38, 37, 36, 53, 276, 5, 6, 7, 14, 15, 16),
            *(41, 51, 40, 39, 224, 142, 105, 106, 273, 217, 218, 219, 97, 268, 241, 265, 280, 282, 104, 294),
        ),
    ),
}


def filter_calls() -> bool:
    """Refuse sockets, programs, other processes and every change to a file from now on; whether that holds."""
    calls = _CALLS.get(platform.machine())
    if calls is None:
        return False
    program = _program(calls)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, padding, their address
    description = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(calls.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, description)
    return bool(done == 0)


def _program(calls: Calls) -> bytes:
    """Return the filter: what is not named is allowed, since libraries ask for much that harms nobody."""
    lines = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, calls.architecture), (RETURN, 0, 0, KILL)]
    lines += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), _refuse(errno.EPERM)]
    for number in (*calls.refused, *_COMMON):
        lines += [(EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    for number in (CLONE3, OPENAT2):
        lines += [(EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    # each looks into an argument and ends there, so that the number need not be loaded again
    lines += [(EQUAL, 0, 4, calls.clone), _argument(0), (ANY_BIT, 1, 0, CLONE_THREAD), _refuse(errno.EPERM), _ALLOWED]
    for opening, place in ((calls.open, 1), (calls.openat, 2)):
        if opening is not None:
            lines += [
                (EQUAL, 0, 4, opening),
                _argument(place),
                (ANY_BIT, 0, 1, WRITING),
                _refuse(errno.EACCES),
                _ALLOWED,
            ]
    lines.append(_ALLOWED)
    return b"".join(struct.pack("HBBI", *line) for line in lines)


_ALLOWED = (RETURN, 0, 0, ALLOW)


def _refuse(number: int) -> tuple[int, int, int, int]:
    return RETURN, 0, 0, REFUSE | number


def _argument(place: int) -> tuple[int, int, int, int]:
    return LOAD, 0, 0, ARGUMENTS + 8 * place


def landlock() -> bool:
    """Have changes to files, programs and TCP refused by what they are, not by the call; whether that holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(LANDLOCK_VERSION))
    if version < 1:
        return False
    rights = WRITE_RIGHTS | sum(right for since, right in RIGHTS_SINCE.items() if version >= since)
    fields = [rights]
    if version >= NETWORK_SINCE:
        fields.append(NETWORK)
    if version >= SCOPES_SINCE:
        fields.append(SCOPES)
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    done = libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)
    return bool(done == 0)
