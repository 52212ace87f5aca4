"""A head of several labels, whatever its name: stored without a label, and shown with the probability of each."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import text

from models.branches import BranchSpec
from models.manifest import branch_file
from tests.integration.worker.conftest import HEADS, made_manifest
from worker.ledger import units as ledger
from worker.ledger.releases import register_release

GESTURES = BranchSpec(task="gestures", kind="multilabel", labels=("wink", "kiss", "yawn"), depths=("embedding",))
BRANCHES = (*HEADS, GESTURES)


def test_every_multi_label_head_has_probabilities_and_no_label(archive):
    made = made_manifest("gestures")
    manifest = replace(made, branches=BRANCHES, files=made.files | {branch_file("gestures"): "0" * 64})
    with archive.sessions.begin() as session:
        archive.ids = register_release(session, manifest)
        session.execute(text("UPDATE release SET active = false"))
        session.execute(text("UPDATE release SET active = true WHERE name = 'gestures'"))
    archive.add()
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(), 1)
        archive.store(session, archive.filled(BRANCHES, unit, 1))
        session.execute(text("UPDATE analysis SET state = 'done', is_current = true, finished_at = now()"))
        rows = session.execute(text("SELECT head, label, confidence, attributes FROM predictions")).all()
    shown = {row.head: row for row in rows}
    assert shown.keys() == {branch.task for branch in BRANCHES}
    several = {branch.task: set(branch.labels) for branch in BRANCHES if branch.kind == "multilabel"}
    assert {task: set(row.attributes) for task, row in shown.items() if row.attributes} == several
    assert several.keys() == {"attributes", "gestures"}
    for row in rows:
        assert (row.label is None) == (row.head in several or row.head == "age"), row.head
        assert (row.confidence is None) == (row.head in several or row.head == "age"), row.head
