"""Reference photos: names of folders and files, the face that is meant, and who is taken for whom."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from worker.errors import FacetError, UsageError
from worker.identity.search.learn import average, match, only_face, photos_by_name, read_references
from worker.identity.search.photo import PhotoFace
from worker.identity.search.searcher import PersonHit, Probe, SearchResult


def face(side=100.0, embedding=(1.0, 0.0), quality=0.8):
    box = np.array([10, 20, 10 + side, 20 + side], np.float32)
    probe = Probe(embedding=np.array(embedding, np.float32), quality=quality)
    return PhotoFace(number=1, box=box, crop=np.zeros((1, 1, 3), np.uint8), probe=probe)


def test_folders_and_files_are_names(tmp_path):
    for name in (
        "Grace Hopper/1.jpg", "Grace Hopper/navy/2.jpg", "Ada_Lovelace/a.png", "Eileen Collins.jpg",
        "Eileen Collins 2.jpg", "Eileen_Collins_0003.jpg", "Eileen Collins (4).jpg", "2001.jpg", ".DS_Store",
        "Thumbs.db", "Ada_Lovelace/._a.png", unicodedata.normalize("NFD", "Zoë") + "/1.jpg", "C3 PO.jpg",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = {name: len(paths) for name, paths in photos_by_name(tmp_path).items()}
    assert found == {"Grace Hopper": 2, "Ada Lovelace": 1, "Eileen Collins": 4, "2001": 1, "Zoë": 1, "C3 PO": 1}


def test_no_folder_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(UsageError, match="is no folder"):
        photos_by_name(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no file"):
        photos_by_name(tmp_path)


def test_the_face_of_a_photo_is_much_larger_than_others():
    assert only_face([face(100)]).box[2] == 110
    assert only_face([face(100), face(40), face(40)]).box[2] == 110
    assert only_face([face(100), face(60)]) is None


def test_faces_of_a_name_are_averaged_by_quality():
    reference = average("Ada", [face(embedding=(1, 0), quality=0.9), face(embedding=(0, 1), quality=0.3)])
    assert reference.photos == 2
    assert reference.probe.embedding == pytest.approx(np.array([3, 1]) / 10**0.5)
    assert reference.probe.quality == pytest.approx(0.9)
    assert reference.probe.agreement == pytest.approx(10**0.5 / 4)


def test_photos_without_one_face_are_skipped_with_the_reason(tmp_path):
    def read(path):
        if path.name == "none":
            raise FacetError("no face was found")
        return [face(), face()] if path.name == "two" else [face()]

    photos = {"Ada": [tmp_path / "one", tmp_path / "two"], "Grace": [tmp_path / "none"]}
    references, skipped = read_references(photos, read)
    assert [(one.name, one.photos) for one in references] == [("Ada", 1)]
    assert [(one.path.rpartition("/")[2], one.reason) for one in skipped] == [
        ("two", "it shows 2 faces of about one size, expected one person; crop it"),
        ("none", "no face was found"),
    ]


class Answers:
    """Answers searches by the first number of the probe."""

    def __init__(self, **chances):
        self._chances = {float(key.lstrip("_")): value for key, value in chances.items()}

    def search(self, probe, options):
        hits = tuple(
            PersonHit(
                person_id=person, quality=0.9, similarity=0.5, agreement=1.0, people_compared=9, probability=chance
            )
            for person, chance in self._chances[round(float(probe.embedding[0]), 1)]
        )
        return SearchResult(people=hits, appearances=(), prior=0.01, people_searched=9, exact=True)


def reference(name, number):
    return average(name, [face(embedding=(number, (1 - number**2) ** 0.5))])


def test_the_probable_person_is_found_and_further_ones_are_named():
    searcher = Answers(_0=[(3, 0.99), (7, 0.97), (8, 0.5)], _1=[(4, 0.94)])
    first, second = match(searcher, [reference("Ada", 0), reference("Grace", 1)], 0.95)
    assert (first.person_id, first.probability, first.others) == (3, 0.99, (7,))
    assert (second.person_id, second.probability, second.others) == (None, 0.94, ())


def test_a_person_of_two_names_is_left_to_the_more_probable():
    searcher = Answers(_0=[(3, 0.96)], _1=[(3, 0.99)])
    first, second = match(searcher, [reference("Ada", 0), reference("Grace", 1)], 0.95)
    assert (first.person_id, second.person_id) == (None, 3)


def test_an_empty_archive_and_one_without_calibration():
    (none,) = match(Answers(_0=[]), [reference("Ada", 0)], 0.95)
    assert (none.person_id, none.probability) == (None, None)
    with pytest.raises(UsageError, match="no calibration"):
        match(Answers(_0=[(3, None)]), [reference("Ada", 0)], 0.95)
