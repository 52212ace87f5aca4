"""Numbers of the system calls that are refused to a decode child, or allowed with some arguments only.

Source: the Linux headers asm/unistd.h, asm-generic/unistd.h, linux/fcntl.h, asm-generic/ioctls.h and linux/prctl.h.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """Numbers on one processor architecture."""

    architecture: int
    seccomp: int
    open: int | None
    openat: int
    clone: int
    prlimit: int
    signals: tuple[int, ...]
    """tgkill, rt_tgsigqueueinfo: their first argument is the process that gets the signal."""
    affinity: int
    control: int
    """prctl."""
    files: int
    """fcntl."""
    devices: int
    """ioctl."""
    refused: tuple[int, ...]


# A filter cannot read their arguments: they fail as on an older kernel, so that the older call is used.
CLONE3, OPENAT2 = 435, 437

# Locks (F_SETLK, F_SETLKW and those of open files), leases, F_NOTIFY, and F_SETOWN, F_SETSIG and F_SETOWN_EX, by which
# a pipe sends any signal to any process of the user.
FCNTL_REFUSED = (6, 7, 8, 10, 15, 37, 38, 1024, 1026)
# TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: whether a file is a terminal, and pipes.
IOCTL_ALLOWED = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
PRCTL_REFUSED = (1, 0x59616D61)  # PR_SET_PDEATHSIG, which ends the child with its worker, and PR_SET_PTRACER

# From 424 on, numbers are the same everywhere: pidfd_send_signal, io_uring (3), mounts (6), pidfd_open, pidfd_getfd,
# process_madvise, mount_setattr, quotactl_fd, process_mrelease, fchmodat2, setxattrat, removexattrat, open_tree_attr,
# file_setattr.
COMMON = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 443, 448, 452, 463, 466, 467, 469)

SYSTEM_CALLS = {
    "x86_64": SystemCalls(
        architecture=0xC000003E,
        seccomp=317,
        open=2,
        openat=257,
        clone=56,
        prlimit=302,
        signals=(234, 297),
        affinity=203,
        control=157,
        files=72,
        devices=16,
        refused=(
            # socket connect accept sendto sendmsg bind listen socketpair accept4 sendmmsg
            *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307),
            # fork vfork execve execveat kill tkill rt_sigqueueinfo ptrace process_vm_readv and writev, kcmp
            *(57, 58, 59, 322, 62, 200, 129, 101, 310, 311, 312),
            # truncate rename mkdir rmdir creat link unlink symlink chmod fchmod chown fchown lchown mknod
            *(76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133),
            # mkdirat mknodat fchownat unlinkat renameat linkat symlinkat fchmodat renameat2, extended attributes
            *(258, 259, 260, 263, 264, 265, 266, 268, 316, 188, 189, 190, 197, 198, 199),
            # utime utimes futimesat utimensat flock sync syncfs fanotify_init inotify_init and inotify_init1
            *(132, 235, 261, 280, 73, 162, 306, 300, 253, 294),
            # shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
            *(29, 30, 31, 67, 64, 65, 66, 220, 68, 69, 70, 71),
            # mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
            *(240, 241, 242, 243, 244, 245),
            # setpriority sched_setparam sched_setscheduler sched_setattr ioprio_set migrate_pages move_pages
            *(141, 142, 144, 314, 251, 256, 279),
            # syslog settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname acct quotactl
            *(103, 164, 227, 305, 159, 170, 171, 163, 179),
            # swapoff vhangup iopl ioperm personality name_to_handle_at
            *(168, 153, 172, 173, 135, 303),
            # pivot_root chroot mount umount2 swapon reboot modules keys unshare setns perf handles bpf faults kexec
            *(155, 161, 165, 166, 167, 169, 175, 176, 313, 248, 249, 250, 272, 308, 298, 304, 321, 323, 246, 320),
        ),
    ),
    "aarch64": SystemCalls(
        architecture=0xC00000B7,
        seccomp=277,
        open=None,
        openat=56,
        clone=220,
        prlimit=261,
        signals=(131, 240),
        affinity=122,
        control=167,
        files=25,
        devices=29,
        refused=(  # the same calls, as far as they exist here
            *(198, 203, 202, 206, 211, 200, 201, 199, 242, 269),
            *(221, 281, 129, 130, 138, 117, 270, 271, 272),
            *(45, 52, 55, 33, 34, 54, 35, 38, 37, 36, 53, 276, 5, 6, 7, 14, 15, 16),
            *(88, 32, 81, 267, 262, 26),
            *(194, 196, 195, 197, 190, 193, 191, 192, 186, 189, 188, 187),
            *(180, 181, 182, 183, 184, 185),
            *(140, 118, 119, 274, 30, 238, 239),
            *(116, 170, 112, 266, 171, 161, 162, 89, 60),
            *(225, 58, 92, 264),
            *(41, 51, 40, 39, 224, 142, 105, 106, 273, 217, 218, 219, 97, 268, 241, 265, 280, 282, 104, 294),
        ),
    ),
}
