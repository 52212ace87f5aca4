"""``facet people import-xmp`` on a real PostgreSQL: names of photo programs at places, in the stored frame."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from worker.cli.main import app
from worker.config import settings
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.pictures.regions.boxes import RegionBox
from worker.pictures.regions.editing import ImageFrame, ShownFace, new_packet

SIZE = (900, 600)  # the made faces lie on a diagonal
NAMES = ("Грейс", "王小明", "محمد")


@pytest.fixture
def facet(crowd, clean_database, tmp_path, monkeypatch):
    """Three people with three photos each, stored under orientation 6, and a command on them."""
    for _ in range(3):
        crowd.photo(0, 1, 2)
    lock_people(crowd.session)
    identify_pending(crowd.session, Gallery(crowd.trunk_id))
    crowd.session.execute(
        text("UPDATE media_file SET kind = 'image', width = :w, height = :h, orientation = 6"),
        {"w": SIZE[0], "h": SIZE[1]},
    )
    crowd.session.commit()
    monkeypatch.setenv("FACET_DATABASE_URL", clean_database)
    monkeypatch.setenv("FACET_HOME", str(tmp_path / "home"))
    settings.cache_clear()

    def run(*words, status=0):
        done = CliRunner().invoke(app, ["people", *map(str, words)])
        assert done.exit_code == status, (done.output, done.exception)
        return json.loads(done.stdout) if "--json" in words else done.stdout

    yield run
    settings.cache_clear()


@pytest.fixture
def mark(crowd, tmp_path):
    """Writes a sidecar in a folder that mirrors the places of images, with a name for each face by its person."""

    def write(uri, names):
        rows = crowd.session.execute(
            text("""SELECT person_id, x1, y1, x2, y2 FROM faces JOIN media USING (media_id) WHERE uri = :uri"""),
            {"uri": uri},
        ).all()
        crowd.session.rollback()
        wide, high = SIZE
        faces = [
            ShownFace(
                names[row.person_id],
                RegionBox(row.x1 / wide, row.y1 / high, (row.x2 - row.x1) / wide, (row.y2 - row.y1) / high),
            )
            for row in rows
            if row.person_id in names
        ]
        path = tmp_path / "mirror" / f"{uri.lstrip('/')}.xmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(new_packet(faces, ImageFrame(*SIZE, 6)))
        return tmp_path / "mirror"

    return write


def uris(crowd):
    found = list(crowd.session.scalars(text("SELECT uri FROM media ORDER BY media_id")))
    crowd.session.rollback()
    return found


def people(run):
    return {row["person_id"]: (row["name"], row["appearance_count"]) for row in run("list", "--json")}


def test_a_name_at_one_place_names_the_person(facet, crowd, mark):
    mirror = mark(uris(crowd)[0], dict(zip((1, 2, 3), NAMES, strict=True)))
    facet("import-xmp", mirror, "--dry-run")
    assert {name for name, _ in people(facet).values()} == {None}
    found = facet("import-xmp", mirror, "--json")
    assert [(len(one["new"]), one["people"][0]) for one in found["names"]] == [
        (1, 1 + NAMES.index(one["name"])) for one in found["names"]
    ]
    assert people(facet) == {number: (NAMES[number - 1], 3) for number in (1, 2, 3)}
    told = facet("history", "--json")[0]
    assert (told["reason"], told["appearances"], told["made_by"] is not None) == ("face region", 1, True)
    for _ in NAMES:
        facet("undo")
    assert people(facet) == dict.fromkeys((1, 2, 3), (None, 3))


def test_names_part_people_who_were_mixed_and_undo_joins_them(facet, crowd, mark):
    facet("merge", "1", "2")
    before = people(facet)
    first, second, _ = uris(crowd)
    mark(first, {1: "Ann"})
    rows = crowd.session.execute(
        text("SELECT appearance_id FROM appearances JOIN media USING (media_id) WHERE uri = :u AND person_id = 1"),
        {"u": second},
    ).all()
    crowd.session.rollback()
    assert len(rows) == 2
    mirror = mark(second, {1: "Bo"})
    facet("import-xmp", mirror)
    named = {name: count for name, count in people(facet).values() if name}
    assert set(named) == {"Ann", "Bo"}
    assert sum(count for _, count in people(facet).values()) == 9
    facet("undo")
    facet("undo")
    assert people(facet) == before


def test_a_person_of_another_name_is_left_unless_that_is_wanted(facet, crowd, mark):
    facet("name", "1", "Ann")
    mirror = mark(uris(crowd)[0], {1: "Eve"})
    assert "1 have another name; pass --override" in facet("import-xmp", mirror)
    assert people(facet)[1] == ("Ann", 3)
    facet("import-xmp", mirror, "--override")
    assert {entry for entry in people(facet).values() if entry[0]} == {("Ann", 2), ("Eve", 1)}
    facet("undo")
    assert people(facet) == {1: ("Ann", 3), 2: (None, 3), 3: (None, 3)}


def test_one_name_on_two_people_is_said_and_merged_on_request(facet, crowd, mark):
    mirror = mark(uris(crowd)[0], {1: "Ann", 2: "ann"})
    done = facet("import-xmp", mirror, "--json")
    assert [sorted(one["people"]) for one in done["names"]] == [[1, 2]]
    facet("undo")
    facet("import-xmp", mirror, "--merge")
    assert ("Ann", 6) in people(facet).values() or ("ann", 6) in people(facet).values()


def test_what_leads_to_no_face_is_left_out(facet, crowd, mark, tmp_path):
    first = uris(crowd)[0]
    mirror = mark(first, {1: "Ann"})
    sidecar = mirror / f"{first.lstrip('/')}.xmp"
    sidecar.with_name("unknown.jpg.xmp").write_bytes(sidecar.read_bytes())
    sidecar.with_name("damaged.jpg.xmp").write_text("<!DOCTYPE x><x/>")
    stray = new_packet([ShownFace("Nemo", RegionBox(0.95, 0.95, 0.04, 0.04))], ImageFrame(*SIZE, 6))
    (mirror / f"{uris(crowd)[1].lstrip('/')}.xmp").write_bytes(stray)
    found = facet("import-xmp", mirror, "--json", status=1)
    assert sorted((one["name"], one["reason"][:22]) for one in found["left_out"] if one["name"]) == [
        ("Nemo", "no single face lies th"),
    ]
    assert {one["reason"][:20] for one in found["left_out"] if not one["name"]} == {
        "its image /crowd/unk", "it has a document ty",
    }  # fmt: skip
    assert people(facet)[1] == ("Ann", 3)
