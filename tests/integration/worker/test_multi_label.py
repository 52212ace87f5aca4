"""A head of several labels, whatever its name: stored without a label, and shown with the probability of each."""

from __future__ import annotations

from sqlalchemy import text

from tests.integration.worker.conftest import HEADS
from worker.ledger import units as ledger


def test_every_multi_label_head_has_probabilities_and_no_label(archive):
    archive.add()
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(), 1)
        archive.store(session, archive.filled(HEADS, unit, 1))
        session.execute(text("UPDATE analysis SET state = 'done', is_current = true, finished_at = now()"))
        rows = session.execute(text("SELECT head, label, confidence, attributes FROM predictions")).all()
    shown = {row.head: row for row in rows}
    assert shown.keys() == {branch.task for branch in HEADS}
    several = {branch.task: set(branch.labels) for branch in HEADS if branch.kind == "multilabel"}
    assert {task: set(row.attributes) for task, row in shown.items() if row.attributes} == several
    assert several.keys() == {"attributes", "gestures"}
    for row in rows:
        assert (row.label is None) == (row.head in several or row.head == "age"), row.head
        assert (row.confidence is None) == (row.head in several or row.head == "age"), row.head
