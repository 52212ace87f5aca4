"""A deployment with people, predictions, cuts, job items and crops, from which tests erase."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from db.base import Base
from worker.erasure.erase import Eraser
from worker.erasure.files import FileStores
from worker.identity.gallery import Gallery
from worker.identity.identifier import identify_pending
from worker.storage.crops import CropStore

CROP = 8
NUMBERED = ("media_file", "analysis", "unit", "face", "appearance", "person")
KEYS = {"media_file": "media_id"} | {name: f"{name}_id" for name in NUMBERED[1:]}


@dataclass
class House:
    """A crowd in a deployment, with predictions, cuts, job items and crops of all its faces."""

    crowd: object
    job_id: int
    stores: FileStores
    items: int = 0

    @property
    def session(self):
        return self.crowd.session

    def rows_of(self, table: str) -> set[str]:
        return set(self.session.scalars(text(f"SELECT t::text FROM {table} t")))

    def everything(self) -> dict[str, set[str]]:
        """Every row of every table, as text."""
        return {table.name: self.rows_of(str(table)) for table in Base.metadata.sorted_tables}

    def numbers_of(self, media_id: int) -> dict[str, set[int]]:
        """Numbers of the rows that hang on a file, by table."""
        found = {"media_file": {media_id}}
        for name in ("analysis", "face", "appearance", "unit"):
            table = f"{name} JOIN analysis USING (analysis_id)" if name in ("unit", "face") else name
            query = text(f"SELECT {KEYS[name]} FROM {table} WHERE media_id = :m")
            found[name] = set(self.session.scalars(query, {"m": media_id}))
        return found

    def mentions(self, numbers: dict[str, set[int]]) -> list[str]:
        """Return the columns that name one of some rows: by foreign keys of any table, and by names of columns."""
        found = []
        for table in Base.metadata.sorted_tables:
            for column in table.columns:
                targets = {key.column.table.name for key in column.foreign_keys}
                targets |= {name for name in NUMBERED if column.name.endswith(KEYS[name])}
                targets |= {"person"} if column.name == "people" else set()
                doomed = [number for name in targets for number in numbers.get(name, ())]
                held = "people && cast(:ids AS bigint[])" if column.name == "people" else f"{column.name} = ANY(:ids)"
                query = f"SELECT EXISTS (SELECT FROM {table} WHERE {held})"
                if doomed and self.session.execute(text(query), {"ids": doomed}).scalar_one():
                    found.append(f"{table.name}.{column.name}")
        return found

    @property
    def folder(self) -> Path:
        return Path(self.stores.crops.url)

    def photo(self, *people: int) -> int:
        return self.furnish(self.crowd.photo(*people))

    def film(self, *people: int) -> int:
        return self.furnish(self.crowd.film(*people))

    def furnish(self, media_id: int, release=None) -> int:
        """Add the rows that earlier stages write beside faces and appearances."""
        self.items += 1
        release = release or self.crowd.release
        analysis, unit, sha = self.session.execute(
            text("""SELECT analysis_id, unit_id, sha256 FROM unit JOIN analysis USING (analysis_id)
                    JOIN media_file USING (media_id) WHERE media_id = :m AND finder_id = :f ORDER BY 1 DESC LIMIT 1"""),
            {"m": media_id, "f": release.finder_id},
        ).one()
        name = f"{sha[:2]}/{sha}/{analysis}/0-0.png"
        values = {
            "analysis": analysis,
            "unit": unit,
            "media": media_id,
            "name": name,
            "n": self.items,
            "j": self.job_id,
        }
        for statement in (
            "INSERT INTO crop_strip (unit_id, strip_no, uri) VALUES (:unit, 0, :name)",
            "UPDATE face SET strip_no = 0, crop_index = frame_index WHERE analysis_id = :analysis",
            "INSERT INTO scene_cut (analysis_id, unit_id, at_seconds) VALUES (:analysis, :unit, 1)",
            """INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
               SELECT :j, :n, uri, media_id, :analysis FROM media_file WHERE media_id = :media""",
            """UPDATE unit SET face_count = (SELECT count(*) FROM face WHERE unit_id = :unit) WHERE unit_id = :unit""",
            """UPDATE analysis SET face_count = (SELECT count(*) FROM face WHERE analysis_id = :analysis)
               WHERE analysis_id = :analysis""",
        ):
            self.session.execute(text(statement), values)
        self.predict(media_id, release)
        count = len(self.crowd.files[media_id])
        self.stores.crops.write(name, self.pixels(media_id, count))
        return media_id

    def predict(self, media_id: int, release) -> None:
        """Add an age to the faces and appearances of a file under the reading of a release."""
        values = {"m": media_id, "age": release.readings["age"], "f": release.finder_id, "t": release.trunk_id}
        for statement in (
            """INSERT INTO prediction (face_id, reading_id, value)
               SELECT face_id, :age, 40 FROM face JOIN analysis USING (analysis_id)
               WHERE media_id = :m AND finder_id = :f AND is_current""",
            """INSERT INTO appearance_prediction (appearance_id, reading_id, value)
               SELECT appearance_id, :age, 40 FROM appearance JOIN analysis USING (analysis_id, media_id)
               WHERE media_id = :m AND finder_id = :f AND trunk_id = :t AND is_current""",
        ):
            self.session.execute(text(statement), {key: values[key] for key in values if f":{key}" in statement})

    @staticmethod
    def pixels(media_id: int, count: int) -> np.ndarray:
        return np.random.default_rng(media_id).integers(1, 255, (count, CROP, CROP, 3), np.uint8)

    def identify(self, release=None) -> None:
        known = Gallery((release or self.crowd.release).trunk_id)
        while identify_pending(self.session, known):
            pass
        self.session.commit()

    def strips(self) -> set[str]:
        root = self.folder
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def job(self) -> dict[str, int]:
        row = self.session.execute(
            text("SELECT submitted, done, rejected, quarantined, pending, erased FROM jobs")
        ).one()
        return dict(row._mapping)


@pytest.fixture
def house(crowd, archive, tmp_path):
    (tmp_path / "staging").mkdir()
    return House(crowd, archive.job_id, FileStores(CropStore(str(tmp_path / "crops")), tmp_path / "staging"))


@pytest.fixture
def eraser(house, archive):
    return Eraser(archive.sessions, house.stores, lock_wait_seconds=0.5)


@pytest.fixture
def people(house):
    """Three people in photos of their own, one photo with all of them, and one of a person who is in no other."""
    for _ in range(3):
        for somebody in range(3):
            house.photo(somebody)
    house.photo(0, 1, 2)
    house.photo(5)
    house.identify()
    together, alone = sorted(house.crowd.files)[-2:]
    who = house.crowd.who()
    return [who[together, n] for n in range(3)] + [who[alone, 0]]


@pytest.fixture
def crop_size() -> int:
    return CROP
