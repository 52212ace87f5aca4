"""Imported results of cloud services: their rows, their views, and what a foreign release refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from typer.testing import CliRunner

from db.bulk.rows import allocate_ids, copy_rows
from tests.integration.worker.test_changed import write_video
from worker.cli.main import app
from worker.config import settings
from worker.deployment.scheduled.release_work import ReleaseWork
from worker.errors import FacetError, UsageError
from worker.ledger.releases import active_release
from worker.releases.consistency import find_contradictions
from worker.releases.folders import ReleaseFolders
from worker.storage.crops import CropStore
from worker.storage.release_store import check_folder

RESULTS = Path(__file__).parent / "foreign"
PAGE = Path(__file__).resolve().parents[4] / "docs" / "imported-results.md"
(COMPARISON,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 400, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.avi"
    write_video(path, 1)
    return path


@pytest.fixture
def facet(database, config, monkeypatch):
    monkeypatch.setenv("FACET_DATABASE_URL", database.url)
    monkeypatch.setenv("FACET_HOME", str(config.home))
    settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    settings.cache_clear()


@pytest.fixture
def imported(facet, database):
    """Return a function that imports result files, and reads queries of the views."""

    def run(*names, media, **options):
        words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
        done = facet("import-json", *(RESULTS / name for name in names), "--media", media, "--json", *words)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


@pytest.fixture
def ask(database):
    def run(query, **values):
        with database.sessions() as session:
            return [tuple(row) for row in session.execute(text(query), values)]

    return run


def test_an_image_of_rekognition(imported, ask, image):
    done = imported("rekognition-image.json", media=image)
    assert done["release"] == "rekognition-DetectFaces-unstated"
    assert (done["faces"], done["appearances"], done["predictions"]) == (2, 0, 11)
    faces = ask(
        "SELECT x1, y1, x2, y2, detection_score, quality, frame_width, frame_height FROM release_faces ORDER BY 5"
    )
    assert faces[1] == (50, 50, 150, 150, pytest.approx(0.99875), pytest.approx(0.925), 400, 200)
    assert faces[0][:4] == (-25, 100, 75, 200)
    found = {
        head: rest for head, *rest in ask("SELECT head, label, value, low, high, confidence FROM release_predictions")
    }
    assert found["gender"] == ["female", None, None, None, pytest.approx(0.9925)]
    assert found["age"] == [None, 30, 23, 37, None]
    assert found["emotion"] == ["happiness", None, None, None, pytest.approx(0.9375)]
    assert (found["Smiling"][0], found["Eyeglasses"][0], found["Mouth_Slightly_Open"][0]) == ("yes", "no", "no")
    assert found["Eyeglasses"][4] == pytest.approx(0.98)
    points = ask("SELECT facet.decode_landmarks(landmarks, x1, y1, x2, y2) FROM face ORDER BY detection_score DESC")
    assert points[0][0] == pytest.approx([80, 80, 120, 80, 100, 100, 80, 120, 120, 120], abs=0.01)
    assert ask("SELECT width, height, status FROM media") == [(400, 200, "pending")]


def test_pages_of_a_video_of_rekognition(imported, ask, video):
    done = imported("rekognition-video-1.json", "rekognition-video-2.json", media=video, model_version="7.0")
    assert done["release"] == "rekognition-GetFaceDetection-7.0"
    faces = ask("SELECT at_seconds, x1, y1, x2, y2, frame_index FROM release_faces ORDER BY face_id")
    assert faces == [(0, 0, 0, 32, 24, 0), (0.5, 16, 0, 48, 24, 0), (0.5, 48, 24, 56, 36, 0)]
    assert ask("SELECT frame_count, face_count, state, is_current FROM analysis") == [(2, 3, "done", True)]


def test_people_of_rekognition_become_appearances(imported, facet, ask, video):
    done = imported("rekognition-persons.json", media=video)
    assert (done["faces"], done["appearances"], done["left_out"]) == (2, 1, 1)
    (found,) = ask("SELECT start_seconds, end_seconds, face_count, screen_seconds FROM release_appearances")
    assert found == (0, 1, 2, 1)
    best = "SELECT quality FROM release_faces JOIN release_appearances ON best_face_id = release_faces.face_id"
    assert ask(best) == [(pytest.approx(0.7),)]
    searched = imported("rekognition-search.json", media=video)
    assert searched["release"] == "rekognition-GetFaceSearch-unstated"
    assert ask("SELECT count(DISTINCT appearance_id) FROM release_faces WHERE appearance_id IS NOT NULL") == [(2,)]


def test_a_video_of_google(imported, ask, video):
    done = imported("google.json", media=video)
    assert done["release"] == "google-FACE_DETECTION-builtin/stable"
    faces = ask("SELECT at_seconds, x1, y1, x2, y2, detection_score FROM release_faces ORDER BY face_id")
    assert faces == [(0, 16, 0, 48, 24, 0.75), (1.5, 32, 12, 64, 36, 0.75)]
    assert ask("SELECT start_seconds, end_seconds, face_count FROM release_appearances") == [(0, 1.5, 2)]
    found = ask("SELECT head, label, confidence FROM release_predictions ORDER BY head")
    assert found == [("Eyeglasses", "yes", 0.875), ("Smiling", "no", 0.75)]


def test_a_file_that_google_wrote_to_its_storage(imported, ask, video):
    assert imported("google-storage.json", media=video, service="google")["release"].endswith("builtin/latest")
    assert ask("SELECT at_seconds, x1, y2 FROM release_faces") == [(1.5, 32, 48)]
    assert ask("SELECT start_seconds, end_seconds FROM release_appearances") == [(1, 2.25)]


def test_times_of_azure_have_no_faces(imported, ask, video):
    done = imported("azure.json", media=video)
    assert (done["release"], done["faces"], done["appearances"]) == ("azure-faces-1.0.0.0", 0, 2)
    found = ask("SELECT start_seconds, end_seconds, face_count, best_face_id FROM release_appearances ORDER BY 1")
    assert found == [(0, 1.5, 2, None), (2.25, 3, 3, None)]


@pytest.fixture
def contradictions(database, config):
    """Return a function that compares the rows of all releases."""

    def find():
        with database.sessions() as session:
            return find_contradictions(session, ReleaseFolders(config, database.sessions).store)

    return find


def test_the_rows_agree_and_none_has_a_person(imported, facet, ask, contradictions, image, video):
    imported("rekognition-image.json", media=image)
    for names in (("google.json",), ("azure.json",), ("rekognition-persons.json",)):
        imported(*names, media=video)
    assert contradictions() == []
    assert facet("people", "regroup", "--yes").exit_code == 0
    assert ask("SELECT count(*) FROM person") == [(0,)]
    assert ask("SELECT count(*) FROM faces") == ask("SELECT count(*) FROM appearances") == [(0,)]
    assert ask("SELECT name FROM release WHERE active") == [("default",)]
    for words in (("releases", "list"), ("releases", "show", "azure-faces-1.0.0.0"), ("status",), ("doctor",)):
        done = facet(*words)
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.output)


REFUSED = [
    ("releases", "activate", "{name}"),
    ("releases", "activate", "{name}", "--force", "--reason", "try"),
    ("reprocess", "--release", "{name}"),
    ("reprocess", "--release", "{name}", "--dry-run"),
    ("people", "regroup", "--release", "{name}"),
]


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: " ".join(words[:3]))
def test_nothing_is_computed_under_it(imported, facet, ask, image, words):
    name = imported("rekognition-image.json", media=image)["release"]
    done = facet(*(word.format(name=name) for word in words))
    assert done.exit_code != 0
    assert "holds imported results of rekognition and has no models" in str(done.exception), done.output
    assert ask("SELECT name FROM release WHERE active") == [("default",)]
    assert ask("SELECT count(*) FROM job") == [(0,)]


def test_no_worker_loads_it_and_no_schedule_fills_it_in(imported, config, database, image):
    number = imported("rekognition-image.json", media=image)["release_id"]
    with pytest.raises(FacetError, match="holds imported results, and has no models"):
        ReleaseFolders(config, database.sessions).find(number)
    tools = ReleaseWork(database.sessions, CropStore(config.crops), config.home)
    with database.sessions() as session, pytest.raises(UsageError, match="holds imported results of rekognition"):
        tools.find_release(session, str(number))


def test_it_is_stored_once_until_it_is_retired(imported, facet, ask, image):
    name = imported("rekognition-image.json", media=image)["release"]
    again = facet("import-json", RESULTS / "rekognition-image.json", "--media", image)
    assert re.search(rf"has 2 faces of release {name}, expected none", str(again.exception))
    retired = facet("releases", "retire", name)
    assert retired.exit_code == 0, retired.output
    assert ask("SELECT count(*) FROM face") == ask("SELECT count(*) FROM prediction") == [(0,)]
    assert ask("SELECT count(*) FROM release_faces") == [(0,)]
    assert imported("rekognition-image.json", media=image)["release"] == f"{name}-2"
    assert ask("SELECT count(*) FROM release_faces") == [(2,)]


def test_erasing_the_file_erases_its_rows(imported, facet, ask, video):
    for name in ("google.json", "azure.json"):
        media_id = imported(name, media=video)["media_id"]
    done = facet("forget", "--media", media_id, "--yes")
    assert done.exit_code == 0, done.output
    for table in ("media_file", "analysis", "unit", "face", "prediction", "face_embedding", "appearance"):
        assert ask(f"SELECT count(*) FROM {table}") == [(0,)], table


def own_rows(database, media_id, at=0):
    """Write the rows that the active release would have, for the first face of rekognition-image.json."""
    with database.sessions.begin() as session:
        ids = active_release(session)[0]
        analysis_id, unit_id = session.execute(
            text("""WITH a AS (INSERT INTO analysis (media_id, finder_id, sampling, state, finished_at, is_current)
                               VALUES (:m, :f, 'every', 'done', now(), true) RETURNING analysis_id)
                    INSERT INTO unit (analysis_id, release_id, state) SELECT analysis_id, :r, 'done' FROM a
                    RETURNING analysis_id, unit_id"""),
            {"m": media_id, "f": ids.finder_id, "r": ids.release_id},
        ).one()
        (face_id,) = allocate_ids(session, "face", 1)
        columns = ("face_id", "analysis_id", "unit_id", "at_seconds", "frame_index", "x1", "y1", "x2", "y2",
                   "landmarks", "detection_score", "quality")  # fmt: skip
        row = (face_id, analysis_id, unit_id, at, 0, 60, 50, 150, 150, bytes(20), 0.9, 0.8)
        copy_rows(session, "face", columns, [row])
        answers = [("gender", "female", None), ("age", None, 33.5), ("emotion", "neutral", None)]
        rows = [(face_id, ids.readings[task], label, value) for task, label, value in answers]
        copy_rows(session, "prediction", ("face_id", "reading_id", "label", "value"), rows)
        return ids, analysis_id, face_id


def own_person(database, media_id, at=0):
    """Write a person with such a face, and return the number."""
    ids, analysis_id, face_id = own_rows(database, media_id, at)
    with database.sessions.begin() as session:
        person = session.execute(text("INSERT INTO person DEFAULT VALUES RETURNING person_id")).scalar_one()
        appearance = session.execute(
            text("""INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds, end_seconds,
                                            face_count, quality, best_face_id, person_id)
                    VALUES (:a, :m, :t, 0, :at, :at, 1, 0.8, :f, :p) RETURNING appearance_id"""),
            {"a": analysis_id, "m": media_id, "t": ids.trunk_id, "at": at, "f": face_id, "p": person},
        ).scalar_one()
        session.execute(
            text("INSERT INTO face_embedding (face_id, trunk_id, appearance_id) VALUES (:f, :t, :s)"),
            {"f": face_id, "t": ids.trunk_id, "s": appearance},
        )
    return person


def test_sql_compares_them_with_own_results(imported, facet, ask, database, image):
    done = imported("rekognition-image.json", media=image)
    own_rows(database, done["media_id"])
    found = {head: rest for _, head, *rest in ask(COMPARISON)}
    assert found == {"gender": [1, 1, None], "age": [1, None, 1], "emotion": [1, 0, None]}
    compared = facet("releases", "diff", "active", done["release"], "--json")
    assert compared.exit_code == 0, compared.output
    heads = {one["head"]: one for one in json.loads(compared.stdout)["heads"]}
    assert (heads["gender"]["unchanged"], heads["emotion"]["changed"], heads["age"]["changed"]) == (1, 1, 1)


def test_reprocessing_analyses_the_file_under_the_own_release(imported, facet, ask, image):
    imported("rekognition-image.json", media=image)
    done = facet("reprocess", "--json")
    assert done.exit_code == 0, done.output
    assert ask("SELECT status, sampling FROM media") == [("done", "every")]


@pytest.fixture
def elsewhere(database):
    url = database.engine.url.set(database="elsewhere")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS elsewhere WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE elsewhere"))
    return url.render_as_string(hide_password=False)


def test_a_backup_keeps_it(imported, facet, tmp_path, monkeypatch, image, elsewhere):
    imported("rekognition-image.json", media=image)
    done = facet("db", "dump", tmp_path / "backup", "--json")
    assert done.exit_code == 0, done.output
    (own,) = json.loads(done.stdout)["releases"]
    assert check_folder(tmp_path / "backup" / "releases" / own).name == "default"
    monkeypatch.setenv("FACET_DATABASE_URL", elsewhere)
    monkeypatch.setenv("FACET_HOME", str(tmp_path / "again"))
    settings.cache_clear()
    restored = facet("db", "restore", tmp_path / "backup")
    assert restored.exit_code == 0, restored.output
    shown = facet("sql", "SELECT count(*) AS faces FROM release_faces WHERE NOT active", "--format", "csv")
    assert shown.stdout.split() == ["faces", "2"]
    assert check_folder(tmp_path / "again" / "releases" / own).name == "default"


WRONG = [
    (("rekognition-video-1.json",), "video", "all 1 files have a NextToken"),
    (("rekognition-image.json",), "video", "takes a file of the kind image"),
    (("google.json",), "image", "takes a file of the kind video"),
    (("google.json", "azure.json"), "video", "of azure, google, expected one service"),
    (("rekognition-image.json", "rekognition-image.json"), "image", "2 files hold FaceDetails"),
    (("rekognition-persons.json", "rekognition-video-2.json"), "video", "expected one of them"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case[2])
def test_files_that_do_not_belong_together_are_refused(facet, ask, image, video, case):
    names, media, message = case
    path = {"image": image, "video": video}[media]
    done = facet("import-json", *(RESULTS / name for name in names), "--media", path)
    assert message in str(done.exception), done.output
    assert ask("SELECT count(*) FROM media_file") == [(0,)]


BROKEN = [
    ("rekognition-image.json", '"Left": 0.125', '"Left": "0.125"', "FaceDetails.0.BoundingBox.Left: .*found '0.125'"),
    ("rekognition-image.json", '"Value": "Female"', '"Value": "F"', "Gender.Value: .*found 'F'"),
    ("rekognition-image.json", '"CALM"', '"BORED"', None),
    ("rekognition-image.json", '"HAPPY"', '"GLAD"', "emotion 'GLAD' is unknown"),
    ("rekognition-image.json", '"FaceDetails"', '"Face"', "has the keys Face, ResponseMetadata, expected one of"),
    ("rekognition-video-2.json", "SUCCEEDED", "IN_PROGRESS", "JobStatus is IN_PROGRESS, expected SUCCEEDED"),
    ("rekognition-video-2.json", '"Timestamp": 500', '"Timestamp": 90000', "reach to 90 s, and .* ends at 8 s"),
    ("google.json", '"1.500s"}', '"1.5"}', "endTimeOffset: .*found '1.5'"),
    ("google.json", '"/bucket/video.mp4",\n        "person', '"/bucket/b.mp4",\n        "person', "expected one video"),
    ("azure.json", '"0:00:01.5"', '"1.5"', "instances.0.end: .*found '1.5'"),
    ("azure.json", "Processed", "Failed", "state of the video is Failed"),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case[0]} {case[2]}")
def test_a_file_of_another_shape_is_refused(facet, tmp_path, image, video, case):
    name, old, new, message = case
    content = (RESULTS / name).read_text(encoding="utf-8")
    assert old in content
    changed = tmp_path / "changed.json"
    changed.write_text(content.replace(old, new), encoding="utf-8")
    done = facet("import-json", changed, "--media", image if "image" in name else video)
    if message is None:  # only the likeliest emotion is read
        assert done.exit_code == 0, done.output
    else:
        assert re.search(message, str(done.exception)), done.exception


def test_a_person_who_is_erased_goes_from_imported_results(imported, facet, ask, database, image):
    """A face at the place of the person goes; that of another place stays, and nothing more is taken in."""
    done = imported("rekognition-image.json", media=image)
    person = own_person(database, done["media_id"])
    erased = facet("forget", "--person", person, "--yes")
    assert erased.exit_code == 0, erased.output
    assert ask("SELECT x1, release FROM release_faces") == [(-25, done["release"])]
    again = facet("import-json", RESULTS / "rekognition-image.json", "--media", image, "--model-version", "8")
    assert "was erased, so no results of it are taken in" in str(again.exception)


def test_times_without_boxes_go_with_a_person_who_was_in_view_then(imported, facet, ask, database, video):
    person = own_person(database, imported("azure.json", media=video)["media_id"], at=2.5)
    erased = facet("forget", "--person", person, "--yes")
    assert erased.exit_code == 0, erased.output
    assert ask("SELECT start_seconds, end_seconds FROM release_appearances") == [(0, 1.5)]


def test_a_track_goes_whole_with_one_face_of_an_erased_person(imported, facet, ask, database, video):
    """Nothing shows whose its other faces are; the track of another place stays."""
    media_id = imported("google.json", media=video)["media_id"]
    kept = imported("rekognition-persons.json", media=video)["release"]
    with database.sessions.begin() as session:
        google = "SELECT face_id FROM release_faces WHERE release LIKE 'google%' AND at_seconds = 0"
        move = f"UPDATE face SET x1 = 60, y1 = 50, x2 = 150, y2 = 150 WHERE face_id IN ({google})"
        session.execute(text(move))
    person = own_person(database, media_id)
    erased = facet("forget", "--person", person, "--yes")
    assert erased.exit_code == 0, erased.output
    assert ask("SELECT DISTINCT release FROM release_faces") == [(kept,)]
    assert ask("SELECT release, face_count FROM release_appearances") == [(kept, 2)]
