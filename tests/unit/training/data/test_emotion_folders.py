"""Readers of sets of emotions with a folder for each label, on made folders."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.crops import LADDERS
from training.data.emotion_folders import read_ckplus, read_rafdb, read_sfew
from training.data.face_sets import EMOTIONS, UNKNOWN
from training.errors import DataError
from training.fit.targets import READERS, emotion_targets, labelled, original_emotion_targets


def fill(folder, count=1, ending="png"):
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.{ending}").write_bytes(f"{folder} {number}".encode())


def labels(faces):
    return [EMOTIONS[label] for label in faces.majority]


def test_sfew_has_folders_of_splits_and_labels(tmp_path):
    for name in ("Train/Angry", "Train_Aligned_Faces/Happy", "Val/Neutral", "Test/Sad"):
        fill(tmp_path / "sfew" / name)
    faces = read_sfew(tmp_path)
    assert labels(faces) == ["sadness", "anger", "happiness", "neutral"]
    assert faces.split.tolist() == ["test", "train", "train", "val"]
    soft = emotion_targets(faces)
    assert soft.argmax(1).tolist() == faces.majority.tolist()
    assert soft.max(1).values.tolist() == [1, 1, 1, 1]


def test_a_set_without_splits_is_divided_by_bytes(tmp_path):
    for name in ("anger", "contempt", "happy"):
        fill(tmp_path / "ckplus" / name, 100)
    faces = read_ckplus(tmp_path)
    assert faces.split.tolist() == read_ckplus(tmp_path).split.tolist()
    shares = {name: float((faces.split == name).mean()) for name in ("train", "val", "test")}
    assert shares["train"] == pytest.approx(0.7, abs=0.1)
    assert shares["val"] == pytest.approx(0.1, abs=0.06)
    assert set(labels(faces)) == {"anger", "contempt", "happiness"}
    assert set(faces.original[faces.majority == EMOTIONS.index("contempt")]) == {UNKNOWN}
    without = labelled("emotion7", original_emotion_targets(faces), np.arange(300))
    assert len(without) == 200


def test_a_set_without_val_takes_it_from_train(tmp_path):
    fill(tmp_path / "rafdb" / "train" / "1", 200, "jpg")
    fill(tmp_path / "rafdb" / "test" / "7", 5, "jpg")
    faces = read_rafdb(tmp_path)
    assert set(faces.split[faces.majority == EMOTIONS.index("surprise")]) == {"train", "val"}
    assert 5 <= int((faces.split == "val").sum()) <= 40
    assert set(faces.split[faces.majority == EMOTIONS.index("neutral")]) == {"test"}


@pytest.mark.parametrize("below", ["", "basic"])
def test_rafdb_is_read_by_its_list(tmp_path, below):
    folder = tmp_path / "rafdb" / below
    fill(folder / "EmoLabel")
    fill(folder / "Image" / "aligned")
    for name in ("train_00001", "test_0001"):
        (folder / "Image" / "aligned" / f"{name}_aligned.jpg").write_bytes(name.encode())
    path = folder / "EmoLabel" / "list_patition_label.txt"
    path.write_text("train_00001.jpg 5\ntest_0001.jpg 6\n")
    faces = read_rafdb(tmp_path)
    assert labels(faces) == ["sadness", "anger"]
    assert faces.split.tolist()[1] == "test"
    assert all(found.is_file() for found in faces.paths())
    path.write_text("train_00001.jpg 5\ntest_0001.jpg 8\n")
    with pytest.raises(DataError, match=r"line 2 is 'test_0001\.jpg 8', expected .* and 1 to 7; restore"):
        read_rafdb(tmp_path)


def test_an_unknown_folder_is_named_with_all_known(tmp_path):
    fill(tmp_path / "sfew" / "Train" / "Bored")
    with pytest.raises(DataError, match=r"lies in 'Bored', expected a folder named neutral, happy, .*; rename"):
        read_sfew(tmp_path)


def test_images_beside_the_folders_are_named(tmp_path):
    fill(tmp_path / "ckplus")
    with pytest.raises(DataError, match="lies in 'ckplus', expected a folder named"):
        read_ckplus(tmp_path)


@pytest.mark.parametrize("name", ["sfew", "emotiw", "rafdb", "ckplus"])
def test_a_missing_set_is_named_and_has_views(name, tmp_path):
    with pytest.raises(DataError, match="no images in"):
        READERS[name](tmp_path)
    assert LADDERS[name]
