"""A decode child that was taken over can only read, compute and answer."""

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from worker.decode.child import sandbox
from worker.decode.child.confine import CAPABILITIES, FILTER, LANDLOCK, LIMITS, NETWORK, PROTECTIONS, READING
from worker.decode.child.system_calls import SYSTEM_CALLS
from worker.decode.client import Decoder
from worker.errors import DecoderCrashed
from worker.types import DecodeLimits

# Evaluated in a confined process; ``victim`` is another process of the same user, ``old`` a file opened before. What
# concerns the whole machine is asked for such that it would change nothing.
ATTEMPTS = {
    "socket": "socket.socket()",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "pair of sockets": "socket.socketpair()",
    "program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "child program": "subprocess.run(['/bin/true'])",
    "kill the parent": "os.kill(os.getppid(), 0)",
    "new file": "open(folder + '/new', 'wb')",
    "append": "open(folder + '/old', 'ab')",
    "truncate": "os.truncate(folder + '/old', 0)",
    "nameless file": "os.open(folder, os.O_TMPFILE | os.O_RDWR)",
    "remove": "os.unlink(folder + '/old')",
    "rename": "os.rename(folder + '/old', folder + '/other')",
    "folder": "os.mkdir(folder + '/sub')",
    "link": "os.symlink('/etc/passwd', folder + '/link')",
    "mode": "os.chmod(folder + '/old', 0o777)",
    "mode of an open file": "os.fchmod(old, 0o777)",
    "owner": "os.chown(folder + '/old', 1, 1)",
    "attribute": "os.setxattr(folder + '/old', 'user.a', b'')",
    "attribute in a newer way": "call(463, -100, folder.encode() + b'/old', 0, b'user.a', bytes(16), 16)",
    "namespace": "call(N['unshare'], 0x10000000)",
    "open in a newer way": "call(437, -100, folder.encode() + b'/old', b'\\x01' + bytes(23), 24)",
    "ring": "call(425, 1, bytes(120))",
    "keys": "call(N['keyctl'], 0, -3, 0)",
    "memory of itself for writing": "open('/proc/self/mem', 'r+b')",
    "signal 0 to a thread of another": "call(N['tgkill'], victim, victim, 0)",
    "kill a thread of another": "call(N['tgkill'], victim, victim, 9)",
    "queue a signal to a thread of another": "call(N['rt_tgsigqueueinfo'], victim, victim, 9, bytes(128))",
    "queue a signal to another": "call(N['rt_sigqueueinfo'], victim, 9, bytes(128))",
    "signal by owning a pipe": "own_pipe(8, victim)",
    "any signal by a pipe": "own_pipe(10, 9)",
    "signal to a group by owning a pipe": "own_pipe(8, -victim)",
    "signal by the device's name of that": "fcntl.ioctl(pipe[0], 0x8901, struct.pack('i', victim))",
    "limit another's processor time": "call(N['prlimit64'], victim, 0, bytes(16), None)",
    "limit another's files": "call(N['prlimit64'], victim, 7, struct.pack('QQ', 5, 5), None)",
    "read another's limits": "call(N['prlimit64'], victim, 7, None, bytes(16))",
    "slow another down": "os.setpriority(os.PRIO_PROCESS, victim, 19)",
    "slow all of a user down": "os.setpriority(os.PRIO_USER, 0x7FFFFFF0, 19)",
    "move another to one processor": "os.sched_setaffinity(victim, {0})",
    "schedule another as idle": "os.sched_setscheduler(victim, os.SCHED_IDLE, os.sched_param(0))",
    "attributes of scheduling": "call(N['sched_setattr'], victim, struct.pack('IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0), 0)",
    "disk priority of another": "call(N['ioprio_set'], 1, victim, 3 << 13)",
    "pages of another": "call(N['migrate_pages'], victim, 8, bytes(8), bytes(8))",
    "move pages of another": "call(N['move_pages'], victim, 0, None, None, None, 0)",
    "advice on memory of another": "call(440, 0, None, 0, 0, 0)",
    "descriptor of another": "os.pidfd_open(victim)",
    "trace another": "call(N['ptrace'], 16, victim, None, None)",
    "memory of another": "call(N['process_vm_readv'], victim, None, 0, None, 0, 0)",
    "shared memory that stays": "call(N['shmget'], 0x5153, 1 << 20, 0o1600)",
    "shared memory of others": "call(N['shmat'], 0, None, 0)",
    "list of shared memory": "call(N['shmctl'], 0, 14, bytes(128))",
    "semaphores that stay": "call(N['semget'], 0x5153, 1, 0o1600)",
    "message queue that stays": "call(N['msgget'], 0x5153, 0o1600)",
    "named message queue": "call(N['mq_open'], b'facet-test', 0o102, 0o600, None)",
    "times of a path": "os.utime(folder + '/old', (1, 1))",
    "times of an open file": "os.utime(old, (1, 1))",
    "whole-file lock": "fcntl.flock(old, fcntl.LOCK_EX)",
    "shared whole-file lock": "fcntl.flock(old, fcntl.LOCK_SH)",
    "lock": "fcntl.lockf(old, fcntl.LOCK_SH)",
    "lock of an open file": "fcntl.fcntl(old, 37, struct.pack('hhqqi4x', 0, 0, 0, 0, 0))",
    "lease": "fcntl.fcntl(old, 1024, fcntl.F_RDLCK)",
    "watch of a folder": "fcntl.fcntl(old, 1026, 1)",
    "input for a terminal": "fcntl.ioctl(pipe[0], 0x5412, b'x')",
    "flags of a file": "fcntl.ioctl(old, 0x40086602, bytes(8))",
    "log of the kernel": "call(N['syslog'], 3, bytes(100), 100)",
    "clock": "time.clock_settime(time.CLOCK_MONOTONIC, 0)",
    "older call for the clock": "call(N['settimeofday'], None, None)",
    "name of the host": "socket.sethostname(socket.gethostname())",
    "accounting": "call(N['acct'], None)",
    "write all disks": "call(N['sync'])",
    "watch files": "call(N['inotify_init1'], 0)",
    "outlive the worker": "call(N['prctl'], 1, 0, 0, 0, 0)",
    "let another trace it": "call(N['prctl'], 0x59616D61, victim, 0, 0, 0)",
    "larger limit": "resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))",
}
READS = {
    "read": "open(folder + '/old', 'rb').read()",
    "read again by number": "open(f'/proc/self/fd/{old}', 'rb').read()",
    "list": "os.listdir(folder)",
    "environment of the parent": "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "environment of another": "open(f'/proc/{victim}/environ', 'rb').read()",
    "maps of the parent": "open(f'/proc/{os.getppid()}/maps', 'rb').read()",
    "users of the system": "open('/etc/passwd', 'rb').read()",
    "root by a link": "os.listdir('/proc/self/root/etc')",
    "terminal": "open('/dev/tty', 'rb')",
}
ALLOWED = {
    "read what is open": "os.pread(old, 10, 0)",
    "size of what is open": "os.fstat(old)",
    "map what is open": "mmap.mmap(old, 3, prot=mmap.PROT_READ)[:]",
    "copy a descriptor": "os.close(os.dup(old))",
    "load a module": "importlib.import_module('wave')",
    "thread": "[t.start() or t.join() for t in [threading.Thread(target=print)]]",
    "threads of a codec": "run_threads(32)",
    "memory": "bytearray(50 << 20)",
    "pipe": "os.pipe()",
    "terminal or not": "os.isatty(1)",
    "own limits": "resource.getrlimit(resource.RLIMIT_DATA)",
    "smaller limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (63, 63))",
    "own processors": "os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "signal to itself": "signal.raise_signal(signal.SIGURG)",
    "name of a thread": "call(N['prctl'], 15, b'a', 0, 0, 0)",
    "own memory": "confine.memory_left() or confine.memory_mapped()",
    "time": "time.sleep(0.001)",
    "chance": "os.urandom(8)",
}
NUMBERS = {  # on x86_64, on aarch64
    "unshare": (272, 97), "keyctl": (250, 219), "tgkill": (234, 131), "rt_tgsigqueueinfo": (297, 240),
    "rt_sigqueueinfo": (129, 138), "prlimit64": (302, 261), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "syslog": (103, 116), "settimeofday": (164, 170), "acct": (163, 89), "sync": (162, 81),
    "inotify_init1": (294, 26), "prctl": (157, 167),
}  # fmt: skip
MACHINES = ("x86_64", "aarch64")
SCRIPT = """
import ctypes, fcntl, importlib, importlib.util, json, mmap, os, platform, resource, signal, socket, struct, subprocess
import sys, threading, time
from worker.decode.child import confine, sandbox
wanted = json.loads(sys.argv[1])
folder, victim, N = wanted["folder"], wanted["victim"], wanted["numbers"]
if wanted["user"]:
    os.setgroups([]); os.setgid(wanted["user"]); os.setuid(wanted["user"])
old, pipe = os.open(folder + "/old", os.O_RDONLY), os.pipe()
def call(number, *words):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *[ctypes.c_long(word) if isinstance(word, int) else word for word in words]) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def own_pipe(command, value):
    fcntl.fcntl(pipe[0], command, value)
def run_threads(count):
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    done.set()
    for thread in threads:
        thread.join()
if wanted["old kernel"]:
    confine.apply_landlock = lambda **_: False
    holds = []
else:
    holds = [confine.NETWORK] if confine.leave_network() else []
holds += confine.confine(1 << 30)
print("HOLDS", json.dumps(holds))
if confine.FILTER not in holds:  # each attempt would be made in earnest
    os._exit(0)
for name, code in wanted["codes"].items():
    try:
        eval(code)
        print("DID", name)
    except OSError as err:
        print("REFUSED", name, err.errno)
    except (ImportError, RuntimeError) as err:
        print("FAILED", name, err)
    except ValueError as err:  # from resource, whose EPERM is one
        print("REFUSED", name, 1)
sys.stdout.flush()
os._exit(0)
"""
NOBODY = 65534
FORBIDDEN = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY}


@pytest.fixture(
    scope="module",
    params=[(user, old) for user in (0, NOBODY) for old in (False, True)],
    ids=["own user", "own user, old kernel", "nobody", "nobody, old kernel"],
)
def outcome(request, tmp_path_factory):
    """Return the outcome of every call, with all protections of the kernel and with the filter alone."""
    user, is_old = request.param
    if user and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    if platform.machine() not in MACHINES:
        pytest.skip("no filter for this processor")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    (folder / "old").write_text("old")
    victim = subprocess.Popen(["sleep", "100"], user=user or None, env={"SECRET": "s3cr3t"})
    wanted = {"folder": str(folder), "victim": victim.pid, "user": user, "old kernel": is_old}
    column = MACHINES.index(platform.machine())
    wanted["numbers"] = {name: numbers[column] for name, numbers in NUMBERS.items()}
    wanted["codes"] = ATTEMPTS | READS | ALLOWED
    times = (folder / "old").stat().st_mtime_ns
    priority = os.getpriority(os.PRIO_PROCESS, victim.pid), os.sched_getaffinity(victim.pid)
    limits = Path(f"/proc/{victim.pid}/limits").read_text()
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(wanted)], check=True, capture_output=True, text=True, timeout=60
        )
        assert victim.poll() is None, "it could be killed"
        assert (os.getpriority(os.PRIO_PROCESS, victim.pid), os.sched_getaffinity(victim.pid)) == priority
        assert Path(f"/proc/{victim.pid}/limits").read_text() == limits
        assert sorted(path.name for path in folder.iterdir()) == ["old"]
        assert ((folder / "old").read_text(), (folder / "old").stat().st_mtime_ns) == ("old", times)
    finally:
        victim.kill()
        victim.wait()
        shutil.rmtree(folder)
    lines = [line for line in done.stdout.splitlines() if line]
    holds = json.loads(lines[0].removeprefix("HOLDS "))
    if FILTER not in holds:
        pytest.skip("this kernel or container filters no system calls")
    return holds, lines, is_old


def was_refused(name, lines):
    """Return whether the kernel refused the call; a failure for another reason proves nothing."""
    return any(line.startswith(f"REFUSED {name} ") and int(line.rpartition(" ")[2]) in FORBIDDEN for line in lines)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_child_that_was_taken_over_is_refused(outcome, name):
    _, lines, _ = outcome
    assert was_refused(name, lines), lines


@pytest.mark.parametrize("name", READS)
def test_a_child_reads_what_it_is_given_and_no_other_file(outcome, name):
    holds, lines, _ = outcome
    if LANDLOCK not in holds:
        pytest.skip("without Landlock what the user may read is read")
    assert READING in holds
    assert was_refused(name, lines), lines


@pytest.mark.parametrize("name", ALLOWED)
def test_what_decoding_needs_is_allowed(outcome, name):
    if f"FAILED {name} No module" in "".join(outcome[1]):
        pytest.skip("nobody may not read this interpreter")
    assert f"DID {name}" in outcome[1], outcome[1]


def test_protections_are_told_as_they_are(outcome):
    holds, _, is_old = outcome
    assert set(holds) <= set(PROTECTIONS)
    assert {LIMITS, CAPABILITIES} <= set(holds)
    assert not (is_old and {LANDLOCK, READING, NETWORK} & set(holds))


THREADS_SCRIPT = """
import os, sys, threading
from worker.decode.child import confine
if sys.argv[1] != "0":
    os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
confine.leave_network()
holds = confine.confine(1 << 30)
threading.stack_size(64 << 10)
never, count = threading.Event(), 0
try:
    while count < 3000:
        threading.Thread(target=never.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
print(confine.THREADS in holds, count, confine.max_threads(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("user", [0, NOBODY])
def test_threads_are_bounded_by_the_kernel_where_it_counts_them(user):
    if user and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    done = subprocess.run(
        [sys.executable, "-c", THREADS_SCRIPT, str(user)], check=True, capture_output=True, text=True, timeout=60
    )
    held, count, most = done.stdout.split()
    if held == "False":
        pytest.skip("this container gives no user of its own")
    assert int(most) / 2 < int(count) < int(most)


TAKEN_OVER = """
import sys, threading, time
from worker.decode.wire import MessageKind, write_message
write_message(sys.stdout.buffer, MessageKind.READY, {{"protections": []}})
sys.stdin.readline()
{deed}
"""
SAY = "while True: write_message(sys.stdout.buffer, MessageKind.ALIVE, {}); time.sleep(.05)"
DEEDS = {
    "signs of life without an end": SAY,
    "signs of life without a pause": SAY.replace("time.sleep(.05)", "pass"),
    "a message by drops": "while True: sys.stdout.buffer.write(b'f'); sys.stdout.buffer.flush(); time.sleep(.05)",
    "threads": f"""
threading.stack_size(64 << 10)
never = threading.Event()
for _ in range(400): threading.Thread(target=never.wait, daemon=True).start()
{SAY}""",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_child_that_was_taken_over_is_ended_by_its_worker(deed, monkeypatch, tmp_path):
    monkeypatch.setattr("worker.decode.process.PROGRAM", ("-c", TAKEN_OVER.format(deed=DEEDS[deed])))
    (tmp_path / "a").write_bytes(b"a")
    limits = DecodeLimits(wall_seconds=1.0, total_seconds=2.5)
    started = time.monotonic()
    with Decoder(limits) as decoder, pytest.raises(DecoderCrashed) as caught:
        decoder.probe(str(tmp_path / "a"), "image")
    assert time.monotonic() - started < 20
    assert caught.value.code in {"timeout", "crashed"}
    assert decoder.pid is None or not Path(f"/proc/{decoder.pid}").exists()


def test_a_request_has_eight_silences_unless_it_is_told():
    assert DecodeLimits(wall_seconds=2.0).request_seconds == 16.0
    assert DecodeLimits(wall_seconds=2.0, total_seconds=5.0).request_seconds == 5.0


def test_a_child_says_what_holds_it():
    with Decoder(DecodeLimits()) as decoder:
        holds = decoder.protections()
        assert set(holds) <= set(PROTECTIONS)
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        assert ("Seccomp:\t2" in status) == (FILTER in holds)
        own = Path("/proc/self/ns/net").readlink()
        assert (Path(f"/proc/{decoder.pid}/ns/net").readlink() != own) == (NETWORK in holds)


def test_a_kernel_that_offers_nothing_leaves_the_rest(monkeypatch):
    class Libc:
        def syscall(self, *_):
            return -1

    monkeypatch.setattr("worker.decode.child.sandbox.ctypes.CDLL", lambda *_, **__: Libc())
    assert not sandbox.apply_landlock()
    assert not sandbox.filter_system_calls()
    monkeypatch.setattr("worker.decode.child.sandbox.platform.machine", lambda: "pdp11")
    assert not sandbox.filter_system_calls()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_one_that_a_kernel_takes(machine):
    program = sandbox._program(SYSTEM_CALLS[machine], 4242)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    assert len(set(SYSTEM_CALLS[machine].refused)) == len(SYSTEM_CALLS[machine].refused)
