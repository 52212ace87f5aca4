"""`import facet`: what the programs do, from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import facet as library

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "library.ipynb"
# As a notebook does: run a cell, and show the value of its last expression.
SHOW_LAST = """
space = {}
def show(source):
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), space)
    if last is not None:
        print(eval(compile(last, "cell", "eval"), space))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The public-domain photos of the quickstart, and its clip."""
    folder = tmp_path_factory.mktemp("library")
    subprocess.run([sys.executable, "-m", "worker.cli.demo", folder, "--photos"], check=True, capture_output=True)
    (folder / "photos" / "hopper-half.jpg").unlink()  # a damaged one
    return folder / "photos"


@pytest.fixture(scope="module")
def analysed(shared_facet, photos):
    shared_facet("analyze", photos)
    return shared_facet


def test_importing_it_loads_neither_torch_nor_a_database():
    program = "import facet, sys; print(sorted({'torch', 'sqlalchemy', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_query_gives_an_arrow_table_with_the_columns_own_types(analysed):
    with library.open(analysed.home) as archive:
        table = archive.sql(
            "SELECT face_id, quality, age, gender, embedding, face_id FROM faces WHERE quality > %s", [0.1]
        )
        nothing = archive.sql("SELECT face_id FROM faces WHERE gender = %(gender)s", {"gender": "nobody"})
    expected = analysed.value("SELECT count(*) FROM faces WHERE quality > 0.1")
    assert table.num_rows == expected > 0
    assert table.schema.field("face_id").type == pa.int64()
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert table.column_names[-1] == "face_id_2"
    assert np.linalg.norm(table["embedding"][0].as_py()) == pytest.approx(1, abs=1e-3)
    assert (nothing.num_rows, nothing.column_names) == (0, ["face_id"])


def test_a_wrong_query_and_one_that_writes_are_refused(analysed):
    with library.open(analysed.home) as archive:
        with pytest.raises(library.QueryError, match="nonsense"):
            archive.sql("SELECT nonsense FROM faces")
        with pytest.raises(library.QueryError):
            archive.sql("DELETE FROM faces")
        assert archive.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_photo_of_the_archive_finds_its_own_appearances(analysed):
    uri, person = analysed.rows(
        "SELECT uri, person_id FROM appearances JOIN media USING (media_id) WHERE kind = 'image' ORDER BY quality DESC"
    )[0].values()
    with library.open(analysed.home) as archive:
        matches = archive.search(uri, limit=3)
        again = archive.search(uri, limit=1, where="kind = 'video'")
    best = max((hit for match in matches for hit in match.result.appearances), key=lambda hit: hit.similarity)
    assert best.uri == uri
    assert best.similarity > 0.99
    assert person in {hit.person_id for match in matches for hit in match.result.people}
    assert all(hit.kind == "video" for match in again for hit in match.result.appearances)


def test_the_faces_of_one_image_are_those_that_an_analysis_stores(analysed):
    best = "SELECT media_id, uri FROM faces JOIN media USING (media_id) WHERE kind = 'image' ORDER BY quality DESC"
    media_id, uri = analysed.rows(best)[0].values()
    stored = analysed.rows(f"SELECT * FROM faces WHERE media_id = {media_id} ORDER BY (x2 - x1) * (y2 - y1) DESC")
    faces = library.load_release(heads=frozenset({"age", "gender", "attributes"})).faces(uri)
    assert len(faces) == len(stored)
    for face, row in zip(faces, stored, strict=True):
        assert face.box == pytest.approx([row["x1"], row["y1"], row["x2"], row["y2"]], abs=0.5)
        assert face.dropped_reason == row["dropped_reason"]
        assert face.quality == pytest.approx(row["quality"], abs=0.02)
        if face.dropped_reason is None:
            assert np.dot(face.embedding, row["embedding"]) > 0.99
            assert (face.answers["gender"].label, set(face.answers)) == (row["gender"], {"age", "gender", "attributes"})
            assert face.answers["gender"].confidence == pytest.approx(row["gender_confidence"], abs=0.03)
            assert face.answers["age"].value == pytest.approx(row["age"], abs=1.5)
            assert face.answers["attributes"].probabilities == pytest.approx(row["attributes"], abs=0.1)


def test_an_array_is_taken_like_a_file_and_others_are_refused():
    model = library.load_release(heads=frozenset())
    assert model.faces(np.zeros((200, 300, 3), np.uint8)) == ()
    for wrong in (np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3), np.float32), 3):
        with pytest.raises(library.UsageError, match="expected a path or an array"):
            model.faces(wrong)
    with pytest.raises(library.UsageError, match="does not exist"):
        model.faces("/nowhere/at/all.jpg")


def test_an_address_that_answers_nobody_is_said(tmp_path):
    with pytest.raises(library.FacetError, match="is it running"):
        library.open("postgresql://127.0.0.1:1/nothing")


def test_files_are_analysed_once_and_what_failed_is_said(tmp_path, photos):
    seen = []
    with library.open(tmp_path / "home") as archive:
        summary = archive.analyze(photos / "both.jpg", photos / "collins.jpg", name="two", show=seen.append)
        (tmp_path / "broken.jpg").write_bytes((photos / "both.jpg").read_bytes()[:5000])
        again = archive.analyze(photos / "collins.jpg", tmp_path / "broken.jpg")
        jobs = archive.sql("SELECT name, done, rejected FROM jobs ORDER BY job_id").to_pylist()
        with pytest.raises(library.UsageError, match="does not exist"):
            archive.analyze(tmp_path / "nothing.jpg")
        with pytest.raises(library.UsageError, match=r"~nobody\.jpg does not exist"):
            archive.analyze("~nobody.jpg")
        with pytest.raises(library.UsageError, match="no path was given"):
            archive.analyze()
    assert (summary.submitted, summary.done, summary.faces) == (2, 2, 3)
    assert seen[-1].faces == 3
    assert (again.done, again.rejected, len(again.failures)) == (1, 1, 1)
    assert jobs[0] == {"name": "two", "done": 2, "rejected": 0}


def test_the_notebook_runs(tmp_path):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    program = "import ast, sys\n" + SHOW_LAST + "".join(f"show({''.join(cell['source'])!r})\n" for cell in cells)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "11 files, 10 done, 25 faces" in done.stdout
    assert "hopper-half.jpg truncated" in done.stdout
    assert len(cells) == 8
