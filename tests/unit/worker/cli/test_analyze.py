"""Ctrl-C during an analysis, as the program hears it."""

from __future__ import annotations

import os
import subprocess
import sys

from worker.cli.analyze import STOPPING

COMMAND = (sys.executable, "-c", """
import os, signal
from worker.cli.analyze import stop_on_signals
with stop_on_signals() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    print(stop.wait(10))
""")  # fmt: skip


def test_ctrl_c_is_answered_at_once():
    done = subprocess.run(COMMAND, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"True\n", STOPPING)


def test_ctrl_c_stops_where_the_reader_of_the_answer_has_ended():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(COMMAND, stdout=subprocess.PIPE, stderr=write, check=False)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, b"True\n")
