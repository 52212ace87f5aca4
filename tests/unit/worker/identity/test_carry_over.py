"""People carried over from another trunk by place, on arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worker.identity import carry_over
from worker.identity.carry_over import PlacedFaces, people_at, with_carried
from worker.identity.grouping.constraints import Constraints, Exclusions

WIDTH = 100.0


def faces(*rows):
    """Faces as (appearance, person, file, time, left edge); all of one size."""
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    left = columns[4].astype(np.float32)
    boxes = np.stack([left, np.zeros_like(left), left + WIDTH, np.full_like(left, WIDTH)], axis=1)
    return PlacedFaces(
        trunk=np.ones(len(left), np.int64),
        appearance=columns[0].astype(np.int64),
        person=columns[1].astype(np.int64),
        media=columns[2].astype(np.int64),
        at_seconds=columns[3],
        boxes=boxes,
    )


def new(*rows):
    return faces(*((appearance, -1, *place) for appearance, *place in rows))


def test_the_person_at_the_place_is_found_whatever_the_frames():
    known = faces((1, 11, 5, 10.0, 0), (1, 11, 5, 10.5, 10), (2, 12, 5, 10.0, 300))
    found = people_at(new((8, 5, 10.2, 20), (9, 5, 10.4, 290)), known)
    assert found == {8: 11, 9: 12}


@pytest.mark.parametrize(
    "place",
    [(6, 10.0, 0), (5, 10.6, 0), (5, 9.4, 0), (5, 10.0, 60)],
    ids=["another file", "later", "earlier", "beside"],
)
def test_another_place_is_nobodys(place):
    assert people_at(new((8, *place)), faces((1, 11, 5, 10.0, 0))) == {}


def test_the_nearer_in_time_wins_and_then_the_larger_overlap():
    known = faces((1, 11, 5, 10.4, 0), (2, 12, 5, 10.1, 30))
    assert people_at(new((8, 5, 10.0, 0)), known) == {8: 12}
    known = faces((1, 11, 5, 10.1, 40), (2, 12, 5, 10.1, 30))
    assert people_at(new((8, 5, 10.0, 0)), known) == {8: 12}


def test_half_of_the_shorter_appearance_is_enough_and_less_is_not():
    long = [(1, 11, 5, float(second), 0) for second in range(40)]
    short = new(*((8, 5, float(second), 0 if second < 2 else 500) for second in range(4)))
    assert people_at(short, faces(*long)) == {8: 11}
    crossing = new(*((8, 5, float(second), 0 if second < 1 else 500) for second in range(4)))
    assert people_at(crossing, faces(*long)) == {}
    longer = new(*((8, 5, float(second), 0) for second in range(40)))
    assert people_at(longer, faces((1, 11, 5, 3.0, 0), (1, 11, 5, 4.0, 500))) == {8: 11}


def test_of_several_people_the_one_with_the_most_faces_there():
    known = faces(*((1, 11, 5, float(n), 0) for n in range(2)), *((2, 12, 5, float(n), 0) for n in range(2, 5)))
    joined = new(*((8, 5, float(n), 0) for n in range(5)))
    assert people_at(joined, known) == {8: 12}
    pieces = faces(
        *((1, 11, 5, float(n), 0) for n in range(2)),
        *((2, 12, 5, float(n), 0) for n in range(2, 5)),
        *((3, 11, 5, float(n), 0) for n in range(5, 7)),
    )
    assert people_at(new(*((8, 5, float(n), 0) for n in range(7))), pieces) == {8: 11}


def test_nothing_is_known_or_new():
    assert people_at(new((8, 5, 0.0, 0)), faces()) == {}
    assert people_at(new(), faces((1, 11, 5, 0.0, 0))) == {}


def test_blocks_of_pairs_find_what_one_finds(monkeypatch):
    rng = np.random.default_rng(7)
    places = [(n // 9, n // 27, 0.4 * (n % 9), 70.0 * (n // 9 % 3)) for n in range(270)]
    known = faces(*((one, 100 + one // 2, file, at, left) for one, file, at, left in places))
    moved = [(one, file, at + rng.uniform(-0.3, 0.3), left + rng.uniform(-40, 40)) for one, file, at, left in places]
    looked = new(*(moved[row] for row in rng.permutation(len(moved))))
    whole = people_at(looked, known)
    assert len(whole) > 20
    assert len(set(whole.values())) > 10
    for pairs in (1, 7, 100):
        monkeypatch.setattr(carry_over, "_BLOCK_PAIRS", pairs)
        assert people_at(looked, known) == whole


def constraints(count, **given):
    return replace(Constraints.none(count), **{name: np.array(value, np.int64) for name, value in given.items()})


def test_rows_without_a_correction_are_pinned_to_their_people():
    pinned = with_carried(Constraints.none(3), np.array([5, -1, 6])).pinned
    assert pinned.tolist() == [5, -1, 6]


def test_a_pin_of_a_correction_stays():
    given = constraints(2, pinned=[9, -1])
    assert with_carried(given, np.array([5, 6])).pinned.tolist() == [9, 6]


def test_rows_that_are_one_person_go_where_most_of_them_are():
    given = constraints(4, must_link=[3, 3, 3, -1])
    assert with_carried(given, np.array([5, 6, 6, 5])).pinned.tolist() == [6, 6, 6, 5]


def test_a_pin_to_an_excluded_person_is_left_out():
    given = replace(constraints(2, must_link=[0, 0]), excluded=Exclusions(np.array([1]), np.array([5])))
    assert with_carried(given, np.array([5, 5])).pinned.tolist() == [-1, -1]
    assert with_carried(given, np.array([6, 6])).pinned.tolist() == [6, 6]


def test_two_that_a_correction_separates_are_not_pinned_to_one():
    given = constraints(3, must_link=[0, 1, -1], cannot_link=[[0, 1]])
    assert with_carried(given, np.array([5, 5, 5])).pinned.tolist() == [5, -1, 5]
    assert with_carried(given, np.array([5, 6, 5])).pinned.tolist() == [5, 6, 5]


def test_two_of_different_names_are_not_pinned_to_one():
    given = constraints(3, must_link=[0, 1, 2], name=[0, 1, 0])
    assert with_carried(given, np.array([5, 5, 5])).pinned.tolist() == [5, -1, 5]
    assert with_carried(given, np.array([5, 6, 5])).pinned.tolist() == [5, 6, 5]
