"""The recipes of docs/recipes.md and docs/dashboards.md, run as the reader on the small archive."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import yaml

from db.engine import parse_url
from db.reader.describe import describe_columns, describe_views
from db.reader.run_query import run_query
from worker.pictures.exports.dataset import export_dataset
from worker.pictures.exports.row_formats import write_parquet

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
PROGRAMS = ROOT / ".venv-recipes" / "bin"
GET = "python -m venv .venv-recipes; .venv-recipes/bin/pip install -r docs/recipes.txt"
DASHBOARD = json.loads((ROOT / "deploy/monitoring/grafana/dashboards/archive.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SAVED = (ROOT / "deploy/metabase/questions.sql").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^-- (.+)\n-- .+\n(SELECT[^;]+);", SAVED, re.MULTILINE)
PROJECT = ROOT / "deploy" / "dbt"
SOURCES = PROJECT / "models" / "sources" / "facet.yml"
SOURCES_HEAD = "# All views of Facet with their columns, from the comments of the database (docs/recipes.md#dbt).\n"


@pytest.fixture
def reader(fresh_archive_url, embedded_postgres):
    """The address of the small archive for libpq, as the reader."""
    with psycopg.connect(libpq(fresh_archive_url)) as connection:
        connection.execute("UPDATE facet.media_file SET latitude = 52.5, longitude = 13.4 WHERE kind = 'image'")
        connection.execute("UPDATE facet.media_file SET duration_seconds = 61 WHERE kind = 'video'")
    return libpq(embedded_postgres.reader_url)


def libpq(url):
    return url.replace("postgresql+psycopg:", "postgresql:")


def ask(address, query):
    with psycopg.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return [column.name for column in cursor.description], cursor.fetchall()


def section(title, language):
    """Return the blocks of a language below a heading of the page."""
    text = re.split(r"^## ", PAGE.partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(command, folder, **environment):
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_python(code, shown, folder, **environment):
    """Run code of the page with the programs of the recipes, and return the values of expressions after it."""
    if not (PROGRAMS / "python").exists():
        pytest.skip(f"the programs of the recipes are not at hand: {GET}")
    script = f"{code}\nimport json\nprint(json.dumps([{', '.join(shown)}], default=str))\n"
    return json.loads(run([PROGRAMS / "python", "-W", "error", "-c", script], folder, **environment))


@pytest.fixture
def export(fresh_archive_url, tmp_path):
    """A folder with ``export`` in it, as `facet export data -o export` writes it."""
    export_dataset(fresh_archive_url, tmp_path / "export", write_parquet, lambda _: None)
    return tmp_path


def test_adbc(reader, tmp_path):
    (code,) = section("ADBC", "python")
    shown = ("people.to_pylist()", "faces.num_rows", "str(faces.schema.field('embedding').type)", "faces[2][0].as_py()")
    people, faces, kind, attributes = run_python(code, shown, tmp_path, READER=reader)
    assert [row["name"] for row in people] == ["Ada", "Bo", "Eve"]
    assert faces == ask(reader, "SELECT count(*) FROM faces WHERE age IS NOT NULL")[1][0][0] > 0
    assert kind == "list<item: float>"
    assert set(json.loads(attributes)) == {"Smiling", "Eyeglasses"}


def test_adbc_does_not_read_vectors_and_numeric(reader, tmp_path):
    """The page says so; when it can, the page and its casts are to be shortened."""
    (code,) = section("ADBC", "python")
    code = code.replace("embedding::real[] AS embedding, attributes::text", "embedding, 1.5::numeric, attributes")
    kinds = run_python(code, ["[str(field.type) for field in faces.schema]"], tmp_path, READER=reader)[0]
    assert ["opaque" in kind for kind in kinds] == [False, True, True, False]
    assert "type_name=numeric" in kinds[2]
    assert "json" in kinds[3]


def test_polars(reader, export):
    (code,) = section("polars", "python")
    genders, jobs = run_python(code, ("by_gender.rows()", "of_jobs.rows()"), export, READER=reader)
    (query,) = re.findall(r'query = "(.+)"', code)
    assert [tuple(row) for row in genders] == ask(reader, query)[1]
    assert jobs == [[1, ask(reader, "SELECT count(*) FROM faces WHERE dropped_reason IS NULL")[1][0][0]]]


def test_duckdb(reader, export):
    (code,) = section("DuckDB", "python")
    screen_time, longest = run_python(code, ("screen_time", "longest"), export, READER=reader)
    people = ask(reader, "SELECT name, screen_seconds FROM people ORDER BY 2 DESC, 1")[1]
    assert [tuple(row) for row in screen_time] == people
    wanted = "SELECT person_id, max(screen_seconds) FROM appearances GROUP BY 1"
    assert {tuple(row) for row in longest} == set(ask(reader, wanted)[1])


def test_r(reader, embedded_postgres, tmp_path):
    if shutil.which("Rscript") is None:
        pytest.skip("R is not at hand: apt-get install r-base-core r-cran-dbi r-cran-rpostgresql")
    code, csv = section("R", "r")
    (written,) = re.findall(r'`facet (sql "[^`]+" -o media.csv)`', PAGE)
    facet = Path(sys.executable).with_name("facet")
    run([facet, *shlex.split(written)], tmp_path, FACET_DATABASE_URL=embedded_postgres.url)
    query = parse_url(embedded_postgres.reader_url).query
    shown = "write.csv(people)\nwrite.csv(faces)\nwrite.csv(media)\ncat(class(model))"
    out = run(
        ["Rscript", "-e", f"options(warn = 2)\n{code}\n{csv}\n{shown}"], tmp_path, PGHOST=query["host"],
        PGPORT=query["port"], PGPASSWORD="",
    )  # fmt: skip
    people = ask(reader, "SELECT person_id, name, age, gender, media_count FROM people ORDER BY person_id")[1]
    assert [int(number) for number in re.findall(r'^"\d+",(\d+),"(?:Ada|Bo|Eve)",', out, re.MULTILINE)] == [
        p[0] for p in people
    ]
    for gender, count in ask(reader, "SELECT gender, count(*) FROM faces WHERE gender IS NOT NULL GROUP BY 1")[1]:
        assert re.search(rf'^"\d+","{gender}",{count}$', out, re.MULTILINE), out
    for number, kind, faces in ask(reader, "SELECT media_id, kind, face_count FROM media WHERE face_count > 0")[1]:
        assert re.search(rf'^"\d+",{number},"{kind}",{faces}$', out, re.MULTILINE), out
    assert out.endswith("lm")


def sources(url):
    """Return the sources of a dbt project: all views with their columns, types and meanings."""
    with describe_views(url) as result:
        views = list(result)
    tables = []
    for view, meaning in views:
        with describe_columns(url, view) as result:
            columns = [{"name": name, "data_type": kind, "description": text} for name, kind, text in result]
        tables.append({"name": view, "description": meaning, "columns": columns})
    source = {"name": "facet", "schema": "facet", "description": "Views of Facet.", "tables": tables}
    return SOURCES_HEAD + yaml.safe_dump(
        {"version": 2, "sources": [source]}, sort_keys=False, width=1000, allow_unicode=True
    )


def test_the_sources_of_dbt_are_the_views_with_their_comments(archive_url):
    wanted = sources(archive_url)
    if os.environ.get("FACET_REWRITE_DOCS"):
        SOURCES.write_text(wanted, encoding="utf-8")
    assert SOURCES.read_text(encoding="utf-8") == wanted, "write it again with FACET_REWRITE_DOCS=1"


@pytest.fixture
def dbt_login(reader, fresh_archive_url):
    """The login of the page, which owns a schema; gone after the test."""
    (statements,) = section("dbt", "sql")
    with psycopg.connect(libpq(fresh_archive_url), autocommit=True) as connection:
        connection.execute(statements)
        yield "facet_dbt"
        connection.execute("DROP SCHEMA marts CASCADE")
        connection.execute("DROP ROLE facet_dbt")


@pytest.mark.slow
def test_dbt_builds_its_tables_from_the_views(reader, dbt_login, tmp_path):
    if not (PROGRAMS / "dbt").exists():
        pytest.skip(f"dbt is not at hand: {GET}")
    shutil.copytree(PROJECT, tmp_path / "project")
    host = parse_url(reader).query
    out = run(
        [PROGRAMS / "dbt", "--no-use-colors", "--no-version-check", "build", "--profiles-dir", "."],
        tmp_path / "project", PGHOST=host["host"], PGPORT=host["port"], PGUSER=dbt_login, PGPASSWORD="dbt-password",
    )  # fmt: skip
    assert "WARN=0 ERROR=0 SKIP=0" in out, out
    assert "eprecat" not in out.partition("Running with dbt")[2].partition("Registered adapter")[2], out
    address = reader.replace("facet_reader", dbt_login)
    shares = ask(address, "SELECT media_id, sum(share) FROM marts.screen_time GROUP BY 1")[1]
    assert [share for _, share in shares] == [pytest.approx(1)] * 2
    assert ask(address, "SELECT year, sum(files) FROM marts.person_years GROUP BY 1")[1] == [(1975, 3)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(address, "SELECT * FROM facet.media_file")


def expanded(query, job):
    """Return the query of a panel, as Grafana sends it for the last week."""
    query = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN now() - interval '7 days' AND now()", query)
    query = re.sub(r"\$__timeGroupAlias\((\w+), '1h'\)", r'floor(extract(epoch from \1)/3600)*3600 AS "time"', query)
    query = query.replace("$job", job)
    assert "$" not in query
    return query


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_the_panels_of_the_dashboard_find_rows(reader, panel):
    (variable,) = DASHBOARD["templating"]["list"]
    names, (row, *_) = ask(reader, variable["query"])
    assert names == ["__text", "__value"]
    (target,) = panel["targets"]
    names, rows = ask(reader, expanded(target["rawSql"], variable["allValue"]))
    assert rows
    assert (names, rows) == ask(reader, expanded(target["rawSql"], f"'{row[1]}'"))
    none = ask(reader, expanded(target["rawSql"], "'0'"))[1]
    assert none != rows or "media_id" not in target["rawSql"]
    if panel["type"] == "stat":
        assert len(rows) == len(names) == 1
        assert rows[0][0] > 0
    if panel["type"] == "barchart":
        assert panel["options"]["xField"] == names[0]
        assert isinstance(rows[0][0], str)
    if target["format"] == "time_series":
        assert names[:2] == ["time", "metric"]


@pytest.mark.parametrize(("title", "question"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_the_questions_for_metabase_find_rows(reader, title, question):
    values = {
        "kind": "'image'",
        "name": "'Ad'",
        "person": str(ask(reader, "SELECT max(person_id) FROM people")[1][0][0]),
    }
    assert ask(reader, re.sub(r"\[\[.*?\]\]", "", question))[1]
    chosen = re.sub(r"\{\{(\w+)\}\}", lambda name: values[name[1]], re.sub(r"\[\[(.*?)\]\]", r"\1", question))
    assert "{{" not in chosen
    assert ask(reader, chosen)[1]


def test_there_are_questions_for_metabase():
    assert len(QUESTIONS) == SAVED.count(";\n") > 5


def test_the_page_for_metabase_names_columns_that_exist(archive_url):
    page = (ROOT / "docs" / "dashboards.md").read_text()
    table = page.partition("| column | type |")[2].partition("\n\n")[0]
    named = re.findall(r"`(?:(\w+)\.)?(\w+)`", table)
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'facet'"
    with run_query(archive_url, query) as result:
        columns = set(result)
    known = {column for _, column in columns}
    assert len(named) > 30
    assert [pair for pair in named if not (pair in columns or (not pair[0] and pair[1] in known))] == []
