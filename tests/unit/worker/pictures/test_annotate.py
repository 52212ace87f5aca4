"""Boxes lie where faces are, never outside of an appearance, and videos of any size and rate come out whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from worker.pictures.annotate import PERSON_COLOURS, Painter, Subject, annotate_image, annotate_video
from worker.types import DecodedFrame

GREY = 90


def subject(number=3, start=1.0, end=2.0, first=(40, 60, 80, 110), last=(60, 60, 100, 110), lines=("person 3", "34 y")):
    return Subject(
        number=number,
        lines=lines,
        at_seconds=np.array([start, end]),
        boxes=np.array([first, last], np.float32),
    )


def plain(width=321, height=243):
    return np.full((height, width, 3), GREY, np.uint8)


def video_of(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (
            container.streams.video[0],
            [float(frame.time) for frame in frames],
            [f.to_ndarray(format="rgb24") for f in frames],
        )


def write(path, times, subjects=(), shape=(243, 321), rate=None):
    frames = [DecodedFrame(n, at, np.full((*shape, 3), GREY, np.uint8), scene_cut=False) for n, at in enumerate(times)]
    return annotate_video(iter(frames), subjects, rate, path)


def test_boxes_are_interpolated_between_faces():
    assert subject().box_at(1.5, (321, 243)).tolist() == [50, 60, 90, 110]
    assert subject().box_at(1.0, (321, 243)).tolist() == [40, 60, 80, 110]


def test_boxes_stay_where_the_last_face_was_if_that_is_wanted():
    held = replace(subject(), is_interpolated=False)
    boxes = [held.box_at(seconds, (321, 243)) for seconds in (0.5, 1.0, 1.5, 1.98, 2.0, 2.1)]
    assert [None if box is None else box.tolist() for box in boxes] == [
        None, [40, 60, 80, 110], [40, 60, 80, 110], [40, 60, 80, 110], [60, 60, 100, 110], None,
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0.0, 0.99, 2.01, 9.0])
def test_nothing_is_drawn_outside_of_the_appearance(seconds):
    frame = plain()
    drawn = Painter([subject()], (321, 243)).paint(frame, seconds)
    assert np.array_equal(drawn, plain())


def test_a_box_has_its_persons_colour_and_the_frame_is_left_alone():
    frame = plain()
    drawn = Painter([subject(number=3)], (321, 243)).paint(frame, 1.0)
    assert tuple(drawn[60, 60]) == PERSON_COLOURS[3]
    assert np.array_equal(frame, plain())


@pytest.mark.parametrize("size", [(64, 48), (321, 243), (1921, 1079), (200, 4000)])
def test_letters_can_be_read_at_any_size(size):
    drawn = Painter([subject(first=(4, 20, 24, 40), last=(4, 20, 24, 40))], size).paint(plain(*size), 1.0)
    white = (drawn > 200).all(axis=2)
    assert np.ptp(np.flatnonzero(white.any(axis=1))) >= 8  # letters are at least so high


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (300, 220, 400, 300), (0, 0, 321, 243), (100, 100, 100, 100)])
def test_boxes_over_the_edge_are_drawn_as_far_as_they_go(box):
    drawn = Painter([subject(first=box, last=box)], (321, 243)).paint(plain(), 1.2)
    assert drawn.shape == (243, 321, 3)
    assert not np.array_equal(drawn, plain())


def test_labels_do_not_hide_each_other():
    boxes = [(100 + 6 * n, 100, 140 + 6 * n, 150) for n in range(3)]
    people = [subject(number=n, first=box, last=box, lines=(f"person {n}",)) for n, box in enumerate(boxes)]
    together = Painter(people, (321, 243)).paint(plain(), 1.0)
    alone = [Painter([one], (321, 243)).paint(plain(), 1.0) for one in people]
    letters = [(picture > 200).all(axis=2).sum() for picture in (together, *alone)]
    assert letters[0] == pytest.approx(sum(letters[1:]), rel=0.15)  # a box's line may cross a letter


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_video_of_odd_size_and_uneven_rate_keeps_its_times(tmp_path, ending):
    times = [0.0, 0.04, 0.1, 0.11, 0.5, 1.0, 1.5]
    assert write(tmp_path / f"out.{ending}", times, [subject()]) == len(times)
    stream, found, pictures = video_of(tmp_path / f"out.{ending}")
    assert (stream.width, stream.height) == (322, 244)
    assert found == pytest.approx(times, abs=2e-3)
    assert [bool((np.abs(p.astype(int) - GREY) > 60).any()) for p in pictures] == [at >= 1 for at in times]


def test_29_97_frames_a_second_are_exact(tmp_path):
    times = [float(Fraction(1001 * n, 30_000)) for n in range(20)]
    write(tmp_path / "out.mp4", times, rate=30_000 / 1001)
    assert video_of(tmp_path / "out.mp4")[1] == pytest.approx(times, abs=1e-6)


def test_two_frames_of_one_time_are_both_kept(tmp_path):
    assert write(tmp_path / "out.mp4", [0.0, 0.0, 0.5]) == 3
    assert len(video_of(tmp_path / "out.mp4")[1]) == 3


def test_a_video_that_changes_its_size_keeps_the_first(tmp_path):
    frames = [DecodedFrame(n, n / 5, plain(*size), scene_cut=False) for n, size in enumerate([(64, 48), (48, 64)])]
    assert annotate_video(iter(frames), [], 5.0, tmp_path / "out.mp4") == 2
    stream, *_ = video_of(tmp_path / "out.mp4")
    assert (stream.width, stream.height) == (64, 48)


def test_a_video_that_fails_leaves_nothing_behind(tmp_path):
    def broken():
        yield DecodedFrame(0, 0.0, plain(), scene_cut=False)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        annotate_video(broken(), [], 25.0, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_still_is_drawn_on(tmp_path):
    annotate_image(plain(), [subject(start=0.0, end=0.0)], tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (321, 243)
        assert not np.array_equal(np.asarray(image), plain())


def test_frames_of_another_size_are_fitted_with_their_boxes(tmp_path):
    sizes = [(64, 48), (128, 96), (48, 64)]
    frames = [DecodedFrame(n, float(n), plain(*size), scene_cut=False) for n, size in enumerate(sizes)]
    someone = Subject(
        number=3,
        lines=(),
        at_seconds=np.arange(3.0),
        boxes=np.array([np.tile(size, 2) * [0.25, 0.25, 0.75, 0.75] for size in sizes], np.float32),
        frame_sizes=np.array(sizes, np.float32),
    )
    annotate_video(iter(frames), [someone], 1.0, tmp_path / "out.mkv")
    _, _, pictures = video_of(tmp_path / "out.mkv")
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    assert pictures[2][24, 4].max() < 40  # black beside the upright one
    drawn = [np.argwhere(np.abs(picture[..., 0].astype(int) - GREY) > 60) for picture in pictures[:2]]
    for edges in drawn:  # the box lies where the face is, whatever the size of the frame
        assert edges.min(axis=0) == pytest.approx([12, 16], abs=3)
        assert edges.max(axis=0) == pytest.approx([36, 48], abs=3)
