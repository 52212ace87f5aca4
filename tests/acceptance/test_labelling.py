"""A sample is drawn, people label it, and the agreement comes back, as a user runs it."""

from __future__ import annotations

import csv
import json

import pytest

from tests.acceptance.quick import Quick
from worker.cli.demo import build_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def demo(shared_facet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "archive"
    build_archive(folder)
    shared_facet("analyze", folder, "--json", status=1)  # half a picture is among them
    return Quick(shared_facet)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)


def read(facet, faces):
    numbers = ", ".join(faces)
    found = facet.rows(f"SELECT face_id, gender, ethnicity, emotion, age FROM faces WHERE face_id IN ({numbers})")
    return {str(row["face_id"]): row for row in found}


def labelled(facet, folder):
    """Fill in what the model reads, as people who always agree with it would."""
    rows = rows_of(folder / "labels.csv")
    answers = read(facet, [row["face_id"] for row in rows])
    for row in rows:
        for head in ("gender", "ethnicity", "emotion", "age"):
            answer = answers[row["face_id"]][head]
            row[head] = "" if answer in {None, "unknown"} else str(answer)
    return rows


def test_a_sample_has_one_face_of_an_appearance_and_is_the_same_again(demo, tmp_path):
    done = demo("sample", "--n", "12", "--stratify", "gender,kind", "-o", tmp_path / "one")
    assert "written to" in done.stdout
    demo("sample", "--n", "12", "--stratify", "gender,kind", "-o", tmp_path / "same")
    demo("sample", "--n", "12", "--stratify", "gender,kind", "--seed", "2", "-o", tmp_path / "other")
    first, same, other = (rows_of(tmp_path / name / "labels.csv") for name in ("one", "same", "other"))
    assert first == same != other
    numbers = ", ".join(row["face_id"] for row in first)
    counts = demo.rows(f"SELECT count(*) AS n FROM faces WHERE face_id IN ({numbers}) GROUP BY appearance_id")
    assert {row["n"] for row in counts} == {1}
    assert len(list((tmp_path / "one" / "crops").iterdir())) == len(first) == len(counts)
    design = json.loads((tmp_path / "one" / "sample.json").read_text())
    population = demo.value("SELECT count(DISTINCT appearance_id) AS n FROM faces WHERE dropped_reason IS NULL "
                            "AND crop_uri IS NOT NULL")  # fmt: skip
    assert sum(one["population"] for one in design["strata"]) == population
    assert sum(one["sampled"] for one in design["strata"]) == len(first) == min(12, population)


def test_people_who_agree_and_people_who_do_not(demo, tmp_path):
    demo("sample", "--n", "100", "-o", tmp_path / "out")
    rows = labelled(demo, tmp_path / "out")
    write_rows(tmp_path / "out" / "labels.csv", rows)
    found = json.loads(demo("agreement", tmp_path / "out", "--json").stdout)
    whole = {row["head"]: row for row in found["rows"] if row["group"] == "all"}
    assert set(whole) == {"gender", "ethnicity", "emotion", "age"}
    assert whole["gender"]["accuracy"]["value"] == 1
    assert whole["gender"]["kappa"] is None  # all people of the demonstration have one gender
    assert whole["age"]["mean_error"]["value"] == whole["age"]["bias"]["value"] == pytest.approx(0, abs=1e-4)
    sexes = [row["gender"] for row in rows if row["gender"]]
    for row in rows:
        row["gender"] = {"female": "male", "male": "female", "": ""}[row["gender"]]
        row["age"] = str(float(row["age"]) - 5) if row["age"] and float(row["age"]) >= 5 else ""
    write_rows(tmp_path / "against.csv", rows)
    found = json.loads(demo("agreement", tmp_path / "out", tmp_path / "against.csv", "--json").stdout)
    whole = {row["head"]: row for row in found["rows"] if row["group"] == "all"}
    assert (whole["gender"]["accuracy"]["value"], whole["gender"]["faces"]) == (0, len(sexes))
    assert whole["age"]["bias"]["value"] == pytest.approx(5, abs=1e-3)
    groups = {row["group"] for row in found["rows"] if row["head"] == "gender"}
    assert {f"gender={row['gender']}" for row in rows if row["gender"]} <= groups
    both = json.loads(
        demo("agreement", tmp_path / "out", tmp_path / "out" / "labels.csv", tmp_path / "against.csv", "--json").stdout
    )
    (people,) = (row for row in both["rows"] if (row["head"], row["group"]) == ("gender", "between people"))
    assert (people["accuracy"]["value"], people["faces"]) == (0, len(sexes))
    assert both["undecided"] >= len(sexes)


def test_labels_of_label_studio_and_a_table_for_people(demo, tmp_path):
    demo("sample", "--n", "6", "-o", tmp_path / "out")
    tasks = json.loads((tmp_path / "out" / "label-studio.json").read_text())
    for task in tasks:
        task["annotations"] = [
            {"completed_by": 1, "result": [{"from_name": "gender", "value": {"choices": ["female"]}}]}
        ]
    tasks.append({"data": {"face_id": 999_999}, "annotations": tasks[0]["annotations"]})
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    done = demo("agreement", tmp_path / "out", tmp_path / "done.json")
    assert "gender=female" in done.stdout
    assert "1 labelled faces are not of this sample" in done.stderr


def test_wrong_use_is_one_line(demo, tmp_path):
    assert "nothing to stratify by" in demo("sample", "--stratify", "hat", "-o", tmp_path / "a", status=2).stderr
    assert "no face with a crop" in demo("sample", "--where", "x1 < -9e9", "-o", tmp_path / "a", status=2).stderr
    assert "expected a condition" in demo("sample", "--where", "nothing > 1", "-o", tmp_path / "a", status=1).stderr
    assert not (tmp_path / "a").exists()
    demo("sample", "--n", "3", "-o", tmp_path / "out")
    assert "holds a sample" in demo("sample", "-o", tmp_path / "out", status=2).stderr
    assert "has no label yet" in demo("agreement", tmp_path / "out", status=2).stderr
    assert "expected a folder of `facet sample`" in demo("agreement", tmp_path, status=2).stderr


def test_an_erased_person_no_longer_counts(demo, tmp_path):
    demo("sample", "--n", "100", "-o", tmp_path / "out")
    write_rows(tmp_path / "out" / "labels.csv", labelled(demo, tmp_path / "out"))
    person = demo.value("SELECT min(person_id) AS n FROM people")
    before = json.loads(demo("agreement", tmp_path / "out", "--json").stdout)
    demo("forget", "--person", person, "--yes")
    after = demo("agreement", tmp_path / "out", "--json")
    assert json.loads(after.stdout)["gone"] > before["gone"] == 0
    assert json.loads(after.stdout)["rows"][0]["faces"] < before["rows"][0]["faces"]
