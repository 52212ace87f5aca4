"""Errors by group are those of the model card, and shown for the weights that were measured alone."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

from worker.web.pages.report.groups import WEIGHTS, group_errors

ROOT = Path(__file__).resolve().parents[6]


def manifest_files():
    return json.loads((ROOT / "models/releases/default/release.json").read_text())["files"]


def test_they_are_those_of_the_model_card():
    card = (ROOT / "docs/model-card.md").read_text()
    rows = group_errors(manifest_files())
    assert len(rows) == 11
    for row in rows:
        assert f"| {' | '.join(map(str, astuple(row)))} |" in card


def test_another_release_has_none():
    for name in WEIGHTS:
        assert group_errors(manifest_files() | {name: "0" * 64}) == ()
    assert group_errors({}) == ()
