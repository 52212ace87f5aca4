"""Wrong use and broken surroundings: one line that says what to do, the right exit status, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.acceptance.conftest import FACET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def one_line(done):
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("facet: ")
    return lines[0]


def test_a_path_that_is_not_there(facet, tmp_path):
    assert "does not exist" in one_line(facet("analyze", tmp_path / "nowhere", status=2))


def test_an_empty_folder(facet, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no files" in one_line(facet("analyze", tmp_path / "empty", status=2))


def test_a_folder_of_text_files_is_told_file_by_file(facet, tmp_path):
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number}")
    done = facet("analyze", tmp_path / "texts", status=0)
    assert done.stdout.count("not_media") == 3
    facet("analyze", tmp_path / "texts", "--strict", status=1)


def test_names_of_files_are_shown_as_what_they_are(facet, tmp_path):
    folder = tmp_path / os.fsdecode(b"dir\xe9")
    (folder / "mark[").mkdir(parents=True)
    names = [b"mark[/b].txt", b"red[red].txt", b"smile:heart:.txt", b"esc\x1b[2J.txt", b"two\nlines.txt", b"x\xe9.txt"]
    for name in names:
        (folder / os.fsdecode(name)).write_text("text")
    shown = ["mark[/b].txt", "red[red].txt", "smile:heart:.txt", "esc\\x1b[2J.txt", "two\\nlines.txt", "x\\xe9.txt"]
    done = facet("analyze", folder).stdout
    rows = facet("sql", "SELECT uri FROM media").stdout
    assert "\x1b" not in done + rows
    for name in shown:
        assert name in "".join(line.strip("│ ") for line in done.splitlines()) or name in done
        assert name in rows
    assert "dir\\xe9" in facet("status").stdout
    receipt = facet("forget", "--media", folder / os.fsdecode(b"x\xe9.txt"), "--yes").stdout
    assert json.loads(receipt)["asked"].endswith("dir\\xe9/x\\xe9.txt")
    assert "no UTF-8" in one_line(facet("sql", os.fsdecode(b"SELECT '\xe9'"), status=2))


def test_a_file_without_the_right_to_read_it(facet, tmp_path):
    (tmp_path / "secret").mkdir()
    secret = tmp_path / "secret" / "secret.jpg"
    secret.write_bytes(b"\xff\xd8\xff")
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read everything")
    assert "no_permission" in facet("analyze", tmp_path / "secret", status=1).stdout


def test_an_unreachable_database(facet, tmp_path):
    facet.settings["FACET_DATABASE_URL"] = "postgresql://someone:secret@127.0.0.1:1/facet"
    (tmp_path / "text.txt").write_text("text")
    line = one_line(facet("analyze", tmp_path / "text.txt", status=1))
    assert "secret" not in line
    assert "127.0.0.1" in line


def test_a_database_without_tables(facet, tmp_path, embedded_postgres):
    from sqlalchemy import text

    from db.engine import make_engine

    engine = make_engine(embedded_postgres.url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS empty"))
        connection.execute(text("CREATE DATABASE empty"))
    engine.dispose()
    facet.settings["FACET_DATABASE_URL"] = embedded_postgres.url.replace("/facet?", "/empty?")
    (tmp_path / "text.txt").write_text("text")
    assert "facet db upgrade" in one_line(facet("analyze", tmp_path / "text.txt", status=1))


def test_a_home_that_cannot_be_made(facet, tmp_path):
    (tmp_path / "file").write_text("a file where a folder was expected")
    facet.home = tmp_path / "file" / "home"
    (tmp_path / "text.txt").write_text("text")
    assert "FACET_HOME" in one_line(facet("analyze", tmp_path / "text.txt", status=1))


def test_a_second_analysis_on_the_same_home(facet, tmp_path):
    import fcntl

    facet.home.mkdir()
    (tmp_path / "text.txt").write_text("text")
    with (facet.home / "analyze.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = one_line(facet("analyze", tmp_path / "text.txt", status=2))
    assert "another `facet analyze`" in line


def test_a_setting_that_cannot_be_used(facet, tmp_path):
    facet.settings["FACET_DECODERS"] = "many"
    (tmp_path / "text.txt").write_text("text")
    assert "FACET_DECODERS" in one_line(facet("analyze", tmp_path / "text.txt", status=2))


def test_a_head_that_does_not_exist(facet, tmp_path):
    facet.settings["FACET_HEADS"] = "shoe_size"
    (tmp_path / "text.txt").write_text("text")
    line = one_line(facet("analyze", tmp_path / "text.txt", status=2))
    assert "shoe_size" in line
    assert "gender" in line


def test_a_query_that_is_no_sql_and_one_that_writes(facet):
    assert "expected one SELECT" in one_line(facet("sql", "SELEC 1", status=2))
    one_line(facet("sql", "DELETE FROM media_file", status=2))


def test_a_full_disk_says_so_and_keeps_the_work(facet, shared_data):
    facet.settings["FACET_CROPS_URL"] = "/dev/full/crops"
    line = one_line(facet("analyze", shared_data / "hard_inputs" / "uniface", status=1))
    assert "FACET_CROPS_URL" in line
    del facet.settings["FACET_CROPS_URL"]
    facet("analyze", shared_data / "hard_inputs" / "uniface")
    assert facet.value("SELECT sum(pending) FROM jobs") == 0


def test_unknown_words_are_wrong_use(facet):
    assert facet("analyse", status=2).stderr
    assert facet("analyze", status=2).stderr


def test_a_reader_that_has_enough_ends_a_query_silently(facet):
    query = f"'{FACET}' sql 'SELECT generate_series(1, 1000000) AS n' --format csv"
    script = f"{query} | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=facet.environment, check=True, capture_output=True, text=True)
    assert done.stdout == "n\n1\n141\n"
    assert "error" not in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_a_query_comes_from_a_file_and_its_format_from_the_ending(facet, tmp_path):
    (tmp_path / "query.sql").write_text("SELECT 1 AS n,\n  'a' AS t")
    facet("sql", "-f", tmp_path / "query.sql", "-o", tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == [{"n": 1, "t": "a"}]
    assert json.loads(facet("sql", "-f", tmp_path / "query.sql", "--json").stdout) == [{"n": 1, "t": "a"}]
    assert ".csv, .json, .parquet" in one_line(facet("sql", "SELECT 1", "-o", tmp_path / "rows.xls", status=2))
    assert "expected one of them" in one_line(facet("sql", "SELECT 1", "-f", tmp_path / "query.sql", status=2))
    assert "cannot be read" in one_line(facet("sql", "-f", tmp_path / "nowhere.sql", status=2))
