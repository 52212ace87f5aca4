"""Readers of FairFace, Adience and IMDB-WIKI on made files in the published layouts."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
import torch

from training.data import face_sets as data
from training.data import published_sets as people
from training.data.face_sets import UNKNOWN
from training.errors import DataError
from training.fit.losses import age_distribution
from training.fit.targets import READERS, labelled, targets


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def fairface(tmp_path):
    head = "file,age,gender,race,service_test\n"
    write(
        tmp_path / "fairface" / "fairface_label_train.csv",
        head + "train/1.jpg,50-59,Male,East Asian,True\ntrain/2.jpg,more than 70,Female,Latino_Hispanic,False\n",
    )
    write(tmp_path / "fairface" / "fairface_label_val.csv", head + "val/1.jpg,3-9,Female,Middle Eastern,False\n")
    return people.read_fairface(tmp_path)


def test_fairface_has_spans_five_ethnicities_and_seven_races(fairface):
    assert fairface.files.tolist() == ["train/1.jpg", "train/2.jpg", "val/1.jpg"]
    assert fairface.split.tolist() == ["train", "train", "test"]
    assert targets("age_range", fairface, 9).argmax(1).tolist() == [6, 8, 1]
    assert fairface.age_span.tolist() == [[50, 59], [70, 116], [3, 9]]
    assert fairface.age.tolist() == [54.5, 93, 6]
    assert [data.GENDERS[g] for g in fairface.gender] == ["male", "female", "female"]
    assert [data.ETHNICITIES[e] for e in fairface.ethnicity] == ["Asian", "Other", "Other"]
    assert [data.RACES[r] for r in fairface.race] == ["East Asian", "Latino_Hispanic", "Middle Eastern"]
    assert targets("ethnicity7", fairface, 7).argmax(1).tolist() == fairface.race.tolist()


def test_a_part_of_fairfaces_train_is_val(tmp_path):
    lines = [f"train/{number}.jpg,0-2,Male,Black,True" for number in range(400)]
    head = "file,age,gender,race,service_test"
    write(tmp_path / "fairface" / "fairface_label_train.csv", "\n".join([head, *lines, ""]))
    split = people.read_fairface(tmp_path).split
    assert set(split) == {"train", "val"}
    assert 8 <= int((split == "val").sum()) <= 35


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("val/1.jpg,3-10,Female,Black,False", "line 3 has age '3-10', expected one of 0-2, 3-9"),
        ("val/1.jpg,3-9,female,Black,False", "line 3 has gender 'female', expected one of Male, Female"),
        ("val/1.jpg,3-9,Female,Asian,False", "line 3 has race 'Asian', expected one of White"),
    ],
)
def test_unknown_labels_of_fairface_are_named(tmp_path, row, message):
    lines = ["file,age,gender,race,service_test", "val/0.jpg,0-2,Male,Black,True", row, ""]
    write(tmp_path / "fairface" / "fairface_label_val.csv", "\n".join(lines))
    with pytest.raises(DataError, match=message):
        people.read_fairface(tmp_path)


def test_a_range_of_ages_is_even_inside_and_falls_off_outside(fairface):
    soft = targets("age", fairface, 117)
    assert torch.allclose(soft.sum(1), torch.ones(3))
    assert soft[0, 50] == pytest.approx(float(soft[0, 59]))
    assert soft[0, 59] > soft[0, 60] > soft[0, 65]
    assert float(soft[0, 50:60].sum()) > 0.6


def test_a_range_of_one_year_is_that_year():
    years = torch.tensor([31.0])
    faces = data.UtkFace(
        name="x",
        root=None,
        files=np.array(["a"]),
        split=np.array(["train"]),
        age=years.numpy(),
        gender=np.array([0]),
        ethnicity=np.array([0]),
    )
    assert torch.allclose(targets("age", faces, 117), age_distribution(years, 117, 2.5))


def test_one_of_fairfaces_files_is_enough(tmp_path):
    write(
        tmp_path / "fairface" / "fairface_label_val.csv",
        "file,age,gender,race,service_test\nval/1.jpg,0-2,Male,Black,True\n",
    )
    assert people.read_fairface(tmp_path).split.tolist() == ["test"]
    with pytest.raises(DataError, match=r"fairface_label_train\.csv or"):
        people.read_fairface(tmp_path / "elsewhere")


ADIENCE_HEAD = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score\n"
)


def test_adience_reads_five_folds_and_faces_with_some_label(tmp_path):
    lines = [
        "30601258@N03\t10399646885_67c7d20df9_o.jpg\t1\t(25, 32)\tf\t0\t0\t9\t9\t-115\t30\t17\n",
        "30601258@N03\tb.jpg\t2\tNone\tu\t0\t0\t9\t9\t0\t0\t1\n",
        "7464014@N04\tc.jpg\t3\t35\tm\t0\t0\t9\t9\t0\t0\t1\n",
        "7464014@N04\td.jpg\t4\tNone\tm\t0\t0\t9\t9\t0\t0\t1\n",
    ]
    for fold in range(5):
        write(tmp_path / "adience" / f"fold_{fold}_data.txt", ADIENCE_HEAD + (lines[fold] if fold < 4 else ""))
    faces = people.read_adience(tmp_path)
    assert faces.files[0] == "faces/30601258@N03/coarse_tilt_aligned_face.1.10399646885_67c7d20df9_o.jpg"
    assert faces.split.tolist() == ["train", "train", "val"]
    assert faces.age_span[:2].tolist() == [[25, 32], [35, 35]]
    assert faces.gender.tolist() == [1, 0, 0]
    assert (faces.ethnicity == UNKNOWN).all()
    soft = targets("age", faces, 117)
    assert labelled("age", soft, np.arange(3)).tolist() == [0, 1]
    assert targets("ethnicity", faces, 5).sum() == 0
    (tmp_path / "adience" / "fold_3_data.txt").unlink()
    with pytest.raises(DataError, match=r"no fold_3_data\.txt"):
        people.read_adience(tmp_path)


def matlab_day(day: date) -> int:
    return (day + timedelta(days=366)).toordinal()


def test_imdb_ages_are_those_in_the_year_of_the_image(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    (tmp_path / "imdb_crop").mkdir()
    born = [date(1950, 3, 1), date(1950, 9, 1), date(1980, 1, 1), date(1980, 1, 1), date(2030, 1, 1)]
    table = {
        "dob": np.array([matlab_day(day) for day in born], dtype=np.float64),
        "photo_taken": np.array([2000, 2000, 2010, 2010, 2010]),
        "full_path": np.array([f"0{n}/nm_{n}.jpg" for n in range(5)], dtype=object),
        "gender": np.array([0, 1, np.nan, 1, 1]),
        "name": np.array(["A B", "C D", "E F", "G H", "I J"], dtype=object),
        "face_score": np.array([4.2, 3.0, 2.0, -np.inf, 3.0]),
        "second_face_score": np.array([np.nan] * 5),
    }
    scipy_io.savemat(tmp_path / "imdb_crop" / "imdb.mat", {"imdb": table})
    faces = people.read_imdb(tmp_path)
    assert faces.files.tolist() == ["00/nm_0.jpg", "01/nm_1.jpg", "02/nm_2.jpg"]
    assert faces.age.tolist() == [50, 49, 30]
    assert faces.gender.tolist() == [data.GENDERS.index("female"), data.GENDERS.index("male"), UNKNOWN]
    with pytest.raises(DataError, match=r"no wiki.mat"):
        people.read_wiki(tmp_path)


def test_a_persons_split_is_always_the_same_and_most_are_train():
    splits = [people.person_split(f"person {number}") for number in range(400)]
    assert splits == [people.person_split(f"person {number}") for number in range(400)]
    assert 0.8 < splits.count("train") / 400 < 0.97
    assert {"val", "test"} < set(splits)


def test_impossible_dates_give_no_age():
    assert np.isnan(people.ages_at(np.array([0]), np.array([2000]))).all()


@pytest.mark.parametrize("name", ["fairface", "adience", "imdb_crop", "wiki_crop"])
def test_a_missing_set_is_named(name, tmp_path):
    with pytest.raises(DataError, match=r"no .* in "):
        READERS[name](tmp_path)
