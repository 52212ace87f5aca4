"""``facet search`` and ``facet annotate`` on the demonstration's archive, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import re
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from worker.cli.demo import build_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def demo(shared_facet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "archive"
    build_archive(folder)
    done = shared_facet("analyze", folder, "--json", status=1)  # half a picture is among them
    assert json.loads(done.stdout)["people"] == 2, done.stderr
    return shared_facet, folder


@pytest.fixture(scope="module")
def hopper(demo):
    """The person of Grace Hopper's portrait."""
    facet, _ = demo
    return facet.value(
        "SELECT person_id FROM appearances JOIN media USING (media_id) WHERE uri LIKE '%portraits/grace-hopper.jpg'"
    )


def turned(folder, tmp_path):
    """Another picture of her: mirrored, greyer, smaller."""
    with Image.open(folder / "portraits" / "grace-hopper.jpg") as image:
        small = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("L").resize((256, 300))
    small.save(tmp_path / "her.png")
    return tmp_path / "her.png"


def test_a_photo_finds_its_person_and_stores_nothing(demo, hopper, tmp_path):
    facet, folder = demo
    before = facet.rows("SELECT (SELECT count(*) FROM media) m, (SELECT count(*) FROM faces) f")
    (answer,) = json.loads(facet("search", turned(folder, tmp_path), "--json", "-o", tmp_path / "found.png").stdout)
    best, *others = answer["people"]
    assert best["person_id"] == hopper
    assert best["probability"] > 0.95
    assert all(other["probability"] < 0.05 for other in others)
    assert answer["appearances"][0]["person_id"] == hopper
    assert facet.rows("SELECT (SELECT count(*) FROM media) m, (SELECT count(*) FROM faces) f") == before
    with Image.open(tmp_path / "found.png") as sheet:
        assert sheet.width > 500


def test_reference_photos_name_people_and_are_not_stored(demo, hopper, tmp_path):
    facet, folder = demo
    before = facet.rows("SELECT (SELECT count(*) FROM media) m, (SELECT count(*) FROM faces) f")
    (tmp_path / "references" / "Grace Hopper").mkdir(parents=True)
    turned(folder, tmp_path).rename(tmp_path / "references" / "Grace Hopper" / "her.png")
    (tmp_path / "references" / "Coffee.jpg").write_bytes((folder / "places" / "coffee.jpg").read_bytes())
    trial = json.loads(facet("people", "learn", tmp_path / "references", "--dry-run", "--json", status=1).stdout)
    assert [(one["name"], one["person_id"]) for one in trial["matches"]] == [("Grace Hopper", hopper), ("Coffee", None)]
    assert len(trial["skipped"]) == 1
    assert trial["named"] == []
    assert facet.value("SELECT count(*) FROM people WHERE name IS NOT NULL") == 0
    done = facet("people", "learn", tmp_path / "references", status=1)
    assert f"person {hopper} is Grace Hopper" in done.stdout
    assert "Coffee.jpg is skipped: no face was found" in done.stderr
    (tmp_path / "references" / "Coffee.jpg").unlink()
    assert "has the name" in facet("people", "learn", tmp_path / "references").stdout
    named = json.loads(facet("search", "--person", "grace hopper", "--json").stdout)
    assert named == json.loads(facet("search", "--person", hopper, "--json").stdout)
    facet("sheet", "--person", "Grace Hopper", "-o", tmp_path / "her.jpg")
    receipt = json.loads(facet("forget", "--person", "Grace Hopper", "--dry-run").stdout)
    assert (
        receipt["people"] == json.loads(facet("forget", "--person", hopper, "--dry-run").stdout)["people"] == [hopper]
    )
    facet("people", "undo")
    assert facet.rows("SELECT (SELECT count(*) FROM media) m, (SELECT count(*) FROM faces) f") == before


def test_a_filter_and_csv(demo, hopper):
    facet, _ = demo
    done = facet("search", "--person", hopper, "--where", "kind = 'video' AND start_seconds > 2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    seen = [row for row in rows if row["hit"] == "appearance"]
    assert seen
    assert all(float(row["start_seconds"]) > 2 for row in seen)
    assert all(float(row["probability"]) < 0.05 for row in rows)  # everybody else is somebody else


def test_the_index_can_be_made_and_dropped(demo, hopper):
    facet, _ = demo
    before = json.loads(facet("search", "--person", hopper, "--json").stdout)[0]
    facet("db", "index")
    after = json.loads(facet("search", "--person", hopper, "--json").stdout)[0]
    facet("db", "check")
    facet("db", "index", "--drop")
    assert (before["exact"], after["exact"]) == (True, False)
    assert [hit["person_id"] for hit in after["people"]] == [hit["person_id"] for hit in before["people"]]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "expected one"),
        (("--person", "999"), 2, "facet people list"),
        (("places/coffee.jpg",), 1, "no face"),
        (("films/two-pioneers.mp4",), 2, "expected one photo"),
        (("damaged/half-a-picture.jpg",), 1, "truncated"),
        (("portraits/grace-hopper.jpg", "--face", "9"), 2, "--face 1 to"),
        (("portraits/grace-hopper.jpg", "--where", "nothing > 1"), 1, "expected a condition"),
    ],
)
def test_wrong_use_is_one_line(demo, words, status, said):
    facet, folder = demo
    paths = [folder / word if "/" in word else word for word in words]
    done = facet("search", *paths, status=status)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_film_is_drawn_on_where_somebody_is_in_view(demo, tmp_path):
    facet, folder = demo
    facet("annotate", folder / "films" / "two-pioneers.mp4", "-o", tmp_path / "drawn.mp4")
    drawn, times = pixels(tmp_path / "drawn.mp4")
    plain, expected = pixels(folder / "films" / "two-pioneers.mp4")
    assert times == pytest.approx(expected, abs=1e-3)
    changed = np.array([(np.abs(a.astype(int) - b) > 60).mean() > 0.002 for a, b in zip(drawn, plain, strict=True)])
    spans = facet.rows(
        "SELECT start_seconds, end_seconds FROM appearances JOIN media USING (media_id) WHERE uri LIKE '%two-pioneers%'"
    )
    within = np.array(
        [any(s["start_seconds"] <= at + 1e-3 and at - 1e-3 <= s["end_seconds"] for s in spans) for at in times]
    )
    assert np.array_equal(changed, within)


def test_the_sound_of_a_film_begins_where_it_did(facet, demo, tmp_path):
    _, folder = demo
    with_tone(folder / "films" / "two-pioneers.mp4", tmp_path / "tone.mp4", begin=0.7)
    facet("analyze", tmp_path / "tone.mp4")
    facet("annotate", tmp_path / "tone.mp4", "--no-interpolate", "-o", tmp_path / "drawn.mov")
    with av.open(str(tmp_path / "drawn.mov")) as container:
        rate = container.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)[0]
    assert np.flatnonzero(np.abs(samples) > 0.3)[0] / rate == pytest.approx(0.7, abs=1e-3)
    assert pixels(tmp_path / "drawn.mov")[1] == pytest.approx(pixels(tmp_path / "tone.mp4")[1], abs=1e-3)
    facet("annotate", tmp_path / "tone.mp4", "--no-sound", "-o", tmp_path / "mute.mp4")
    with av.open(str(tmp_path / "mute.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_a_file_is_known_by_its_number_and_by_its_bytes(demo, tmp_path):
    facet, folder = demo
    copy = tmp_path / "renamed.jpg"
    copy.write_bytes((folder / "portraits" / "grace-hopper.jpg").read_bytes())
    facet("annotate", copy, "-o", tmp_path / "by-bytes.png")
    number = facet.value("SELECT media_id FROM media WHERE uri LIKE '%grace-hopper.jpg'")
    facet("annotate", number, "-o", tmp_path / "by-number.png")
    assert (tmp_path / "by-bytes.png").read_bytes() == (tmp_path / "by-number.png").read_bytes()


def test_an_animated_still_becomes_a_film(demo, tmp_path):
    facet, folder = demo
    facet("annotate", folder / "films" / "admiral.gif", "-o", tmp_path / "drawn.mp4")
    assert len(pixels(tmp_path / "drawn.mp4")[1]) == 12


def test_what_was_not_analysed_is_said(demo, tmp_path):
    facet, folder = demo
    done = facet("annotate", turned(folder, tmp_path), "-o", tmp_path / "out.png", status=2)
    assert "facet analyze" in done.stderr
    done = facet("annotate", folder / "films" / "two-pioneers.mp4", "-o", tmp_path / "out.png", status=2)
    assert "expected one of" in done.stderr


def test_subtitles_follow_the_appearances(demo, tmp_path):
    facet, _ = demo
    facet("people", "name", str(facet.value("SELECT min(person_id) AS n FROM people")), "<i>Ann</i> & Bo")
    spans = facet.rows(
        "SELECT a.media_id, a.start_seconds AS start, max(f.at_seconds + f.hold_seconds) AS until FROM appearances a "
        "JOIN faces f USING (appearance_id) JOIN media m ON m.media_id = a.media_id WHERE m.kind = 'video' "
        "GROUP BY a.appearance_id, a.media_id, a.start_seconds, a.ordinal ORDER BY a.media_id, start, a.ordinal"
    )
    facet("export", "vtt", "--where", "kind = 'video'", "-o", tmp_path / "subtitles")
    found = []
    for path in sorted((tmp_path / "subtitles").iterdir(), key=lambda path: int(path.stem.rpartition("-")[2])):
        times = re.findall(r"(\d+):(\d+):([\d.]+) --> (\d+):(\d+):([\d.]+)", path.read_text())
        seconds = [[float(part) for part in row] for row in times]
        found += [(h * 3600 + m * 60 + s, h2 * 3600 + m2 * 60 + s2) for h, m, s, h2, m2, s2 in seconds]
        assert "<i>" not in path.read_text()
    assert len({span["media_id"] for span in spans}) == len(list((tmp_path / "subtitles").iterdir()))
    assert spans
    expected = [(span["start"], span["until"]) for span in spans]
    assert np.array(found) == pytest.approx(np.array(expected), abs=2e-3)


@pytest.mark.parametrize("form", ["vtt", "srt", "ass", "eaf", "iiif", "csv"])
def test_every_format_is_written_for_one_film(demo, form, tmp_path):
    facet, _ = demo
    number = facet.value("SELECT media_id FROM media WHERE uri LIKE '%two-pioneers.mp4'")
    facet("export", form, "--media", number, "-o", tmp_path / f"out.{form}")
    people = facet.rows(
        "SELECT DISTINCT person_id AS number, name FROM appearances JOIN people USING (person_id) "
        f"WHERE media_id = {number}"
    )
    text = (tmp_path / f"out.{form}").read_text()
    assert len(people) == 2
    shown = [
        f",{one['number']}," if form == "csv" else "Bo" if one["name"] else f"person {one['number']}" for one in people
    ]
    assert all(who in text for who in shown)


def test_the_places_of_web_annotations_are_those_of_the_faces(demo, hopper, tmp_path):
    facet, _ = demo
    where = "uri LIKE '%portraits/grace-hopper.jpg'"
    facet("export", "iiif", "--person", hopper, "--where", where, "-o", tmp_path / "page.json")
    (note,) = json.loads((tmp_path / "page.json").read_text())["items"]
    (face,) = facet.rows(
        "SELECT x1, y1, x2 - x1 AS width, y2 - y1 AS height FROM appearances a JOIN media USING (media_id) "
        f"JOIN faces f ON f.face_id = a.best_face_id WHERE {where}"
    )
    place = [int(number) for number in note["target"].partition("#xywh=")[2].split(",")]
    assert place == pytest.approx([face[name] for name in ("x1", "y1", "width", "height")], abs=1)


def test_all_views_are_exported_and_kept_up_to_date(demo, tmp_path):
    facet, _ = demo
    assert ", 0 unchanged" in facet("export", "data", "-o", tmp_path / "data").stdout
    assert facet("export", "data", "-o", tmp_path / "data").stdout.startswith("0 partitions written")
    done = facet("export", "data", "--person", "1", "-o", tmp_path / "data", status=2)
    assert "leave them out" in done.stderr


def test_an_export_of_nothing_and_a_wrong_condition_are_one_line(demo, tmp_path):
    facet, _ = demo
    done = facet("export", "vtt", "--person", "999", "-o", tmp_path / "out.vtt", status=2)
    assert "no appearance in a video" in done.stderr
    done = facet("export", "csv", "--where", "nothing > 1", "-o", tmp_path / "out.csv", status=1)
    assert "expected a condition" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def with_tone(film, path, begin, rate=44_100):
    """Copy a film, with five seconds of sound: silence, then a tone."""
    at = np.arange(5 * rate) / rate
    tone = (np.where(at >= begin, np.cos(2 * np.pi * 440 * (at - begin)), 0) * 20_000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        picture = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("aac", rate=rate, layout="mono")
        target.mux(sound.encode(frame))
        target.mux(sound.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                target.mux(packet)


def pixels(path):
    """Frames and times of a film."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]
