"""Readers on made label files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from training.data import face_sets as data
from training.errors import DataError
from training.fit.targets import emotion_targets, labelled, targets


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def utkface(tmp_path):
    head = "file,age,gender,race,split,sha256_16,dhash,source_name,dup\n"
    rows = [
        "a.jpg,31,1,2,train,,,,",
        "b.jpg,7,0,4,test,,,,keep",
        "c.jpg,9,0,0,test,,,,dup",
        "d.jpg,9,0,0,val,,,,conflict",
    ]
    write(tmp_path / "utkface" / "labels.csv", head + "\n".join([*rows, "e.jpg,,,,train,,,,", ""]))
    return tmp_path


@pytest.fixture
def fer2013(tmp_path):
    votes = [f"v_{emotion}" for emotion in data.EMOTIONS]
    head = ",".join(["file", "split", "fer2013_label", "match", "ferplus_majority", *votes, "v_unknown", "v_NF"])
    rows = [
        "a.jpg,train,happy,ok,happiness,1,9,0,0,0,0,0,0,0,0",
        "b.jpg,val,angry,ok,,2,0,0,3,5,0,0,0,0,0",
        "c.jpg,test,fear,ok,,0,0,0,0,0,0,3,0,1,6",
    ]
    write(tmp_path / "fer2013" / "labels.csv", "\n".join([head, *rows, ""]))
    return tmp_path


def test_utkface_leaves_out_copies_and_faces_without_labels(utkface):
    faces = data.read_utkface(utkface)
    assert [str(name) for name in faces.files] == ["images/a.jpg", "images/b.jpg"]
    assert faces.age.tolist() == [31, 7]
    assert [data.GENDERS[g] for g in faces.gender] == ["female", "male"]
    assert [data.ETHNICITIES[e] for e in faces.ethnicity] == ["Asian", "Other"]
    assert faces.rows("test").tolist() == [1]
    assert faces.paths()[0] == utkface / "utkface" / "images" / "a.jpg"


def test_slicing_keeps_columns_together(utkface):
    faces = data.read_utkface(utkface)[np.array([1])]
    assert len(faces) == 1
    assert faces.age.tolist() == [7]
    assert faces.name == "utkface"


def test_columns_of_different_length_are_refused(utkface):
    faces = data.read_utkface(utkface)
    with pytest.raises(ValueError, match="differ in length"):
        data.FaceSet(name="x", root=utkface, files=faces.files, split=faces.split[:1])


def test_fer2013_has_votes_majority_and_its_own_label(fer2013):
    faces = data.read_fer2013(fer2013)
    assert faces.votes.shape == (3, 8)
    assert faces.majority.tolist() == [data.EMOTIONS.index("happiness"), data.UNKNOWN, data.UNKNOWN]
    assert [data.EMOTIONS[e] for e in faces.original] == ["happiness", "anger", "fear"]
    assert faces.other_votes.tolist() == [0, 0, 7]


def test_single_votes_and_images_without_a_face_have_no_target(fer2013):
    soft = emotion_targets(data.read_fer2013(fer2013))
    assert soft[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert soft[1].tolist() == pytest.approx([0.2, 0, 0, 0.3, 0.5, 0, 0, 0])
    assert labelled("emotion", soft, np.arange(3)).tolist() == [0, 1]


def test_targets_of_every_utkface_task(utkface):
    faces = data.read_utkface(utkface)
    assert targets("gender", faces, 2).tolist() == [[0, 1], [1, 0]]
    assert targets("ethnicity", faces, 5).argmax(1).tolist() == [2, 4]
    assert targets("age", faces, 117).argmax(1).tolist() == [31, 7]


def test_celeba_names_come_from_the_header(tmp_path):
    write(
        tmp_path / "celeba10k" / "attributes.csv",
        "file,identity,split,official_partition,Bald,Young\na.jpg,3,train,0,0,1\nb.jpg,5,test,0,1,0\n",
    )
    faces = data.read_celeba(tmp_path)
    assert faces.names == ("Bald", "Young")
    assert faces.attributes.tolist() == [[0, 1], [1, 0]]
    assert faces[faces.rows("test")].names == ("Bald", "Young")
    assert faces.identity.tolist() == [3, 5]


def test_celeba_may_be_of_unknown_people(tmp_path):
    write(tmp_path / "celeba10k" / "attributes.csv", "file,split,Bald\na.jpg,test,1\n")
    faces = data.read_celeba(tmp_path)
    assert (faces.names, faces.identity.tolist()) == (("Bald",), [data.UNKNOWN])


def test_lfw_pairs_and_folds(tmp_path):
    pairs = ["A_B\t1\t2", "C_D\t1\tE_F\t4", "A_B\t1\t3", "C_D\t2\tA_B\t1"]
    write(tmp_path / "lfw" / "pairs.txt", "\n".join(["2\t1", *pairs, ""]))
    faces, found = data.read_lfw(tmp_path)
    assert found.same.tolist() == [True, False, True, False]
    assert found.fold.tolist() == [0, 0, 1, 1]
    assert str(faces.files[found.right[1]]) == "images/E_F/E_F_0004.jpg"
    assert len(faces) == len(set(faces.files.tolist())) == 6
    there = faces.files != faces.files[found.right[1]]
    fewer = found.among(there)
    assert (fewer.same.tolist(), fewer.fold.tolist()) == ([True, True, False], [0, 1, 1])
    assert faces[there].files[fewer.right].tolist() == faces.files[found.right[[0, 2, 3]]].tolist()


def test_lfw_with_fewer_pairs_than_promised_is_refused(tmp_path):
    write(tmp_path / "lfw" / "pairs.txt", "2\t3\nA_B\t1\t2\n")
    with pytest.raises(DataError, match="promises 12"):
        data.read_lfw(tmp_path)


def test_wider_boxes_become_corners_and_invalid_faces_are_kept_apart(tmp_path):
    faces = [{"box": [10, 20, 30, 40], "invalid": 0}, {"box": [1, 2, 3, 4], "invalid": 1}]
    write(tmp_path / "widerface_subset" / "annotations.json", json.dumps([{"file": "a.jpg", "faces": faces}]))
    (image,) = data.read_wider(tmp_path)
    assert image.boxes.tolist() == [[10, 20, 40, 60]]
    assert image.ignored.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    "read", [data.read_utkface, data.read_fer2013, data.read_celeba, data.read_lfw, data.read_wider]
)
def test_a_missing_set_is_named(read, tmp_path):
    with pytest.raises(DataError, match=r"no .* in "):
        read(tmp_path)


def test_an_unknown_split_is_logged_and_not_learnt_from(utkface, caplog):
    path = utkface / "utkface" / "labels.csv"
    path.write_text(path.read_text().replace(",train,", ",trian,", 1))
    faces = data.read_utkface(utkface)
    assert "trian" in caplog.text
    assert len(faces.rows("train")) == 0


def test_labels_without_splits_are_all_test(utkface):
    path = utkface / "utkface" / "labels.csv"
    path.write_text("file,age,gender,race\na.jpg,31,1,2\nb.jpg,7,0,4\n")
    assert data.read_utkface(utkface).split.tolist() == ["test", "test"]


def test_shared_sets_have_the_sizes_their_documents_promise(shared_data):
    assert len(data.read_utkface(shared_data)) == 21_998
    assert len(data.read_celeba(shared_data)) == 9_456
    faces, pairs = data.read_lfw(shared_data)
    assert (len(pairs.same), int(pairs.same.sum())) == (6_000, 3_000)
    assert all(path.is_file() for path in faces.paths()[::500])


def test_the_original_seven_are_one_hot_in_the_order_of_their_head(fer2013):
    soft = targets("emotion7", data.read_fer2013(fer2013), 7)
    assert [data.ORIGINAL_EMOTIONS[n] for n in soft.argmax(1)] == ["happiness", "anger", "fear"]
    assert soft.sum(1).tolist() == [1, 1, 1]
