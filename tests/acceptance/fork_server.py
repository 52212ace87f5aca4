"""Fork ``facet`` from a process that has imported its modules: hundreds of commands need not import them again.

A command is a process of its own, with its arguments, environment, folder, streams and exit status, and ends as a
program does. Only its start is not that of a program; ``Facet.start`` and the tests of documents start real ones.
"""

from __future__ import annotations

import gc
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("worker", "models", "db")
LEFT_OUT = ("worker.decode.child", "worker.web", "db.migrations")  # programs of their own, and scripts of Alembic
MAX_ORDER_BYTES = 1 << 17  # arguments and environment of one command


class ForkServer:
    """The client's side: start the server with the first command, and end it."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, words: list[str], environment: dict[str, str], timeout_seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and return what it printed, as ``subprocess.run`` does.

        Raises:
            TimeoutExpired: it took too long, and was killed.
        """
        channel = self._channel or self._start()
        report, reported = socket.socketpair()
        pipes = [os.pipe(), os.pipe()]
        order = json.dumps({"words": words, "environment": environment, "folder": str(Path.cwd())}).encode()
        socket.send_fds(channel, [order], [0, pipes[0][1], pipes[1][1], reported.fileno()])
        for end in (pipes[0][1], pipes[1][1], reported.detach()):
            os.close(end)
        outputs = [_Output(pipe[0]) for pipe in pipes]
        with report, report.makefile() as lines:
            pid = int(lines.readline())
            report.settimeout(timeout_seconds)
            try:
                status = int(lines.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, timeout_seconds) from None
        stdout, stderr = (output.text() for output in outputs)
        return subprocess.CompletedProcess(words, status, stdout, stderr)

    def stop(self) -> None:
        """End the server; it reads the end of its channel."""
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait(20)

    def _start(self) -> socket.socket:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.fork_server", str(theirs.fileno())],
                cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("FACET_")},
            )  # fmt: skip
        return self._channel


class _Output(Thread):
    """Read a stream of a command until its end."""

    def __init__(self, pipe: int) -> None:
        super().__init__(daemon=True)
        self._pipe, self._text = pipe, ""
        self.start()

    def run(self) -> None:
        with os.fdopen(self._pipe, encoding="utf-8") as stream:
            self._text = stream.read()

    def text(self) -> str:
        self.join()
        return self._text


def serve(channel: socket.socket) -> dict:
    """Fork a process for each order; return in that process, with the order."""
    while True:
        message, fds, _, _ = socket.recv_fds(channel, MAX_ORDER_BYTES, 4)
        if not message:
            os._exit(0)
        with suppress(ChildProcessError):  # those that have reported
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            channel.close()
            return _supervised(json.loads(message), fds)
        for fd in fds:
            os.close(fd)


def _supervised(order: dict, fds: list[int]) -> dict:
    """Fork once more: one process reports how the other one, which returns, has ended."""
    *streams, report = fds
    pid = os.fork()
    if pid:
        for fd in streams:
            os.close(fd)
        _report(report, pid)
    os.close(report)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    return order


def _report(report: int, pid: int) -> NoReturn:
    """Report a process to the client, then its exit status, and end."""
    os.write(report, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(order: dict) -> None:
    """Take the arguments, the environment, the folder and the streams of a command."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = order["words"]
    sys.modules["__main__"].__package__ = None  # help names the program by its path, as that of a script
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the streams of the program
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), errors="backslashreplace", line_buffering=True)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def preload() -> None:
    """Import what commands import."""
    from models.inference.threads import set_wait_policy

    set_wait_policy()
    for package in PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.startswith(LEFT_OUT) and not module.name.endswith("__main__"):
                import_module(module.name)
    import facet.programs  # noqa: F401

    gc.freeze()  # what a fork does not touch is shared


def main() -> None:
    preload()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
    from facet.programs import facet

    facet()


if __name__ == "__main__":
    main()
