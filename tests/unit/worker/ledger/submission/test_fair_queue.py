"""The turns of one job, by hand; who comes next among several jobs is tested on a real PostgreSQL."""

from __future__ import annotations

import pytest

from worker.ledger.submission.fair_queue import FairQueue


def fair_queue(frames_per_second=2.0, unit_seconds=60.0, start=0):
    return FairQueue(
        release_id=1, priority=0, frames_per_second=frames_per_second, unit_seconds=unit_seconds, _next=start
    )


def test_the_next_file_comes_after_all_frames_of_a_video():
    job = fair_queue(start=7)
    assert job.assign(3, "video") == [7, 127, 247]
    assert job.next == 7 + 3 * 120
    assert job.assign(1, "image") == [367]
    assert job.next == 368


def test_images_count_as_one_frame_each():
    job = fair_queue()
    assert [job.assign(1, "image") for _ in range(3)] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("frames_per_second", "unit_seconds", "frames"),
    [(2.0, 60.0, 120), (None, 60.0, 1500), (0.5, 3.2, 2), (0.01, 10.0, 1)],
)
def test_a_unit_of_a_video_is_worth_its_sampled_frames(frames_per_second, unit_seconds, frames):
    assert fair_queue(frames_per_second, unit_seconds).assign(2, "video") == [0, frames]
