"""The queries of the pages of files, as the reader, on rows that the writer stored."""

from __future__ import annotations

import pytest
from sqlalchemy import event, text

from worker.pictures.subjects import load_subjects
from worker.web.queries.media import count_dropped, read_facts, read_jobs, read_seen, read_source
from worker.web.queries.media_list import MediaFilter, list_media
from worker.web.queries.timeline import TimeDivision, make_lanes, read_frame_size, read_frame_times, read_strip
from worker.web.queries.tracks import FrameSize, read_dropped, read_tracks

SIZE = FrameSize(640, 360)


def names(page):
    return [row.uri for row in page.rows]


def test_the_list_shows_the_newest_first_with_faces_of_different_people(stored, reader):
    page = list_media(reader, MediaFilter())
    assert names(page) == ["/media/half.jpg", "/media/2", "/media/1"]
    assert (page.after, page.is_partial) == (None, False)
    refused, empty, video = page.rows
    assert (refused.status, refused.kind, refused.reason) == ("rejected", None, "truncated: it ends early")
    assert (empty.status, empty.faces) == ("done", ())
    people = [face.person_id for face in video.faces]
    assert len(video.faces) == 4  # three people, and an appearance without one
    assert len(set(people)) == len(people)
    assert video.face_count == 120


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (MediaFilter(status="rejected"), ["/media/half.jpg"]),
        (MediaFilter(reason="truncated"), ["/media/half.jpg"]),
        (MediaFilter(reason="trunc"), []),
        (MediaFilter(kind="video"), ["/media/1"]),
        (MediaFilter(is_empty=True), ["/media/2"]),
        (MediaFilter(name="HALF"), ["/media/half.jpg"]),
        (MediaFilter(name="%"), []),
        (MediaFilter(status="done", kind="image"), ["/media/2"]),
        (MediaFilter(job_id=1), ["/media/1", "/media/2", "/media/half.jpg"]),
        (MediaFilter(job_id=1, status="rejected"), ["/media/half.jpg"]),
        (MediaFilter(job_id=1, kind="video", name="1"), ["/media/1"]),
        (MediaFilter(job_id=2), []),
    ],
)
def test_filters(stored, reader, wanted, found):
    assert names(list_media(reader, wanted)) == found


@pytest.mark.parametrize("wanted", [MediaFilter(), MediaFilter(job_id=1)])
def test_pages_follow_each_other_without_a_gap(stored, reader, wanted):
    seen, after = [], None
    for _ in range(3):
        page = list_media(reader, wanted, after=after, rows=1)
        seen += names(page)
        after = page.after
    assert after is None
    assert sorted(seen) == ["/media/1", "/media/2", "/media/half.jpg"]


@pytest.mark.parametrize(
    ("wanted", "steps"),
    [
        (MediaFilter(kind="video"), [[], [], ["/media/1"]]),
        (MediaFilter(job_id=1, status="rejected"), [[], [], ["/media/half.jpg"]]),
    ],
)
def test_a_rare_row_is_looked_for_in_bounded_steps(stored, reader, wanted, steps):
    after, found = None, []
    for _ in steps:
        page = list_media(reader, wanted, after=after, look_through=1)
        found.append(names(page))
        after = page.after
        assert page.is_partial
    assert found == steps
    assert list_media(reader, wanted, after=after, look_through=1).after is None


def test_a_page_takes_as_many_queries_for_many_files_as_for_one(stored, reader):
    count = []
    event.listen(reader, "before_cursor_execute", lambda *_: count.append(1))
    list_media(reader, MediaFilter(), rows=1)
    few = len(count)
    count.clear()
    list_media(reader, MediaFilter(), rows=3)
    assert len(count) <= few + 1


def test_facts_source_and_jobs(stored, reader):
    facts = read_facts(reader, 1)
    assert (facts.kind, facts.format, facts.duration_seconds, facts.notes) == ("video", "mp4", 20, ())
    source = read_source(reader, 1)
    assert (source.location, source.byte_size) == ("/media/1", 9)
    assert read_source(reader, 3) is None  # refused: its bytes were never read
    assert read_facts(reader, 99) is read_source(reader, 99) is None
    assert read_jobs(reader, 1) == [stored.job_id]


def test_boxes_are_where_annotate_draws_them(stored, reader):
    seen = read_seen(reader, 1)
    tracks = read_tracks(reader, seen, SIZE, 0, 20)
    with stored.sessions() as session:
        drawn = load_subjects(session, 1)
    assert len(tracks) == len(drawn) >= 9
    moments = [n / 7 for n in range(-1, 150)]
    for track, subject in zip(tracks, drawn, strict=True):
        for at in moments:
            box, wanted = track.box_at(at), subject.box_at(at, (640, 360))
            assert (box is None) == (wanted is None)
            assert box is None or box == pytest.approx(tuple(wanted), abs=1e-3)


def test_a_part_of_the_time_gives_the_same_boxes(stored, reader):
    seen = read_seen(reader, 1)
    whole = {track.appearance.appearance_id: track for track in read_tracks(reader, seen, SIZE, 0, 20)}
    parts = read_tracks(reader, seen, SIZE, 6.1, 8.9)
    assert 0 < len(parts) < len(whole)
    for part in parts:
        assert len(part.at_seconds) < len(whole[part.appearance.appearance_id].at_seconds)
        for n in range(61, 90):
            assert part.box_at(n / 10) == whole[part.appearance.appearance_id].box_at(n / 10)


def test_boxes_of_smaller_frames_are_scaled_to_the_first_one(stored, reader):
    with stored.sessions.begin() as session:
        session.execute(text("UPDATE face SET frame_width = 320, frame_height = 720 WHERE frame_index >= 20"))
    seen = read_seen(reader, 1)
    late = [track for track in read_tracks(reader, seen, SIZE, 11, 12) if track.boxes[0][0] > 100]
    assert late[0].boxes[0] == pytest.approx((300, 4.5, 460, 44.5))


def test_dropped_faces_have_their_reason_and_stand_as_long_as_their_frame(stored, reader):
    with stored.sessions.begin() as session:
        session.execute(text("UPDATE face SET hold_seconds = 0.5"))
    dropped = read_dropped(reader, 1, SIZE, 0, 20)
    assert {face.reason for face in dropped} == {"profile"}
    (count,) = count_dropped(reader, 1)
    assert (count.reason, count.faces) == ("profile", len(dropped))
    first = dropped[0]
    assert first.until_seconds == first.at_seconds + 0.5
    shown = read_dropped(reader, 1, SIZE, first.at_seconds + 0.4, first.at_seconds + 0.4)
    assert first in shown


def test_lanes_are_people_by_time_in_view(stored, reader):
    seen = read_seen(reader, 1)
    lanes = make_lanes(seen, 20)
    assert [lane.label for lane in lanes][-1] == "nobody yet"
    assert {lane.label for lane in lanes} == {"Ada", "person 2", "<b>Bo</b>", "nobody yet"}
    assert [lane.screen_seconds for lane in lanes[:-1]] == sorted(
        (lane.screen_seconds for lane in lanes[:-1]), reverse=True
    )
    for lane in lanes:
        starts = [segment.start_seconds for segment in lane.segments]
        assert starts == sorted(starts)
        assert all(segment.end_seconds > segment.start_seconds for segment in lane.segments)
    assert sum(lane.appearance_count for lane in lanes) == len(seen)


def test_a_strip_has_shares_that_sum_to_one_and_ages_of_the_faces(stored, reader):
    steps = read_strip(reader, 1, TimeDivision(20, 0.5))
    assert len(steps) == 40  # two frames a second, ten steps
    for step in steps:
        assert sum(share for _, share in step.emotions) == pytest.approx(1)
        assert step.youngest <= step.age <= step.oldest
    one = read_strip(reader, 1, TimeDivision(20, 0.5), person_id=1)
    assert 0 < len(one) <= len(steps)
    assert read_strip(reader, 2, TimeDivision(20, None)) == []


def test_frames_of_a_file(stored, reader):
    assert read_frame_times(reader, 1, rows=3) == [0, 0.5, 1]
    assert read_frame_size(reader, 1, 0.5) == (640, 360)
    assert read_frame_size(reader, 2, 0) is None
