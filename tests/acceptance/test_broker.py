"""A worker on a Redis that is full, then emptied, and from which it takes no more messages."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import redis

from worker.config import Settings
from worker.deployment.app import make_app
from worker.deployment.task_options import DRAIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "noise.png"
    cv2.imwrite(str(path), np.random.default_rng(7).integers(0, 255, (97, 131, 3), np.uint8))
    return path


def listens(app):
    return bool(app.control.ping(timeout=0.4, limit=1))


def test_what_redis_forgets_is_found_in_the_ledger_and_a_stalled_worker_ends(facet, redis_url, picture):
    facet.settings |= {"FACET_BROKER_URL": redis_url, "FACET_WATCH_SECONDS": "3"}
    app = make_app(Settings(broker_url=redis_url))
    worker = facet.start("worker")
    facet.wait_for(lambda: listens(app), 60)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        refused = facet("submit", picture, status=1)
        assert "job 1 is stored, but no worker was woken: the broker's memory is full" in refused.stderr
        client.flushall()  # as a Redis that was started empty
        client.config_set("maxmemory", "0")
    # No message tells of the job, and no beat runs: the worker's watchdog finds it.
    facet.wait_for(lambda: facet.value("SELECT done FROM jobs") == 1, 90, pause=1)

    app.control.cancel_consumer("facet", reply=True)
    assert listens(app), "it answers, and takes nothing"
    app.send_task(DRAIN)
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1, output
    assert "took none of the messages that waited for 3 s" in output
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("facet") == 1, "the message waits for the next one"
