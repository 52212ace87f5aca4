"""Lists of names as spreadsheets write them."""

from __future__ import annotations

import pytest

from worker.cli.people.name_list import read_name_list
from worker.errors import UsageError


def rows(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "names.csv"
    path.write_bytes(content.encode(encoding))
    return [(row.line, row.key, row.is_appearance, row.name, row.reason) for row in read_name_list(path)]


@pytest.mark.parametrize(
    "content",
    [
        "person_id,name\n3,Zoë\n7,Ada\n",
        "Name;Person_ID\r\nZoë;3\r\nAda;7\r\n",
        "person\tname\n3\tZoë\n\n7\tAda",
        "3,Zoë\n7,Ada\n",
    ],
)
def test_separators_order_and_headers(tmp_path, content):
    found = rows(tmp_path, content)
    assert [(key, name) for _, key, _, name, _ in found] == [("3", "Zoë"), ("7", "Ada")]


def test_lines_without_a_name_are_left_out_and_lines_keep_their_numbers(tmp_path):
    content = 'appearance_id,name,reason\n1,,\n2,"Hopper, Grace",caption\n3\n4, Ada ,\n'
    assert rows(tmp_path, content, "utf-8-sig") == [
        (3, "2", True, "Hopper, Grace", "caption"),
        (5, "4", True, "Ada", None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("who,name\n3,Ada\n", "has the columns who, name; expected a header"),
        ("person_id,appearance_id,name\n3,4,Ada\n", "expected a header"),
        ("person_id,reason\n3,Ada\n", "expected a header"),
        ("person_id,name\nAda,3\n", "line 2 has person_id 'Ada', expected a number"),
        ("person,name\n,Ada\n", "line 2 has person ''"),
        ("person,name\n3,Hopper, Grace\n", "line 2 has 3 cells, expected 2"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        rows(tmp_path, content)


def test_other_encodings_and_missing_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="store it as CSV UTF-8"):
        rows(tmp_path, "person,name\n3,Zoë\n", "latin-1")
    with pytest.raises(UsageError, match="cannot be read"):
        read_name_list(tmp_path / "missing.csv")
