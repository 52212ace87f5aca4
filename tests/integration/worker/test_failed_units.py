"""The outcome of each attempt: rows of the unit, and the count in the metrics."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.analysis.results import UnitResult
from worker.analysis.store import writer as store
from worker.errors import DecoderCrashed, MediaChanged, MediaRejected, MediaUnreachable
from worker.ledger.leases import LeaseHolder
from worker.storage.crops import CropStore

CRASH = DecoderCrashed("crashed", "killed by signal 11")


@pytest.mark.parametrize(
    ("error", "frames", "max_attempts", "expected"),
    [
        (None, 3, 2, (("done", 1, None), ("done", None))),
        (MediaRejected("corrupt", "cut"), 3, 2, (("done", 1, "read in part, from 0 s 3 sampled frames: corrupt: cut"),
         ("done", "corrupt"))),
        (MediaRejected("corrupt", "cut"), 0, 2, (("rejected", 1, "corrupt: cut"), ("rejected", "corrupt"))),
        (MediaChanged("other bytes"), 3, 2, (("rejected", 1, "changed: other bytes"), ("rejected", "changed"))),
        (CRASH, 3, 2, (("pending", 1, "crashed: killed by signal 11"), ("failed", "crashed"))),
        (CRASH, 3, 1, (("quarantined", 1, "crashed: killed by signal 11"), ("quarantined", "crashed"))),
        (MediaUnreachable("/nas", "gone"), 0, 1, (("pending", 0, None), ("left",))),
    ],
)  # fmt: skip
def test_an_attempt_ends_as_its_error_has_it(archive, monkeypatch, error, frames, max_attempts, expected):
    row, counted = expected
    counts = []
    monkeypatch.setattr(store.metrics, "count_unit", lambda *outcome: counts.append(outcome))
    archive.add()
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        crops = CropStore("memory://failed")
        context = store.WriterContext(archive.sessions, leases, crops, archive.release_id, {}, max_attempts)
        with store.Writer(context) as writer:
            assert writer.seconds == 0.0
            (unit,) = leases.take(1)
            is_lost = isinstance(error, MediaUnreachable | MediaChanged | DecoderCrashed)
            (writer.fail if is_lost else writer.store)(UnitResult(unit=unit, frame_count=frames, error=error))
            writer.wait()
            assert writer.seconds > 0.0
        assert len(leases) == 0
    with archive.sessions.begin() as session:
        found = tuple(session.execute(text("SELECT state, attempts, last_error FROM unit")).one())
    assert found[:2] == row[:2]
    assert found[2] == row[2] or (row[2] is None and str(found[2]).startswith("away: /nas"))
    assert counts == [counted]
