"""The worker's side of a decode child: starts it, exchanges messages, detects its end, kills it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.decode import child
from worker.decode.child.confine import THREADS, max_threads
from worker.decode.wire import HEADER, MAGIC, MAX_META_BYTES, MessageKind
from worker.errors import DecoderCrashed

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = ("-m", child.__name__)
START_SECONDS = 60.0  # to import the libraries: about half a second, far more on a busy machine
PIPE_BYTES = 1 << 20  # of the pipe, where the system allows it: fewer context switches for each frame
ENDING_SECONDS = 2.0  # between the end of the output of a process and the end of the process
THREAD_CHECK_SECONDS = 1.0  # between two counts of the threads
STDERR_LINES = 3  # the last ones that a child wrote are part of the reason

INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
CHILD_ENVIRONMENT = {
    # each arena reserves 64 MiB; mapped blocks are returned to the system: after a large image, or decord, which
    # buffers without bound, a child would otherwise keep hundreds of megabytes from the next file
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One reply without its payload, which stays in the pipe until ``Child.read_into``."""

    kind: MessageKind
    meta: dict[str, Any]
    payload_bytes: int


class Child:
    """One running decode process. Every read has a deadline; past it the process is killed."""

    def __init__(self, memory_bytes: int, *, reads_paths: bool = False) -> None:
        self.memory_bytes = memory_bytes
        self.reads_paths = reads_paths
        self._files, files = socket.socketpair()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        with files:
            self._process = _start(memory_bytes, files.fileno(), *(["paths"] if reads_paths else []))
        self.pid = self._process.pid
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: S101, PT018  # requested above
        self._stdout = self._process.stdout.fileno()
        self._stderr_end = self._process.stderr.fileno()
        os.set_blocking(self._stderr_end, False)
        self._poll = select.poll()
        for descriptor in (self._stdout, self._stderr_end):
            self._poll.register(descriptor, select.POLLIN)
        self._seconds_left = self._allowed = self._until = math.inf
        self._checked_at = 0.0
        self._ready = False
        self._protections: tuple[str, ...] = ()
        self._closed = False
        self._stderr_open = True

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def protections(self) -> tuple[str, ...]:
        """Wait until the process is ready, and return the protections that hold for it.

        Raises:
            DecoderCrashed: it did not start.
        """
        self._await_ready()
        return self._protections

    def send(self, line: bytes, file: int | None = None) -> None:
        """Send a request line, once the process is ready.

        Args:
            line: the request.
            file: descriptor of its file; the process gets a duplicate.

        Raises:
            DecoderCrashed: the process has ended, or did not start.
        """
        self._await_ready()
        assert self._process.stdin is not None  # noqa: S101  # requested in _start
        try:
            if file is not None:
                socket.send_fds(self._files, [b"f"], [file])
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError as err:
            raise self._crashed() from err

    def allow(self, seconds: float) -> None:
        """Set how long all reads together may take from now on, before the process is killed."""
        self._seconds_left = self._allowed = seconds

    def receive(self, wall_seconds: float) -> Message:
        """Read the header and JSON part of the next message.

        Raises:
            DecoderCrashed: the process ended, was silent for ``wall_seconds``, exceeded its time, or sent an invalid
                message.
        """
        with self._timed():
            return self._receive(wall_seconds)

    def _receive(self, wall_seconds: float) -> Message:
        header = bytearray(HEADER.size)
        self._fill(memoryview(header), wall_seconds)
        magic, kind, meta_bytes, payload_bytes = HEADER.unpack(header)
        if magic != MAGIC or meta_bytes > MAX_META_BYTES:
            raise self._protocol_error()
        text = bytearray(meta_bytes)
        self._fill(memoryview(text), wall_seconds)
        try:
            meta = json.loads(text)
            if not isinstance(meta, dict):
                raise self._protocol_error()
            return Message(MessageKind(kind), meta, payload_bytes)
        except (ValueError, RecursionError) as err:
            raise self._protocol_error() from err

    def read_into(self, target: memoryview, wall_seconds: float) -> None:
        """Fill ``target`` from the pipe.

        Raises:
            DecoderCrashed: the process ended, was silent for ``wall_seconds`` or exceeded its time.
        """
        with self._timed():
            self._fill(target, wall_seconds)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Subtract the time of reading from the allowed time; the time between two reads is the worker's."""
        self._until = time.monotonic() + self._seconds_left
        try:
            yield
        finally:
            self._seconds_left = self._until - time.monotonic()

    def _fill(self, target: memoryview, wall_seconds: float) -> None:
        filled = 0
        while filled < target.nbytes:
            self._await_output(wall_seconds)
            count = os.readv(self._stdout, [target[filled:]])
            if count == 0:
                raise self._crashed()
            filled += count

    def kill(self) -> None:
        """Kill the process and close its pipes; harmless if it has ended."""
        self._process.kill()
        self._process.wait()
        if not self._closed:
            self._closed = True
            self._drain_stderr()
            self._files.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a request that the process never read cannot be flushed
                    pipe.close()

    def _await_ready(self) -> None:
        if not self._ready:
            message = self.receive(START_SECONDS)
            if message.kind is not MessageKind.READY:
                raise self._protocol_error()
            self._ready = True
            protections = message.meta.get("protections")
            self._protections = tuple(map(str, protections)) if isinstance(protections, list) else ()

    def _await_output(self, wall_seconds: float) -> None:
        """Wait until the pipe has bytes or has ended; kill a process that stays silent."""
        deadline = min(time.monotonic() + wall_seconds, self._until)
        while True:
            remaining = deadline - time.monotonic()
            wait = min(max(remaining, 0), THREAD_CHECK_SECONDS)
            ready = {descriptor for descriptor, _ in self._poll.poll(wait * 1000)}
            self._check_threads()
            if self._stdout in ready and time.monotonic() < self._until:
                return
            if self._stderr_end in ready:
                self._drain_stderr()
            if remaining <= 0:
                self.kill()
                cause = f"was silent for {wall_seconds:g} s"
                if time.monotonic() >= self._until:
                    cause = f"took more than {self._allowed:g} s for one request"
                raise DecoderCrashed("timeout", f"the decoder {cause} and was killed{self._captured_stderr()}")

    def _check_threads(self) -> None:
        """Kill a process that started too many threads, unless the kernel limits them."""
        now = time.monotonic()
        if now < self._checked_at + THREAD_CHECK_SECONDS or THREADS in self._protections:
            return
        self._checked_at = now
        with contextlib.suppress(OSError):  # it has just ended
            threads = len(os.listdir(f"/proc/{self.pid}/task"))  # noqa: PTH208 - names are enough
            if threads > max_threads():
                self.kill()
                raise DecoderCrashed("crashed", f"the decoder started {threads} threads and was killed")

    def _drain_stderr(self) -> None:
        """Read standard error and keep its last lines; unregister it when the process has closed it."""
        try:
            text = os.read(self._stderr_end, PIPE_BYTES)
        except BlockingIOError:
            return
        if not text and self._stderr_open:
            self._stderr_open = False
            self._poll.unregister(self._stderr_end)
        self._stderr.extend(line.strip() for line in text.decode(errors="replace").splitlines() if line.strip())

    def _crashed(self) -> DecoderCrashed:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its own exit status is more precise than that of a kill
            self._process.wait(ENDING_SECONDS)
        self.kill()
        return DecoderCrashed(
            "crashed", f"the decoder ended with {_ending(self._process.returncode)}{self._captured_stderr()}"
        )

    def _protocol_error(self) -> DecoderCrashed:
        self.kill()
        return DecoderCrashed("crashed", f"the decoder sent an invalid message and was killed{self._captured_stderr()}")

    def _captured_stderr(self) -> str:
        return "; it wrote: " + " / ".join(self._stderr) if self._stderr else ""


def _start(memory_bytes: int, files: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", *PROGRAM, str(memory_bytes), str(os.getpid()), str(files), *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        pass_fds=(files,),
        start_new_session=True,  # Ctrl-C at the terminal is for the worker, which then ends its children in order
    )
    assert process.stdout is not None  # noqa: S101  # requested above
    with contextlib.suppress(OSError):  # a user over the system's soft limit keeps the default: slower, not wrong
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def _environment() -> dict[str, str]:
    """Return the environment of the child: the path of its code, and no settings or passwords of the worker."""
    package_root = Path(__file__).resolve().parents[__name__.count(".")]  # an installation has another prefix
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | CHILD_ENVIRONMENT | {"PYTHONPATH": str(package_root)}


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
