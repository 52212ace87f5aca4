"""The same afternoon as on made people, on photos of the press: analysed by the model, corrected by the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from tests.acceptance.web.conftest import FACET, environment
from tests.integration.worker.web.afternoon import Afternoon
from tests.integration.worker.web.conftest import HOST, PORT, Browser
from worker.config import Settings
from worker.web.access.doors import LocalDoor
from worker.web.app import build_app
from worker.web.desk import open_desk

if TYPE_CHECKING:
    from pathlib import Path

PEOPLE, PHOTOS = 40, 5
IMAGES = int(os.environ.get("FACET_TEST_PRESS_PHOTOS", PEOPLE * PHOTOS))
"""Photos that are analysed; with more than 200, those of people with fewer photos come besides."""


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Analyse photos of forty people with five photos each, and others; return the home."""
    folders = sorted((shared_data / "lfw" / "images").iterdir())
    known = [folder for folder in folders if len(list(folder.iterdir())) >= PHOTOS][:PEOPLE]
    photos = [photo for folder in known for photo in sorted(folder.iterdir())[:PHOTOS]]
    photos += [next(folder.iterdir()) for folder in folders if folder not in known][: max(0, IMAGES - len(photos))]
    home, archive = tmp_path_factory.mktemp("press") / "home", tmp_path_factory.mktemp("photos")
    for photo in photos:
        shutil.copy(photo, archive)
    subprocess.run([FACET, "analyze", str(archive)], env=environment(home), check=True, capture_output=True)
    return home


def who_is_shown(session) -> dict[int, object]:
    """Return who each appearance shows: the largest face of a photo is the person that the file is named after."""
    rows = session.execute(
        text("""SELECT a.appearance_id, m.uri,
                       row_number() OVER (PARTITION BY a.media_id ORDER BY (f.x2 - f.x1) * (f.y2 - f.y1) DESC) AS place
                FROM appearances a JOIN media m USING (media_id) JOIN faces f ON f.face_id = a.best_face_id""")
    )
    return {row.appearance_id: row.uri.rpartition("/")[2][:-9] if row.place == 1 else row.appearance_id for row in rows}


@pytest.mark.slow
def test_an_afternoon_of_corrections_holds_on_photos_of_the_press(press):
    with open_desk(Settings(home=press)) as desk:
        with desk.database.sessions() as session:
            truth = who_is_shown(session)
        counts = {somebody: list(truth.values()).count(somebody) for somebody in truth.values()}
        known = sorted(somebody for somebody in counts if isinstance(somebody, str) and counts[somebody] >= PHOTOS)
        assert len(known) >= PEOPLE - 4
        door = LocalDoor(PORT)
        with TestClient(build_app(desk, door), base_url=f"http://{HOST}") as client:
            client.get(f"/?token={door.token}", follow_redirects=False)
            afternoon = Afternoon(desk.database.sessions, Browser(client), truth, known)
            afternoon.work()
            done = subprocess.run([FACET, "people", "regroup", "--yes"], env=environment(press), check=False)
            assert done.returncode == 0
            afternoon.check()
