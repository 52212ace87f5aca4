"""The folder of a sample shows people crops and empty answers, and comes back as it was."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from worker.errors import FacetError, UsageError
from worker.pictures.labels.folder import Design, read_design, write_sample
from worker.pictures.labels.sampling import Sample, SampledFace, Stratum
from worker.storage.crops import CropStore

STRATA = (Stratum(values=("female",), population=90, sampled=2), Stratum(values=("male",), population=10, sampled=1))


def face(number, index, stratum, strip="a.png"):
    return SampledFace(
        face_id=number, media_id=1, uri="/é,\n.jpg", at_seconds=0.5, crop_uri=strip, crop_index=index, stratum=stratum
    )


@pytest.fixture
def drawn(tmp_path):
    store = CropStore(str(tmp_path / "crops"))
    store.write("a.png", np.stack([np.full((112, 112, 3), shade, np.uint8) for shade in (10, 100, 200)]))
    sample = Sample((face(7, 2, 0), face(5, 0, 0), face(6, 1, 1)), STRATA)
    heads = {"gender": ("female", "male"), "ethnicity": ('a "b" & <c>', "d"), "age": ()}
    return store, sample, Design(("gender",), heads, {7: 0, 5: 0, 6: 1}, STRATA)


def test_people_see_crops_and_no_answers_of_the_model(drawn, tmp_path):
    store, sample, design = drawn
    folder = tmp_path / "to label"
    assert write_sample(folder, sample, design, store, None) == []
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["face_id"] for row in rows] == ["5", "6", "7"]
    assert {row[head] for row in rows for head in (*design.heads, "labeller")} == {""}
    for row, shade in zip(rows, (10, 100, 200), strict=True):
        with Image.open(folder / row["crop"]) as crop:
            assert np.abs(np.asarray(crop, int) - shade).max() <= 6
    tasks = json.loads((folder / "label-studio.json").read_text())
    assert [task["data"]["face_id"] for task in tasks] == [5, 6, 7]
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=to%20label/crops/5.png"
    for name in ("labels.csv", "label-studio.json"):
        assert "female" not in (folder / name).read_text()
    view = ET.fromstring((folder / "label-studio.xml").read_text())
    assert [[one.get("value") for one in group] for group in view.iter("Choices")] == [
        ["female", "male"], ['a "b" & <c>', "d"],
    ]  # fmt: skip
    assert view.find("Number").get("name") == "age"


def test_a_design_comes_back(drawn, tmp_path):
    store, sample, design = drawn
    write_sample(tmp_path / "out", sample, design, store, "https://a.test/x/")
    assert read_design(tmp_path / "out") == design
    assert "https://a.test/x/crops/5.png" in (tmp_path / "out" / "label-studio.json").read_text()


def test_labels_are_never_overwritten(drawn, tmp_path):
    store, sample, design = drawn
    write_sample(tmp_path / "out", sample, design, store, None)
    with pytest.raises(UsageError, match="holds a sample"):
        write_sample(tmp_path / "out", sample, design, store, None)


def test_a_crop_that_is_gone_leaves_its_face_out(drawn, tmp_path):
    store, sample, design = drawn
    more = Sample((*sample.faces, face(8, 0, 1, "gone.png")), STRATA)
    ((left, reason),) = write_sample(tmp_path / "out", more, design, store, None)
    assert (left, "missing" in reason) == (8, True)
    assert "\n8," not in (tmp_path / "out" / "labels.csv").read_text()
    with pytest.raises(FacetError, match="no crop of the sample can be read"):
        write_sample(tmp_path / "none", Sample((face(8, 0, 1, "gone.png"),), STRATA), design, store, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a folder of `facet sample`"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"version": 2}', "of version 2, expected 1"),
        ('{"version": 1, "stratify": []}', "is damaged"),
    ],
)
def test_what_is_no_design_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "sample.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_design(tmp_path)
