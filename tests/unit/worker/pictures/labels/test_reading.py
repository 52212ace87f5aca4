"""Labels come back from tables and from Label Studio; what no head has is named with its place."""

from __future__ import annotations

import json

import pytest

from worker.errors import UsageError
from worker.pictures.labels.reading import Label, read_answers

HEADS = {"gender": ("female", "male"), "age": ()}


def task(face, *answers, who=3, **more):
    results = [{"from_name": head, "value": value} for head, value in answers]
    return {"data": {"face_id": face}, "annotations": [{"completed_by": who, "result": results} | more]}


def read(tmp_path, text, name="ann.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_answers([tmp_path / name], HEADS)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read(tmp_path, separator):
    text = "\ufeffFace_id,uri,Gender,age\n7,/a,Female,34\n8,/b,?,\n9,/c,,41.5\n\n".replace(",", separator)
    assert read(tmp_path, text) == [
        Label(7, "gender", "female", "ann"), Label(7, "age", 34, "ann"), Label(9, "age", 41.5, "ann"),
    ]  # fmt: skip


def test_the_labeller_is_a_column_or_the_file(tmp_path):
    assert [one.labeller for one in read(tmp_path, "face_id,gender,labeller\n7,male,Bo\n8,male,\n")] == ["Bo", "ann"]


def test_an_export_of_label_studio_is_read(tmp_path):
    tasks = [
        task(7, ("gender", {"choices": ["male"]}), ("age", {"number": 12})),
        task(7, ("gender", {"choices": ["female"]}), who={"id": 4, "email": "bo@a.test"}),
        task(8, ("gender", {"choices": ["male"]}), was_cancelled=True),
        task(9, ("other", {"text": ["x"]})),
        {"data": {"face_id": 10}, "annotations": []},
    ]
    assert read(tmp_path, json.dumps(tasks), "a.json") == [
        Label(7, "gender", "male", "3"), Label(7, "age", 12, "3"), Label(7, "gender", "female", "bo@a.test"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("face_id,gender\n7,woman\n", r"line 2 has gender 'woman', expected one of female, male"),
        ("face_id,age\n7,130\n", r"line 2 has age '130', expected years"),
        ("face_id,age\n7,nan\n", "expected years"),
        ("face_id,age\nx,30\n", "has face_id 'x', expected a number"),
        ("face,gender\n7,male\n", "has the columns face, gender, expected face_id"),
        ("", "has the columns none"),
        ("[{}]", "no export of Label Studio"),
        ('[{"data": {"face_id": 1}, "annotations": [{}]}]', "no export of Label Studio"),
        ("[", "no export of Label Studio"),
    ],
)
def test_what_is_no_label_is_named(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_answers([tmp_path / "none.csv"], HEADS)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfeface_id")
    with pytest.raises(UsageError, match=r"a\.csv cannot be read"):
        read_answers([tmp_path / "a.csv"], HEADS)
