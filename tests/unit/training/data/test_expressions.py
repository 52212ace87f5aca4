"""Sets of expressions by person, read from made tables."""

from __future__ import annotations

import pytest

from training.data.expressions import read_film_faces, read_lfw_expressions
from training.data.face_sets import EMOTIONS, UNKNOWN
from training.errors import DataError


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def test_film_faces_have_an_expression_a_person_and_the_persons_split(tmp_path):
    write(
        tmp_path / "film_faces" / "labels.csv",
        "file,expression,person,split", "0.jpg,sadness,Ada,test", "1.jpg,happiness,Bo,train",
    )  # fmt: skip
    faces = read_film_faces(tmp_path)
    assert [EMOTIONS[n] for n in faces.expression] == ["sadness", "happiness"]
    assert faces.person.tolist() == ["Ada", "Bo"]
    assert faces.rows("test").tolist() == [0]
    assert faces.paths()[1] == tmp_path / "film_faces" / "images" / "1.jpg"
    write(tmp_path / "film_faces" / "labels.csv", "file,expression,person,split", "0.jpg,bored,Ada,test")
    with pytest.raises(DataError, match="'bored', expected one of neutral"):
        read_film_faces(tmp_path)


def test_expressions_of_lfw_are_joined_by_file_and_the_rare_ones_left_out(tmp_path):
    root = tmp_path / "lfw"
    write(root / "persons_split.csv", "person,images,split", "A_B,2,test", "C_D,2,train")
    rows = ("A_B_0001.jpg,anger", "A_B_0002.jpg,contempt", "C_D_0002.jpg,neutral")
    write(root / "expressions.csv", "file,expression", *rows)
    faces = read_lfw_expressions(tmp_path)
    assert faces.person.tolist() == ["A_B", "A_B", "C_D", "C_D"]
    assert faces.split.tolist() == ["test", "test", "train", "train"]
    assert faces.expression.tolist() == [EMOTIONS.index("anger"), UNKNOWN, UNKNOWN, 0]
    (root / "expressions.csv").unlink()
    assert set(read_lfw_expressions(tmp_path).expression.tolist()) == {UNKNOWN}
