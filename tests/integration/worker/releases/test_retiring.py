"""A retired release leaves an archive as if it had never been there; nothing of the others is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from db.schema.totals import count_people
from models.release import DEFAULT
from tests.integration.worker.conftest import made_manifest
from worker.config import Settings
from worker.deployment.tasks import Upkeep
from worker.errors import UsageError
from worker.identity.gallery import Gallery
from worker.identity.identifier import identify_pending
from worker.ledger.releases import Switch, activate_release, find_release, register_release
from worker.releases import own_rows, retiring
from worker.releases.consistency import find_contradictions
from worker.releases.folders import ReleaseFolders
from worker.releases.records import read_release_history
from worker.releases.registering import register_folder
from worker.releases.retiring import RetireOptions, continue_retirements, due_retirements, retire
from worker.storage.crops import CropStore
from worker.storage.database import Database

TABLES = (
    "media_file", "analysis", "unit", "face", "crop_strip", "scene_cut", "face_embedding", "prediction", "appearance",
    "appearance_prediction", "person", "person_embedding", "person_total", "person_reading", "person_alike",
    "person_change", "trunk_state", "job", "job_item", "correction",
)  # fmt: skip


@pytest.fixture
def folders(archive, tmp_path):
    return ReleaseFolders(Settings(home=tmp_path / "home", device="cpu"), archive.sessions)


@pytest.fixture
def seen(crowd, folders):
    """An archive of photos with people and all answers of the first release."""
    for somebody in range(8):
        crowd.photo(somebody, (somebody + 1) % 8)
    crowd.photo(*range(5))
    identify(crowd, crowd.release)
    answer(crowd, crowd.release)
    write_crops(crowd, crowd.release, folders)
    crowd.session.commit()
    return crowd


def identify(crowd, release):
    gallery = Gallery(release.trunk_id)
    while identify_pending(crowd.session, gallery, suspects=False):
        pass


def answer(crowd, release, tasks=None):
    """Write the answers of a release for all faces of its finder, and for its appearances."""
    for task, reading in release.readings.items():
        if tasks is None or task in tasks:
            crowd.session.execute(
                text("""INSERT INTO prediction (face_id, reading_id, label, confidence, scores)
                        SELECT face_id, :reading, 'x', 0.5, '\\x0001'::bytea FROM face JOIN analysis USING (analysis_id)
                        WHERE finder_id = :finder ON CONFLICT DO NOTHING"""),
                {"reading": reading, "finder": release.finder_id},
            )
            crowd.session.execute(
                text("""INSERT INTO appearance_prediction (appearance_id, reading_id, label, confidence)
                        SELECT appearance_id, :reading, 'x', 0.5 FROM appearance WHERE trunk_id = :trunk
                        ON CONFLICT DO NOTHING"""),
                {"reading": reading, "trunk": release.trunk_id},
            )
    count_people(crowd.session)


def embed(crowd, release):
    """Write an embedding and an appearance under another trunk for all faces of the finder."""
    faces = crowd.session.execute(
        text("""SELECT face_id, f.analysis_id, a.media_id FROM face f JOIN analysis a USING (analysis_id)
                WHERE finder_id = :finder ORDER BY 1"""),
        {"finder": release.finder_id},
    ).all()
    for number, row in enumerate(faces):
        vector = np.random.default_rng(row.face_id).standard_normal(128)
        crowd.session.execute(
            text("""WITH s AS (INSERT INTO appearance (analysis_id, media_id, trunk_id, ordinal, start_seconds,
                                   end_seconds, face_count, best_face_id, quality, embedding)
                               VALUES (:analysis, :media, :trunk, :n, 0, 1, 1, :face, 0.5, cast(:vector AS vector))
                               RETURNING appearance_id)
                    INSERT INTO face_embedding (face_id, trunk_id, appearance_id, embedding)
                    SELECT :face, :trunk, appearance_id, cast(:vector AS vector) FROM s"""),
            {"analysis": row.analysis_id, "media": row.media_id, "trunk": release.trunk_id, "n": number,
             "face": row.face_id, "vector": str((vector / np.linalg.norm(vector)).tolist())},
        )  # fmt: skip


def write_crops(crowd, release, folders):
    """Write a strip of crops for each unit of a release."""
    strips = crowd.session.execute(
        text("""INSERT INTO crop_strip (unit_id, strip_no, uri)
                SELECT unit_id, 0, left(sha256, 2) || '/' || sha256 || '/' || analysis_id || '/0-1-0.png'
                FROM unit JOIN analysis USING (analysis_id) JOIN media_file USING (media_id)
                WHERE release_id = :r RETURNING uri"""),
        {"r": release.release_id},
    )
    store = CropStore(folders.config.crops)
    for (uri,) in strips:
        store.write(uri, np.zeros((1, 8, 8, 3), np.uint8))


def folders_of_crops(folders):
    return {path.parent for path in (folders.config.home / "crops").rglob("*.png")}


def rows(crowd, tables=TABLES):
    with crowd.archive_sessions.begin() as session:
        return {table: sorted(session.scalars(text(f"SELECT t::text FROM {table} t"))) for table in tables}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Every step takes several transactions."""
    monkeypatch.setattr(own_rows, "FACES_PER_DELETE", 4)
    monkeypatch.setattr(own_rows, "APPEARANCES_PER_DELETE", 3)
    monkeypatch.setattr(own_rows, "ANALYSES_PER_DELETE", 2)


@pytest.fixture
def other(seen, archive, folders, request):
    """Return the archive before another release came, and that release with all of its rows."""
    seen.__dict__["archive_sessions"] = archive.sessions
    before = rows(seen)
    part = request.param
    if part == "reading":
        manifest = made_manifest("other")
        branches = tuple(replace(s, abstain=0.9) if s.task == "gender" else s for s in manifest.branches)
        release = register_release(seen.session, replace(manifest, branches=branches))
    else:
        release = seen.register("other", **{part: "retrained"})
    if part == "detector":
        for media_id in list(seen.files):
            seen.analyse(media_id, release=release)
        write_crops(seen, release, folders)
        identify(seen, release)
    elif part == "trunk":
        embed(seen, release)
        identify(seen, release)
    answer(seen, release)
    seen.session.commit()
    return before, release


ALL = pytest.mark.parametrize("other", ["reading", "age", "trunk", "detector"], indirect=True)


def accounting(tables):
    """The rows without the analyses and units of the retired finder, which stay as the accounting of jobs."""
    return {table: found for table, found in tables.items() if table not in {"analysis", "unit"}}


@ALL
def test_the_archive_is_as_if_it_had_never_been(seen, other, folders, archive):
    before, release = other
    assert rows(seen) != before
    done = retire(folders, "other", RetireOptions(reason="old"))
    assert done.is_complete
    assert sum(done.rows.values()) > 0
    after = rows(seen)
    assert accounting(after) == accounting(before)
    new = set(after["analysis"]) - set(before["analysis"])
    with archive.sessions.begin() as session:
        left = session.execute(
            text("""SELECT count(*), bool_and(retired AND NOT is_current AND state = 'done') FROM analysis
                    WHERE finder_id = :finder AND finder_id <> :ours"""),
            {"finder": release.finder_id, "ours": archive.ids.finder_id},
        ).one()
        assert left == ((len(new), True) if new else (0, None))
        assert done.crops == len(new)
        assert len(folders_of_crops(folders)) == len(before["crop_strip"])
        (entry,) = [one for one in read_release_history(session, release.release_id) if one.action == "retire"]
        assert entry.reason == "old"
    again = retire(folders, "other")
    assert (again.rows, again.is_complete) == (done.rows, True)
    assert due_retirements(archive.sessions) == []


@ALL
def test_interrupted_it_goes_on_where_it_stopped(seen, other, folders, archive, monkeypatch):
    before, release = other
    steps = []

    def step(session, release_id):
        steps.append(retiring_step(session, release_id=release_id))
        if len(steps) == 3:
            raise KeyboardInterrupt
        return steps[-1]

    retiring_step = retiring._step
    monkeypatch.setattr(retiring, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        retire(folders, "other")
    monkeypatch.setattr(retiring, "_step", retiring_step)
    assert due_retirements(archive.sessions) == [release.release_id]
    with pytest.raises(UsageError, match="was retired"), archive.sessions.begin() as session:
        activate_release(session, "other")
    assert continue_retirements(folders, seconds=0.0) == 1  # nothing in no time
    assert continue_retirements(folders, seconds=60.0) == 0
    assert accounting(rows(seen)) == accounting(before)


@pytest.mark.parametrize("other", ["reading"], indirect=True)
def test_scores_stay_as_long_as_a_reading_of_their_head_does(seen, other, folders, archive):
    """Scores stand in one row per face and head; here half of them in rows of the reading that goes."""
    _, release = other
    ours, theirs = archive.ids.readings["gender"], release.readings["gender"]
    with archive.sessions.begin() as session:
        update = text("UPDATE prediction SET scores = NULL WHERE reading_id = :r AND face_id % 2 = :half")
        session.execute(update, {"r": ours, "half": 0})
        session.execute(update, {"r": theirs, "half": 1})
    retire(folders, "other")
    with archive.sessions.begin() as session:
        counts = session.execute(
            text("SELECT count(*), count(scores) FROM prediction WHERE reading_id = :r"), {"r": ours}
        ).one()
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("other", ["reading"], indirect=True)
def test_scores_that_the_release_that_stays_did_not_read_yet_are_kept(seen, other, folders, archive):
    """Half of the faces were analysed under the release that goes alone; their crops may be gone."""
    _, release = other
    ours, theirs = archive.ids.readings["gender"], release.readings["gender"]
    with archive.sessions.begin() as session:
        session.execute(text("DELETE FROM prediction WHERE reading_id = :r AND face_id % 2 = 0"), {"r": ours})
        unread = sorted(session.scalars(text("SELECT face_id FROM face WHERE face_id % 2 = 0")))
    retire(folders, "other")
    query = text("SELECT face_id FROM prediction WHERE reading_id = :r AND scores IS NOT NULL ORDER BY 1")
    with archive.sessions.begin() as session:
        assert list(session.scalars(query, {"r": theirs})) == unread
        assert not set(session.scalars(query, {"r": ours})) & set(unread)
        assert [one for one in find_contradictions(session, folders.store) if "rows" in one] == []
    seen.register("later", age="again")  # with the head of gender that both have
    seen.session.commit()
    with archive.sessions.begin() as session:
        activate_release(session, "later")
    retire(folders, "test")
    with archive.sessions.begin() as session:
        assert list(session.scalars(query, {"r": theirs})) == unread, "the later one has the head, too"
        assert find_release(session, "later").active


@pytest.mark.parametrize("other", ["reading"], indirect=True)
def test_scores_go_with_the_last_release_that_has_their_head(seen, other, folders, archive):
    _, release = other
    ours, theirs = archive.ids.readings["gender"], release.readings["gender"]
    with archive.sessions.begin() as session:
        session.execute(text("DELETE FROM prediction WHERE reading_id = :r"), {"r": ours})
    seen.register("later", gender="again")
    seen.session.commit()
    retire(folders, "other")
    with archive.sessions.begin() as session:
        count = text("SELECT count(*) FROM prediction WHERE reading_id = :r")
        assert session.execute(count, {"r": theirs}).scalar_one() > 0
        activate_release(session, "later")
    retire(folders, "test")
    with archive.sessions.begin() as session:
        assert session.execute(count, {"r": theirs}).scalar_one() == 0


@pytest.mark.parametrize("other", ["trunk", "detector"], indirect=True)
def test_the_same_parts_later_get_layers_of_their_own(seen, other, folders):
    _, release = other
    retire(folders, "other")
    part = "detector" if release.finder_id != seen.release.finder_id else "trunk"
    later = seen.register("later", **{part: "retrained"}, age="again")
    assert later.trunk_id not in {release.trunk_id, seen.release.trunk_id}
    assert (later.finder_id == seen.release.finder_id) == (part == "trunk")
    assert later.finder_id != release.finder_id or part == "trunk"


@pytest.mark.parametrize("other", ["trunk"], indirect=True)
def test_people_of_its_trunk_alone_go_but_for_names_and_corrections(seen, other, folders, archive):
    _, release = other
    with archive.sessions.begin() as session:
        people = list(
            session.scalars(text("INSERT INTO person (name) VALUES (NULL), (NULL), ('Ada') RETURNING person_id"))
        )
        session.execute(
            text("""INSERT INTO person_embedding (person_id, trunk_id, revision)
                    SELECT unnest(cast(:people AS bigint[])), :t, 1"""),
            {"people": people, "t": release.trunk_id},
        )
        session.execute(
            text("INSERT INTO correction (release_id, kind, people) VALUES (:r, 'not', ARRAY[cast(:p AS bigint)])"),
            {"r": release.release_id, "p": people[1]},
        )
    retire(folders, "other")
    with archive.sessions.begin() as session:
        left = session.scalars(text("SELECT person_id FROM person WHERE person_id = ANY(:ids)"), {"ids": people})
        assert set(left) == set(people[1:])


def test_the_active_one_and_one_with_open_units_are_refused(archive, folders):
    other = archive.register("other", detector="another")
    first = archive.add(units=3)
    with pytest.raises(UsageError, match="is the active one"):
        retire(folders, "active")
    with archive.sessions.begin() as session:
        activate_release(session, "other")
    with pytest.raises(UsageError, match=r"files wait for release test \(1\).*--force"):
        retire(folders, "previous")
    done = retire(folders, "previous", RetireOptions(force=True))
    assert (done.cancelled, done.is_complete) == (3, True)
    with archive.sessions.begin() as session:
        assert set(session.scalars(text("SELECT state FROM unit"))) == {"cancelled"}
        state, reason = session.execute(
            text("SELECT state, reason FROM analysis WHERE analysis_id = :id"), {"id": first}
        ).one()
        assert (state, reason) == ("cancelled", "cancelled: release test was retired")
        sums = session.execute(
            text("SELECT submitted, done + rejected + quarantined + cancelled + pending, cancelled FROM jobs")
        ).one()
        assert tuple(sums) == (1, 1, 1)
        assert find_release(session, "active").release_id == other.release_id
    with pytest.raises(UsageError, match="no release is the previous one"):
        retire(folders, "previous")


def test_later_means_later_unless_it_is_activated(archive, folders):
    archive.register("other", age="another")
    planned = retire(folders, "other", RetireOptions(keep_days=30, reason="in a month"))
    assert planned.retire_at is not None
    assert not planned.is_complete
    assert due_retirements(archive.sessions) == []

    def pass_time():
        with archive.sessions.begin() as session:
            session.execute(text("UPDATE release SET retire_at = now() - interval '1 second' WHERE retire_at > now()"))

    with archive.sessions.begin() as session:
        activate_release(session, "other", Switch(reason="needed again"))
    pass_time()
    assert due_retirements(archive.sessions) == []
    with archive.sessions.begin() as session:
        activate_release(session, "test")
    retire(folders, "other", RetireOptions(keep_days=30, reason="in a month"))
    pass_time()
    (due,) = due_retirements(archive.sessions)
    assert continue_retirements(folders, seconds=60.0) == 0
    with archive.sessions.begin() as session:
        assert find_release(session, str(due), or_retired=True).retired_at is not None
        assert [one.reason for one in read_release_history(session, due) if one.action == "retire"] == ["in a month"]


@pytest.mark.parametrize("other", ["age"], indirect=True)
def test_upkeep_retires_what_is_due(seen, other, folders, archive):
    before, _ = other
    upkeep = Upkeep(None, folders.config)
    database = Database("", archive.sessions.kw["bind"], archive.sessions)
    retire(folders, "other", RetireOptions(keep_days=1))
    upkeep.retire_due(database)
    assert rows(seen) != before
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE release SET retire_at = now() WHERE retire_at > now()"))
    upkeep.retire_due(database)
    assert rows(seen) == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_store_loses_the_folder_of_a_retired_release(archive, folders, make_variant):
    folders.store.put(DEFAULT)
    done = register_folder(folders, make_variant("mine", abstain=0.9))
    size = folders.store.count_bytes(folders.find(done.release.release_id).store_name)
    retired = retire(folders, "mine")
    assert retired.store_bytes == size > 0
    assert len(folders.store.names()) == 1
