"""``facet export data``: every view as Parquet, written again only where rows changed, and read by DuckDB."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import text

from db.engine import make_engine
from db.reader.run_query import run_query
from db.schema.views import VIEWS
from worker.errors import UsageError
from worker.pictures.exports.dataset import DICTIONARY, DUCKDB, PACKAGE, export_dataset
from worker.pictures.exports.row_formats import write_parquet


def change(url, statement):
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def rows(url, query):
    with run_query(url, query) as result:
        return list(result)


def package(folder):
    return json.loads((folder / PACKAGE).read_text())


@pytest.fixture
def exported(fresh_archive_url, tmp_path):
    progress = []
    done = export_dataset(fresh_archive_url, tmp_path / "data", write_parquet, progress.append)
    assert (done.written, done.unchanged, done.removed) == (len(progress), 0, 0)
    return tmp_path / "data"


def test_every_view_has_all_its_rows(fresh_archive_url, exported):
    listed = {resource["name"]: resource for resource in package(exported)["resources"]}
    assert list(listed) == list(VIEWS)
    for view, resource in listed.items():
        tables = [parquet.ParquetFile(exported / path).read() for path in resource["path"]]
        ((count,),) = rows(fresh_archive_url, f"SELECT count(*) FROM {view}")
        assert sum(len(table) for table in tables) == count, view
        assert {tuple(table.column_names) for table in tables} == {
            tuple(field["name"] for field in resource["schema"]["fields"])
        }
    assert sum(len(resource["path"]) for resource in listed.values()) == len(list(exported.rglob("*.parquet")))


def test_values_are_those_of_the_views(fresh_archive_url, exported):
    query = "SELECT face_id, x1, age, gender, embedding, attributes::text FROM faces ORDER BY face_id"
    wanted = [
        dict(zip(("face_id", "x1", "age", "gender", "embedding", "attributes"), row, strict=True))
        for row in rows(fresh_archive_url, query)
    ]
    files = [parquet.ParquetFile(path).read() for path in (exported / "faces").rglob("*.parquet")]
    found = pa.concat_tables(files).sort_by("face_id").select(list(wanted[0])).to_pylist()
    for row, other in zip(found, wanted, strict=True):
        assert row["embedding"] == (None if other["embedding"] is None else pytest.approx(other["embedding"]))
        assert {**row, "embedding": 0} == {**other, "embedding": 0, "x1": pytest.approx(other["x1"]), "age": row["age"]}
        assert row["age"] == (None if other["age"] is None else pytest.approx(other["age"]))


def test_nothing_is_written_again_where_nothing_changed(fresh_archive_url, exported):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*.parquet")}
    done = export_dataset(fresh_archive_url, exported, write_parquet, pytest.fail)
    assert (done.written, done.unchanged, done.removed) == (0, len(before), 0)
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*.parquet")} == before


def test_a_changed_name_reaches_its_views_alone(fresh_archive_url, exported):
    change(fresh_archive_url, "UPDATE facet.person SET name = 'Ada Lovelace' WHERE name = 'Ada'")
    written = []
    export_dataset(fresh_archive_url, exported, write_parquet, written.append)
    assert {path.partition("/")[0] for path in written} == {"people"}
    assert "Ada Lovelace" in parquet.ParquetFile(exported / written[0]).read()["name"].to_pylist()


def test_partitions_are_those_of_jobs_and_go_with_their_rows(fresh_archive_url, exported):
    (job,) = {path.parent.name for path in (exported / "faces").rglob("*.parquet")}
    assert job.startswith("first_job=")
    change(fresh_archive_url, "INSERT INTO facet.job (name) VALUES ('second')")
    change(
        fresh_archive_url,
        "UPDATE facet.job_item SET job_id = (SELECT max(job_id) FROM facet.job) WHERE media_id IN "
        "(SELECT media_id FROM facet.media_file WHERE uri LIKE '%group.jpg')",
    )
    done = export_dataset(fresh_archive_url, exported, write_parquet, lambda _: None)
    assert done.removed == 0
    parts = sorted((exported / "appearances").rglob("*.parquet"))
    assert [parquet.ParquetFile(path).metadata.num_rows for path in parts] == [5, 3]
    change(
        fresh_archive_url,
        "UPDATE facet.job_item SET job_id = (SELECT min(job_id) FROM facet.job) WHERE job_id <> "
        "(SELECT min(job_id) FROM facet.job)",
    )
    assert export_dataset(fresh_archive_url, exported, write_parquet, lambda _: None).removed > 0
    assert [parquet.ParquetFile(path).metadata.num_rows for path in (exported / "appearances").rglob("*.parquet")] == [
        8
    ]


def test_the_export_of_another_release_stays(fresh_archive_url, exported):
    before = {path.relative_to(exported) for path in exported.rglob("*.parquet")}
    change(fresh_archive_url, "UPDATE facet.release SET active = false WHERE active")
    change(fresh_archive_url, "UPDATE facet.release SET active = true WHERE name = 'old'")
    assert export_dataset(fresh_archive_url, exported, write_parquet, lambda _: None).removed == 0
    after = {path.relative_to(exported) for path in exported.rglob("*.parquet")}
    assert before < after
    assert {str(path) for path in after} == set(package(exported)["facet"]["digests"])


def test_columns_are_explained(exported):
    fields = {r["name"]: {f["name"]: f for f in r["schema"]["fields"]} for r in package(exported)["resources"]}
    assert fields["faces"]["quality"]["type"] == "number"
    assert fields["faces"]["embedding"]["type"] == "array"
    assert fields["media"]["submitted_at"]["type"] == "datetime"
    assert all(field["description"] for view in fields.values() for field in view.values())
    assert "| `person_id` | bigint | Number of the person. |" in (exported / DICTIONARY).read_text()


def test_duckdb_reads_all_of_it(fresh_archive_url, exported, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(exported)
    with duckdb.connect() as connection:
        connection.execute((exported / DUCKDB).read_text())
        for view in VIEWS:
            ((wanted,),) = rows(fresh_archive_url, f"SELECT count(*) FROM {view}")
            assert connection.execute(f"SELECT count(*) FROM {view}").fetchone() == (wanted,), view
        query = (
            "SELECT p.name, count(*) FROM appearances a JOIN people p USING (person_id) JOIN media m USING (media_id) "
            "GROUP BY 1 ORDER BY 1"
        )
        assert connection.execute(query).fetchall() == rows(fresh_archive_url, query)
        assert connection.execute("SELECT DISTINCT active_release FROM faces").fetchall() == [("new",)]


def test_a_folder_of_something_else_is_left_alone(fresh_archive_url, tmp_path):
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(UsageError, match="something else"):
        export_dataset(fresh_archive_url, tmp_path, write_parquet, lambda _: None)
    (tmp_path / PACKAGE).write_text("{}")
    with pytest.raises(UsageError, match="no export of Facet"):
        export_dataset(fresh_archive_url, tmp_path, write_parquet, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PACKAGE, "holiday.txt"]
