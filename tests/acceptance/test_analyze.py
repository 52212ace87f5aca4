"""``facet analyze`` on real media, as a user runs it: every file accounted for, and the rows make sense."""

from __future__ import annotations

import json
import signal
import time

import pytest

from models.trunks.sface import SFACE_CROP_SIDE
from worker.storage.crops import CropStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SUMS = "SELECT submitted = done + rejected + quarantined + cancelled + pending AS equal FROM jobs"


@pytest.fixture(scope="module")
def clips(shared_facet, shared_data):
    """Analyse the clips once; the tests below ask what came out."""
    done = shared_facet("analyze", shared_data / "videos", "--json")
    return shared_facet, json.loads(done.stdout)


@pytest.fixture(scope="module")
def clip(clips):
    facet, _ = clips

    def ask(name, query):
        return facet.rows(f"WITH clip AS (SELECT media_id FROM media WHERE uri LIKE '%{name}%') {query}")

    return ask


def test_every_clip_is_accounted_for(clips):
    facet, summary = clips
    assert (summary["submitted"], summary["done"]) == (6, 6)
    assert facet.rows(SUMS) == [{"equal": True}]


@pytest.mark.parametrize("name", ["cockatoo", "no_face.mp4"])
def test_a_clip_without_people_has_no_analysed_face(clip, name):
    found = clip(name, "SELECT count(*) AS faces FROM faces JOIN clip USING (media_id) WHERE dropped_reason IS NULL")
    assert found == [{"faces": 0}]


def test_a_man_who_stays_in_view_is_one_appearance_of_one_person(clip):
    (found,) = clip(
        "single_face",
        "SELECT count(*) AS appearances, count(DISTINCT person_id) AS people, min(gender) AS gender"
        " FROM appearances JOIN clip USING (media_id)",
    )
    assert found == {"appearances": 1, "people": 1, "gender": "male"}


def test_a_face_before_a_cut_does_not_reach_beyond_it(clip):
    (found,) = clip(
        "face_noface",
        "SELECT count(*) AS appearances, max(end_seconds) AS last, max(duration_seconds) AS duration"
        " FROM appearances JOIN clip USING (media_id) JOIN media USING (media_id)",
    )
    assert found["appearances"] >= 1
    assert found["last"] < found["duration"] - 1


def test_a_changing_face_changes_its_emotion_over_time(clip):
    found = clip(
        "WolfgangLanger",
        "SELECT emotion, count(*) AS faces FROM faces JOIN clip USING (media_id)"
        " WHERE emotion <> 'unknown' GROUP BY 1 ORDER BY 2 DESC",
    )
    assert len(found) >= 3, found


def test_every_detection_is_kept_or_dropped_with_a_reason(clips):
    facet, _ = clips
    found = facet.rows("SELECT count(*) AS n FROM faces WHERE (dropped_reason IS NULL) <> (embedding IS NOT NULL)")
    assert found == [{"n": 0}]


def test_every_kept_face_has_its_crop(clips):
    facet, _ = clips
    store = CropStore(str(facet.home / "crops"))
    names = [
        str(path.relative_to(facet.home / "crops")) for path in (facet.home / "crops").rglob("*") if path.is_file()
    ]
    kept = facet.value("SELECT count(*) FROM faces WHERE dropped_reason IS NULL")
    assert sum(len(store.read(name, SFACE_CROP_SIDE)) for name in names) == kept


def test_the_same_files_again_are_known_and_not_analysed_again(clips, shared_data):
    facet, summary = clips
    before = facet.value("SELECT count(*) FROM faces")
    again = json.loads(facet("analyze", shared_data / "videos", "--json").stdout)
    assert again["done"] == 6
    assert again["job_id"] > summary["job_id"]
    assert facet.value("SELECT count(*) FROM faces") == before


def test_a_contact_sheet_of_all_appearances(clips, tmp_path):
    facet, _ = clips
    facet("sheet", "-o", tmp_path / "faces.png")
    assert (tmp_path / "faces.png").stat().st_size > 10_000


def test_a_contact_sheet_of_chosen_appearances(clips, tmp_path):
    facet, _ = clips
    few = facet("sheet", "-o", tmp_path / "few.jpg", "--per-person", "1")
    assert few.stdout.startswith(f"{facet.value('SELECT count(*) FROM people')} faces")
    assert (tmp_path / "few.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert few.stderr == ""
    cut = facet("sheet", "-o", tmp_path / "few.jpg", "--limit", "2")
    assert cut.stdout.startswith("2 faces")
    assert cut.stderr.startswith("these are the first 2, there are more; pass --limit")
    where = "uri LIKE '%single%' AND quality > 0"
    count = facet.value(f"SELECT count(*) FROM appearances JOIN media USING (media_id) WHERE {where}")
    chosen = facet("sheet", "-o", tmp_path / "chosen.png", "--where", where)
    assert chosen.stdout.startswith(f"{count} faces")
    wrong = [
        (2, "faces.gif"), (2, "missing/faces.png"), (1, "x.png", "--where", "nonsense"),
        (2, "x.png", "--where", "quality > 9"), (2, "x.png", "--person", "Nobody of this name"),
    ]  # fmt: skip
    for status, name, *options in wrong:
        refused = facet("sheet", "-o", tmp_path / name, *options, status=status)
        assert len(refused.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"few.jpg", "chosen.png"}


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "xlsx"])
def test_rows_for_other_programs(clips, tmp_path, form):
    facet, _ = clips
    path = tmp_path / f"faces.{form}"
    facet("sql", "SELECT * FROM faces", "--format", form, "-o", path)
    assert path.stat().st_size > 1000


def test_hard_inputs_end_as_rows_or_reasons(facet, shared_data):
    done = facet("analyze", shared_data / "hard_inputs", "--json", status=1)
    summary = json.loads(done.stdout)
    assert summary["submitted"] == summary["done"] + summary["rejected"]
    assert summary["done"] >= 80
    reasons = dict(facet.rows("SELECT uri, reason FROM media WHERE status <> 'done'")[0])
    assert reasons["reason"]
    assert facet.value("SELECT count(*) FROM media WHERE status <> 'done' AND reason IS NULL") == 0


def test_an_interrupted_analysis_goes_on_where_it_stopped(facet, shared_data):
    first = facet.start("analyze", shared_data / "hard_inputs", shared_data / "videos")
    deadline = time.monotonic() + 200
    while not list(facet.home.glob("crops/*/*/*/*.png")):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130, output
    assert "Traceback" not in output
    assert "stopping" in output
    assert output.endswith("facet: interrupted; nothing is lost, run the same command again to go on\n")
    assert facet.value("SELECT sum(pending) FROM jobs") > 0
    again = facet("analyze", shared_data / "hard_inputs", shared_data / "videos", status=1)
    assert "files are known or copies of each other; none is analysed twice" in again.stderr
    assert facet.value("SELECT sum(pending) FROM jobs") == 0
    doubled = "SELECT count(*) FROM (SELECT FROM faces GROUP BY media_id, frame_index, face_no HAVING count(*) > 1) d"
    assert facet.value(doubled) == 0
