"""The page over a real database with a small made archive, asked without a browser."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from worker.config import Settings
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.storage.crops import CropStore
from worker.web.access.doors import LocalDoor, ProxyDoor
from worker.web.app import build_app
from worker.web.desk import open_desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.responses import Response

    from worker.web.access.visitor import Role
    from worker.web.desk import Desk

PORT = 8750
HOST = f"127.0.0.1:{PORT}"
CROP_SIDE = 112


@dataclass
class Browser:
    """A client that sends the forms of the page as a browser without scripts does."""

    client: TestClient

    def get(self, path: str, status: int = 200, **options: object) -> Response:
        """Get a page; redirects are followed."""
        response = self.client.get(path, **options)
        assert response.status_code == status, (path, response.status_code, response.text[:2000])
        return response

    def token(self, path: str = "/ask") -> str:
        """Return the token of the forms of a page."""
        return re.search(r'"X-CSRF-Token": "([0-9a-f]{64})"', self.client.get(path).text)[1]

    def post(self, path: str, fields: dict[str, object], status: int = 200, **options: object) -> Response:
        """Send a form with its token; redirects are followed."""
        data = {"csrf": self.token(), "back": "/people"} | fields
        response = self.client.post(path, data=data, **options)
        assert response.status_code == status, (path, response.status_code, response.text[:2000])
        return response


def add_crops(session, store: CropStore) -> None:
    """Store a crop of one colour for each face that has none: its number makes the colour."""
    units = session.execute(
        text("""SELECT unit_id, array_agg(face_id ORDER BY face_id) AS faces FROM face
                WHERE dropped_reason IS NULL AND crop_index IS NULL GROUP BY unit_id""")
    ).all()
    for unit in units:
        name = f"00/{unit.unit_id}.png"
        colours = np.array([((37 * one) % 256, (91 * one) % 256, (13 * one) % 256) for one in unit.faces], np.uint8)
        store.write(name, np.tile(colours[:, None, None], (1, CROP_SIDE, CROP_SIDE, 1)))
        session.execute(
            text("INSERT INTO crop_strip (unit_id, strip_no, uri) VALUES (:u, 0, :name)"),
            {"u": unit.unit_id, "name": name},
        )
        session.execute(
            text("""UPDATE face SET strip_no = 0, crop_index = n - 1
                    FROM unnest(cast(:faces AS bigint[])) WITH ORDINALITY AS f (id, n) WHERE face_id = f.id"""),
            {"faces": unit.faces},
        )


@pytest.fixture
def web_settings(clean_database: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=clean_database)


@pytest.fixture
def people(crowd, web_settings: Settings):
    """Four made people: three in three photos each, the fourth in one; with crops."""
    for _ in range(3):
        crowd.photo(0, 1, 2)
    crowd.photo(3)
    lock_people(crowd.session)
    identify_pending(crowd.session, Gallery(crowd.trunk_id))
    add_crops(crowd.session, CropStore(web_settings.crops))
    crowd.session.commit()
    return crowd


@pytest.fixture
def desk(web_settings: Settings) -> Iterator[Desk]:
    with open_desk(web_settings) as opened:
        yield opened


@pytest.fixture
def door() -> LocalDoor:
    return LocalDoor(PORT)


@pytest.fixture
def stranger(desk: Desk, door: LocalDoor) -> Iterator[TestClient]:
    """A client without a cookie."""
    with TestClient(build_app(desk, door), base_url=f"http://{HOST}") as client:
        yield client


@pytest.fixture
def browser(stranger: TestClient, door: LocalDoor) -> Browser:
    """A client that has opened the printed link; take ``people`` before it for an archive with people."""
    stranger.get(f"/health?token={door.token}")
    stranger.get(f"/?token={door.token}", follow_redirects=False)
    return Browser(stranger)


@pytest.fixture
def as_role(desk: Desk):
    """Return a context with a client whom a proxy has named: ``with as_role(Role.READER) as browser``."""

    @contextmanager
    def opened(role: Role, user: str = "ada") -> Iterator[Browser]:
        door = ProxyDoor(b"k" * 32, (ip_network("10.0.0.0/8"),), "x-user", "x-groups", {"these": role})
        client = TestClient(
            build_app(desk, replace(door)),
            base_url="http://facet.example",
            client=("10.1.2.3", 40000),
            headers={"x-user": user, "x-groups": "others, these"},
        )
        with client:
            yield Browser(client)

    return opened
