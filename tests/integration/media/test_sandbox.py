"""What a decode child that was taken over may still do: nothing but read, compute and answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.decode import sandbox
from worker.decode.client import Decoder
from worker.decode.confine import FILTER, LANDLOCK, NETWORK, PROTECTIONS
from worker.values import DecodeLimits

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
    "owner": "os.chown(folder + '/old', 1, 1)",
    "attribute": "os.setxattr(folder + '/old', 'user.a', b'')",
    "namespace": "call(272 if platform.machine() == 'x86_64' else 97, 0x10000000)",
    "open in a newer way": "call(437, -100, folder.encode() + b'/old', b'\\x01' + bytes(23), 24)",
    "ring": "call(425, 1, bytes(120))",
    "keys": "call(250 if platform.machine() == 'x86_64' else 219, 0, -3, 0)",
    "memory of others": "open('/proc/self/mem', 'r+b')",
}
ALLOWED = {
    "read": "open(folder + '/old', 'rb').read()",
    "list": "os.listdir(folder)",
    "thread": "[t.start() or t.join() for t in [threading.Thread(target=print)]]",
    "memory": "bytearray(50 << 20)",
    "pipe": "os.pipe()",
}
SCRIPT = """
import ctypes, os, platform, socket, subprocess, sys, threading
from worker.decode.confine import confine
folder = sys.argv[1]
def call(*words):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
holds = confine(1 << 30)
print("HOLDS", holds)
for name, code in eval(sys.argv[2]).items():
    try:
        eval(code)
        print("DID", name)
    except OSError as err:
        print("REFUSED", name, err.errno)
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "old").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, repr(ATTEMPTS | ALLOWED)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line]
    if FILTER not in lines[0]:
        pytest.skip("this kernel or container filters no system calls")
    assert sorted(path.name for path in folder.iterdir()) == ["old"]
    assert (folder / "old").read_text() == "old"
    return lines


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_child_that_was_taken_over_is_refused(outcome, name):
    assert any(line.startswith(f"REFUSED {name} ") for line in outcome), outcome


@pytest.mark.parametrize("name", ALLOWED)
def test_what_decoding_needs_is_allowed(outcome, name):
    assert f"DID {name}" in outcome


def test_a_child_says_what_holds_it():
    with Decoder(DecodeLimits()) as decoder:
        holds = decoder.protections()
        assert set(holds) <= set(PROTECTIONS)
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        assert ("Seccomp:\t2" in status) == (FILTER in holds)
        own = Path("/proc/self/ns/net").readlink()
        assert (Path(f"/proc/{decoder.pid}/ns/net").readlink() != own) == (NETWORK in holds)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_child_without_privileges_is_held_as_well():
    script = """
import os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from worker.decode.confine import leave_network, confine
print(leave_network(), confine(1 << 30))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    if "PermissionError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("nobody may not read this interpreter")
    assert done.returncode == 0, done.stderr
    assert FILTER in done.stdout or LANDLOCK in done.stdout


def test_a_kernel_that_offers_nothing_leaves_the_rest(monkeypatch):
    class Libc:
        def syscall(self, *_):
            return -1

    monkeypatch.setattr("worker.decode.sandbox.ctypes.CDLL", lambda *_, **__: Libc())
    assert not sandbox.landlock()
    assert not sandbox.filter_calls()
    monkeypatch.setattr("worker.decode.sandbox.platform.machine", lambda: "pdp11")
    assert not sandbox.filter_calls()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_one_that_a_kernel_takes(machine):
    program = sandbox._program(sandbox._CALLS[machine])
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    assert len(set(sandbox._CALLS[machine].refused)) == len(sandbox._CALLS[machine].refused)
