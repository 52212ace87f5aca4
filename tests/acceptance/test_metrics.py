"""Metrics of a worker with two processes, of beat and of ``facet analyze``."""

from __future__ import annotations

import re
import signal
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def figures(port):
    """Return the metrics of a port by name and labels; none while no process listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {key: float(value) for key, value in re.findall(r"^(facet_\S+) (\S+)$", text, re.MULTILINE)}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.full((64, 64, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    return folder


def test_worker_and_beat_serve_what_they_know(facet, redis_url, photos):
    worker_port, beat_port = free_port(), free_port()
    facet.settings |= {"FACET_BROKER_URL": redis_url}
    facet("submit", photos)
    facet.settings["FACET_METRICS_PORT"] = str(beat_port)
    beat = facet.start("beat")
    facet.wait_for(lambda: figures(beat_port).get('facet_ledger_units{state="pending"}'), 60, pause=1)
    facet.settings["FACET_METRICS_PORT"] = str(worker_port)
    worker = facet.start("worker", "--concurrency", "2")
    try:
        facet.wait_for(lambda: figures(worker_port).get('facet_units_total{outcome="done"}') == 12, 200, pause=1)
        found = figures(worker_port)
        assert found['facet_units_total{outcome="rejected"}'] == 1
        assert sum(value for name, value in found.items() if name.startswith("facet_failures_total")) == 1
        assert found["facet_frames_total"] == 12
        assert found['facet_stage_seconds_total{stage="decode"}'] > 0
        assert found['facet_stage_seconds_total{stage="store"}'] > 0
        facet.wait_for(lambda: figures(beat_port)['facet_ledger_units{state="done"}'] == 12, 60, pause=1)
        found = figures(beat_port)
        assert found["facet_ledger_up"] == 1
        assert (found["facet_ledger_frames"], found["facet_ledger_attempts"]) == (12, 13)
        assert found["facet_ledger_oldest_waiting_seconds"] == 0
    finally:
        for process in (worker, beat):
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
            assert "Traceback" not in output, output
    assert figures(worker_port) == {}


def test_a_port_that_is_taken_is_named(facet, photos):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        facet.settings["FACET_METRICS_PORT"] = str(other.getsockname()[1])
        assert "metrics cannot be served" in facet("analyze", photos, status=2).stderr
