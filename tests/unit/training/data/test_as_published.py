"""Readers of UTKFace, CelebA and FER2013 on made files in the layouts of their authors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.data import as_published, sets
from training.data.face_sets import CELEBA_ATTRIBUTES, EMOTIONS, UNKNOWN
from training.errors import DataError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_files_are_divided_by_their_bytes_alone():
    splits = [as_published.split_of(b"%d" % number) for number in range(2000)]
    assert splits == [as_published.split_of(b"%d" % number) for number in range(2000)]
    assert abs(splits.count("val") / 2000 - 0.05) < 0.02
    assert abs(splits.count("test") / 2000 - 0.15) < 0.03
    assert splits != [as_published.split_of(b"%d" % number, seed=1) for number in range(2000)]
    assert {as_published.split_of(b"%d" % number, ()) for number in range(50)} == {"train"}


@pytest.fixture
def utkface(tmp_path):
    root = tmp_path / "utkface" / "UTKFace"
    write(root / "31_1_2_20170116174525125.jpg.chip.jpg", b"one")
    write(root / "7_0_4_20170117151304644.jpg.chip.jpg", b"two")
    write(root / "7_0_4_20170117151304999.jpg.chip.jpg", b"two")  # a copy
    write(root / "40_0_1_20170117151304700.jpg.chip.jpg", b"three")
    write(root / "41_0_1_20170117151304701.jpg.chip.jpg", b"three")  # a copy with another age
    write(root / "61_1_20170109150557335.jpg.chip.jpg", b"no race")
    return tmp_path


def test_utkface_is_read_by_the_names_of_its_files(utkface):
    faces = sets.load_utkface(utkface)
    assert [name.split("/")[-1].rpartition("_")[0] for name in faces.files.tolist()] == ["31_1_2", "7_0_4"]
    assert (faces.age.tolist(), faces.gender.tolist(), faces.ethnicity.tolist()) == ([31, 7], [1, 0], [2, 4])
    assert all(path.is_file() for path in faces.paths())


def test_a_renamed_face_keeps_its_split(utkface):
    before = sets.load_utkface(utkface).split.tolist()
    for path in sorted((utkface / "utkface").rglob("31_*")):
        path.rename(path.with_name("0031_1_2_1.jpg"))
    assert sorted(sets.load_utkface(utkface).split.tolist()) == sorted(before)


@pytest.mark.parametrize("name", ["117_0_0_1.jpg", "30_2_0_1.jpg", "30_0_5_1.jpg"])
def test_impossible_labels_of_utkface_are_named(utkface, name):
    write(utkface / "utkface" / name, b"x")
    with pytest.raises(DataError, match=rf"{name} has age .*expected at most 116, 1, 4; rename"):
        sets.load_utkface(utkface)


def test_the_table_of_utkface_comes_first(utkface):
    write(utkface / "utkface" / "labels.csv", "file,age,gender,race,split\na.jpg,9,1,3,val\n")
    assert sets.load_utkface(utkface).age.tolist() == [9]


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no labels\.csv and no \*\.jpg in"):
        sets.load_utkface(tmp_path)


def celeba_lines(rows):
    return "\n".join([str(len(rows)), " ".join(CELEBA_ATTRIBUTES) + " ", *rows, ""])


def signs(*positive):
    return "  ".join("1" if place in positive else "-1" for place in range(40))


@pytest.fixture
def celeba(tmp_path):
    root = tmp_path / "celeba"
    rows = [f"000001.jpg  {signs(0, 39)}", f"000002.jpg {signs(31)}", f"000003.jpg {signs()}"]
    write(root / "Anno" / "list_attr_celeba.txt", celeba_lines(rows).replace("\n", "\r\n"))
    write(root / "Eval" / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    write(root / "Anno" / "identity_CelebA.txt", "000001.jpg 2880\n000003.jpg 2937\n")
    (root / "Img" / "img_align_celeba").mkdir(parents=True)
    return tmp_path


def test_celeba_is_read_by_its_three_lists(celeba):
    faces = sets.load_celeba(celeba)
    assert faces.name == "celeba"
    assert faces.files.tolist()[1] == "Img/img_align_celeba/000002.jpg"
    assert faces.split.tolist() == ["train", "val", "test"]
    assert [np.flatnonzero(row).tolist() for row in faces.attributes] == [[0, 39], [31], []]
    assert faces.identity.tolist() == [2880, UNKNOWN, 2937]
    assert faces.names == CELEBA_ATTRIBUTES


def test_celeba_needs_no_identities_and_no_folders(celeba):
    root = celeba / "celeba"
    (root / "Anno" / "identity_CelebA.txt").unlink()
    for name in ("Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt", "Img/img_align_celeba"):
        (root / name).rename(root / name.split("/")[1])
    faces = sets.load_celeba(celeba)
    assert (faces.identity == UNKNOWN).all()
    assert faces.files[0] == "img_align_celeba/000001.jpg"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("Anno/list_attr_celeba.txt", "3\r\n", "4\r\n", "line 1 promises 4 images, 3 follow"),
        ("Anno/list_attr_celeba.txt", "3\r\n5_o", "\r\n5_o", "line 1 is '', expected the number"),
        ("Anno/list_attr_celeba.txt", "Bald Bangs", "Bangs Bald", "line 2 has 40 names"),
        ("Anno/list_attr_celeba.txt", "000002.jpg -1", "000002.jpg 0", "line 4 is '000002.jpg 0"),
        ("Anno/list_attr_celeba.txt", "000003.jpg -1", "000003.jpg", "line 5 is '000003.jpg"),
        ("Eval/list_eval_partition.txt", "000002.jpg 1", "000002.jpg 7", "gives it '7', expected 0, 1 or 2"),
        ("Eval/list_eval_partition.txt", "000002.jpg 1\n", "", "gives it 'nothing'"),
        ("Anno/identity_CelebA.txt", "2937", "x", "line 2 is '000003.jpg x', expected a file and a number"),
    ],
)
def test_wrong_lines_of_celeba_are_named(celeba, file, old, new, message):
    path = celeba / "celeba" / file
    text = path.read_bytes().decode()
    assert old in text
    write(path, text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        sets.load_celeba(celeba)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("Eval/list_eval_partition.txt", "no list_eval_partition"),
        ("Img/img_align_celeba", "no folder img_align_celeba"),
    ],
)
def test_missing_parts_of_celeba_are_named(celeba, gone, message):
    path = celeba / "celeba" / gone
    path.rename(path.with_name("other"))
    with pytest.raises(DataError, match=message):
        sets.load_celeba(celeba)


def pixels(value):
    return " ".join(str((value + place) % 256) for place in range(48 * 48))


@pytest.fixture
def fer2013(tmp_path):
    root = tmp_path / "fer2013"
    labels = [f"3,{pixels(1)},Training", f"0,{pixels(2)},PublicTest", f"6,{pixels(3)},PrivateTest"]
    votes = [
        "Training,fer0000000.png,1,9,0,0,0,0,0,0,0,0",
        "PublicTest,fer0000001.png,0,0,0,4,4,0,0,0,2,0",
        "PrivateTest,,0,0,0,0,0,0,0,0,1,9",
    ]
    write(root / "fer2013.csv", "\n".join(["emotion,pixels,Usage", *labels, ""]))
    head = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    write(root / "fer2013new.csv", "\n".join([head, *votes, ""]))
    return tmp_path


def test_fer2013_is_read_from_its_pixels_and_the_votes(fer2013):
    faces = sets.load_fer2013(fer2013)
    assert faces.split.tolist() == ["train", "val", "test"]
    assert [EMOTIONS[label] for label in faces.original] == ["happiness", "anger", "neutral"]
    assert faces.votes[:2].tolist() == [[1, 9, 0, 0, 0, 0, 0, 0], [0, 0, 0, 4, 4, 0, 0, 0]]
    assert faces.other_votes.tolist() == [0, 2, 10]
    assert faces.majority.tolist() == [EMOTIONS.index("happiness"), UNKNOWN, UNKNOWN]
    image = cv2.imread(str(faces.paths()[1]), cv2.IMREAD_GRAYSCALE)
    assert image.shape == (48, 48)
    assert image.reshape(-1)[:300].tolist() == [(2 + place) % 256 for place in range(300)]


def test_images_of_fer2013_are_written_once(fer2013):
    path = sets.load_fer2013(fer2013).paths()[0]
    before = path.stat().st_mtime_ns
    sets.load_fer2013(fer2013)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("fer2013.csv", "emotion,", "label,", "line 1 lacks emotion"),
        ("fer2013.csv", "0,2 3", "7,2 3", "line 3 has emotion '7', expected 0 to 6"),
        ("fer2013.csv", "6,3 4 5", "6,3 4", "line 4 has 2303 pixels, expected 2304"),
        ("fer2013.csv", "6,3 4 5", "6,3 x 5", "line 4 has pixels that are no numbers"),
        ("fer2013.csv", "6,3 4 5", "6,3 400 5", "line 4 has 2304 pixels, expected 2304 of 0 to 255"),
        ("fer2013new.csv", "PublicTest", "Training", "line 3 has Usage 'PublicTest' in fer2013.csv and 'Training'"),
        ("fer2013new.csv", "0,4,4", "0,4,x", "line 3 has votes that are no numbers"),
        ("fer2013new.csv", ",unknown,NF", ",unknown", "line 1 lacks NF"),
        ("fer2013new.csv", "PrivateTest,,0,0,0,0,0,0,0,0,1,9\n", "", "has 3 images, fer2013new.csv 2"),
    ],
)
def test_wrong_lines_of_fer2013_are_named(fer2013, file, old, new, message):
    path = fer2013 / "fer2013" / file
    text = path.read_text()
    assert old in text
    write(path, text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        sets.load_fer2013(fer2013)


def test_a_missing_table_is_named(fer2013):
    (fer2013 / "fer2013" / "fer2013new.csv").unlink()
    with pytest.raises(DataError, match=r"no fer2013new\.csv in"):
        sets.load_fer2013(fer2013)


def test_celeba_without_any_layout_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no attributes\.csv in"):
        sets.load_celeba(tmp_path)
