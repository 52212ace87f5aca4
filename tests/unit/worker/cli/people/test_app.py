"""`facet people show`: the JSON says what the table says."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from worker.cli.people import app as people
from worker.identity.listing import ListedAppearance


@pytest.mark.parametrize("name", ["Ada Lovelace", None])
def test_json_has_number_and_name_of_the_person(capsys, monkeypatch, name):
    seen = ListedAppearance(
        appearance_id=41, uri="/film.mp4", start_seconds=61.5, end_seconds=90.0, face_count=12, age=38.0,
        gender="female", emotion=None,
    )  # fmt: skip
    monkeypatch.setattr(people, "transaction", nullcontext)
    monkeypatch.setattr(people, "find_person", lambda *_: 3)
    monkeypatch.setattr(people, "read_appearances", lambda *_: [seen])
    monkeypatch.setattr(people, "name_of", lambda *_: name)
    people.show("3", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["person_id"], row["name"], row["appearance_id"], row["emotion"]) == (3, name, 41, None)
