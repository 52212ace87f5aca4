"""Releases and their layers: what two of them share, what the history keeps, and what becomes of a retired one."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.face_rows import strip_name
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import AttemptFailed, LeaseLostError, ReleaseRetiredError, UsageError
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder
from worker.ledger.releases import Switch, activate_release, active_release, find_active, read_ids, register_release
from worker.storage.crops import CropStore

HISTORY = "SELECT action, release_id, from_release_id, reason, who FROM release_history ORDER BY history_id"


def ask(archive, query):
    with archive.sessions.begin() as session:
        return [tuple(row) for row in session.execute(text(query))]


def retire(archive, release_id):
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE release SET retired_at = now() WHERE release_id = :id"), {"id": release_id})


@pytest.mark.parametrize("part", ["detector", "trunk", "age"])
def test_releases_share_the_layers_below_the_part_that_differs(archive, part):
    ours, other = archive.ids, archive.register("other", **{part: "retrained"})
    assert other.release_id != ours.release_id
    assert (other.finder_id == ours.finder_id) == (part != "detector")
    assert (other.trunk_id == ours.trunk_id) == (part == "age")
    same = {task for task, reading in other.readings.items() if reading == ours.readings[task]}
    assert same == ({"gender", "ethnicity", "emotion", "attributes"} if part == "age" else set())
    layers = ask(archive, "SELECT kind, count(*) FROM layer GROUP BY kind ORDER BY kind")
    new = {"detector": (1, 5, 5, 1), "trunk": (0, 5, 5, 1), "age": (0, 1, 1, 0)}[part]
    assert layers == [(kind, before + more) for (kind, before), more in zip(
        (("finder", 1), ("head", 5), ("reading", 5), ("trunk", 1)), new, strict=True)]  # fmt: skip
    assert len(ask(archive, "SELECT FROM trunk_state")) == 1 + new[3]


def test_each_layer_stands_on_the_one_below(archive):
    lines = ask(
        archive,
        """SELECT o.task, t.kind, f.kind, h.labels, g.labels, g.spec ? 'temperature', o.head_id = h.layer_id
           FROM release_reading o JOIN layer g ON g.layer_id = o.reading_id JOIN layer h ON h.layer_id = g.parent_id
           JOIN layer t ON t.layer_id = h.parent_id JOIN layer f ON f.layer_id = t.parent_id ORDER BY 1""",
    )
    assert [line[0] for line in lines] == ["age", "attributes", "emotion", "ethnicity", "gender"]
    assert {line[1:3] for line in lines} == {("trunk", "finder")}
    assert lines[-1][3:] == (["female", "male"], None, True, True)


def test_a_release_that_is_known_keeps_its_numbers(archive):
    before = ask(archive, HISTORY)
    assert archive.register("renamed") == archive.ids
    assert ask(archive, HISTORY) == before
    with archive.sessions.begin() as session:
        assert read_ids(session, archive.release_id) == find_active(session) == archive.ids
        assert active_release(session) == (archive.ids, "test")


def test_the_history_keeps_what_was_registered_and_activated(archive):
    other = archive.register("other", age="retrained")
    with archive.sessions.begin() as session:
        assert activate_release(session, "other", Switch(reason="better ages")) == "other"
        assert activate_release(session, str(other.release_id)) == "other"
    with archive.sessions.begin() as session:
        assert find_active(session) == other
    ours, theirs = archive.release_id, other.release_id
    rows = ask(archive, HISTORY)
    assert [row[:4] for row in rows] == [
        ("register", ours, None, None),
        ("activate", ours, None, "the first release"),
        ("register", theirs, None, None),
        ("activate", theirs, ours, "better ages"),
    ]
    assert all("@" in row[4] for row in rows)


def test_a_retired_release_is_neither_served_nor_shown(archive):
    other = archive.register("other", age="retrained")
    retire(archive, other.release_id)
    with archive.sessions.begin() as session:
        with pytest.raises(UsageError, match=r"release other .* was retired"):
            activate_release(session, "other")
        with pytest.raises(UsageError, match="set FACET_RELEASE to another one"):
            register_release(session, archive.manifest("other", age="retrained"))


def leased(archive):
    with archive.sessions.begin() as session:
        return ledger.lease_units(session, archive.lease(), 1)


def test_no_unit_of_a_retired_release_is_leased(archive):
    archive.add()
    retire(archive, archive.release_id)
    assert leased(archive) == []


def test_a_late_result_of_a_retired_release_is_refused(archive):
    archive.add()
    (unit,) = leased(archive)
    retire(archive, archive.release_id)
    with archive.sessions() as session, pytest.raises(ReleaseRetiredError, match="release test of unit 1 was retired"):
        ledger.finish_unit(session, unit, "done")
    with archive.sessions() as session, pytest.raises(LeaseLostError, match="retired"):
        ledger.fail_unit(session, unit, "crashed", max_attempts=1)
    assert ask(archive, "SELECT state FROM unit") == [("leased",)]


def test_a_worker_drops_the_result_of_a_retired_release_with_its_crops(archive):
    archive.add()
    archive.add()
    crops = CropStore("memory://retired")
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        first, second = leases.take(2)
        with Writer(WriterContext(archive.sessions, leases, crops, archive.ids, {}, 3)) as writer:
            writer.store(UnitResult(unit=first, frame_count=1, faces=(a_face(),)))
            writer.wait()
            retire(archive, archive.release_id)
            writer.add_crops(second, 0, np.zeros((1, 8, 8, 3), np.uint8))
            writer.store(UnitResult(unit=second, frame_count=1, faces=(a_face(),)))
            writer.wait()
        assert len(leases) == 0
    assert ask(archive, "SELECT unit_id FROM face") == [(first.unit_id,)]
    assert crops.find(strip_name(second, 0)) == []


def a_face():
    return StoredFaces(
        frame_index=np.zeros(1, np.int64),
        at_seconds=np.zeros(1),
        boxes=np.array([[0, 0, 9, 9]], np.float32),
        landmarks=np.full((1, 5, 2), 4, np.float32),
        scores=np.ones(1, np.float32),
        quality=np.ones(1, np.float32),
        dropped=("profile",),
    )


def test_a_release_is_retired_after_the_results_that_are_being_stored(archive):
    archive.add()
    (unit,) = leased(archive)
    with archive.sessions() as storing:
        ledger.finish_unit(storing, unit, "done")
        with archive.sessions() as session:
            session.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                session.execute(text("UPDATE release SET retired_at = now()"))
        storing.commit()
    retire(archive, archive.release_id)
    assert ask(archive, "SELECT state FROM unit") == [("done",)]


def test_a_failed_attempt_of_a_retired_release_is_no_failure_of_the_worker(archive):
    archive.add()
    with LeaseHolder(archive.sessions, archive.lease(max_attempts=1)) as leases:
        (unit,) = leases.take(1)
        retire(archive, archive.release_id)
        with Writer(WriterContext(archive.sessions, leases, CropStore(""), archive.ids, {}, 1)) as writer:
            writer.fail(UnitResult(unit=unit, error=AttemptFailed("timeout", "too slow")))
            writer.wait()
    assert ask(archive, "SELECT state FROM unit") == [("leased",)]
