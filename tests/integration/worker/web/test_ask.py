"""Questions on the page: answers, mistakes with their place, limits, files, and nothing that a query could break."""

from __future__ import annotations

import io
import json
import threading
import time
from urllib.parse import urlencode

import pytest
from pyarrow import parquet
from sqlalchemy import text

from db.reader.questions import read_questions
from worker.web.queries import answers, downloads

HOSTILE = "<script>alert(1)</script>"
SLOW = "SELECT count(*) FROM generate_series(1, 100000000000)"


def asked(browser, query, status=200, **more):
    return browser.get(f"/ask/sql?{urlencode({'q': query} | more)}", status)


@pytest.mark.parametrize("question", read_questions(), ids=lambda one: one.name)
def test_every_question_has_a_page(people, browser, question):
    page = browser.get(f"/ask/{question.name}").text
    assert f"<h1>{question.title}</h1>".replace("'", "&#39;") in page
    for one in question.parameters:
        assert f'name="{one.name}" value="{one.usual}"' in page
    assert f'href="/ask/{question.name}"' in browser.get("/ask").text


def test_a_parameter_is_asked_with(people, browser):
    page = browser.get("/ask/who-is-in-the-most-files?people=2").text
    assert "2 rows." in page
    assert 'name="people" value="2"' in page
    assert "LIMIT 2" in page


def test_a_wrong_parameter_says_what_is_expected(browser):
    page = browser.get("/ask/who-is-in-the-most-files?people=many", 400).text
    assert "people is &#39;many&#39;; expected a whole number from 0" in page


def test_a_question_that_is_not_there(browser):
    browser.get("/ask/why-is-the-sky-blue", 404)


def test_a_mistake_shows_its_place_in_the_query_as_written(browser):
    page = asked(browser, "SELECT name,\n       nam\nFROM people", 400).text
    assert "column &#34;nam&#34; does not exist" in page
    assert "line 2:        nam\n               ^" in page


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM facet.face", "expected one SELECT"),
        ("UPDATE facet.person SET name = 'x'", "expected one SELECT"),
        ("WITH gone AS (DELETE FROM facet.face RETURNING 1) SELECT * FROM gone", ""),
        ("SELECT 1; DELETE FROM facet.face", ""),
        ("SELECT 1) AS answer; DELETE FROM facet.face; --", ""),
        ("SELECT * FROM facet.face", "expected one of the views"),
        ("SELECT pg_read_file('/etc/passwd')", "without side effects"),
        ("SELECT pg_ls_dir('/')", "without side effects"),
        ("SELECT pg_sleep(60)", "without side effects"),
        ("SELECT set_config('role', 'postgres', false)", "without side effects"),
        ("SELECT lo_import('/etc/passwd')", "without side effects"),
        ("COPY people TO '/tmp/x'", "expected one SELECT"),
        ("SELECT repeat('x', 200000) AS x", "a row takes 2"),
        ("SELECT repeat('x', 1000000000) AS x FROM generate_series(1, 50)", ""),
    ],
)
def test_a_query_reads_the_views_and_does_nothing_else(people, browser, query, message):
    count = text("SELECT count(*) FROM face")
    before = people.session.execute(count).scalar_one()
    assert message in asked(browser, query, 400).text
    people.session.rollback()
    assert people.session.execute(count).scalar_one() == before > 0


def test_a_query_that_takes_too_long_is_ended(browser, monkeypatch):
    monkeypatch.setattr(answers.answer, "__kwdefaults__", {"limit": 10, "seconds": 0.5})
    began = time.monotonic()
    assert "took longer than 0.5 s" in asked(browser, SLOW, 400).text
    assert time.monotonic() - began < 10


def test_a_billion_rows_are_a_page_of_some(browser):
    rows = "SELECT generate_series(1, 1000000000) AS n"
    page = asked(browser, f"SELECT n, n % 3 AS third FROM ({rows}) AS s").text
    assert "The first 1,000 rows" in page
    assert page.count("<tr>") == 1 + answers.MAX_PAGE_ROWS
    assert "only.third=2" in page


def test_values_are_escaped_wherever_they_show(browser):
    query = f"SELECT '{HOSTILE}' AS \"{HOSTILE}\", chr(8238) || 'x' AS turned FROM generate_series(1, 4) AS n"
    narrowed = {f"only.{HOSTILE}": HOSTILE}
    for page in (asked(browser, query).text, asked(browser, query, **narrowed).text):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "\u202e" not in page
        assert "\\u202ex" in page


def test_hostile_names_of_charts_and_facets_are_escaped(browser):
    query = "SELECT '<img src=x onerror=alert(1)>' || n % 2 AS name, n AS faces FROM generate_series(1, {}) AS n"
    assert "<img src=x" not in asked(browser, query.format(2)).text
    assert "<img src=x" not in asked(browser, query.format(9)).text
    assert 'class="bars"' in asked(browser, query.format(2)).text


def test_rows_are_narrowed_by_links(people, browser):
    query = "SELECT person_id, media_id FROM appearances"
    page = asked(browser, query).text
    assert "only.person_id=1" in page
    narrowed = asked(browser, query, **{"only.person_id": "1"}).text
    assert "3 rows." in narrowed
    assert "person_id is 1" in narrowed
    assert 'href="/people/1"' in narrowed
    assert "0 rows." in asked(browser, query, **{"only.person_id": "1", "null": "media_id"}).text
    assert "does not exist" in asked(browser, query, 400, **{"only.nothing": "1"}).text


def test_a_question_is_narrowed_and_keeps_its_parameters(people, browser):
    page = browser.get("/ask/who-is-in-the-most-files?people=3&only.media_count=3").text
    assert "3 rows." in page
    assert 'name="people" value="3"' in page
    assert 'href="/ask/who-is-in-the-most-files?people=3"' in page


def test_times_are_a_line_and_names_are_bars(browser):
    line = asked(browser, "SELECT 1950 + n AS year, n * n AS faces FROM generate_series(1, 9) AS n").text
    assert "<polyline points=" in line
    assert "faces from 1951 to 1959, between 0 and 81" in line
    assert "style=" not in line
    bars = asked(browser, "SELECT * FROM (VALUES ('female', 8), ('male', 2)) AS t (gender, faces)").text
    assert '<rect width="25.0" height="10"/>' in bars
    assert "style=" not in bars


def test_files_hold_all_rows(people, browser):
    query = "SELECT n, CASE n WHEN 2 THEN '=1+1' END AS word FROM generate_series(1, 1500) AS n"
    table = asked(browser, query, format="csv")
    assert table.text.splitlines()[:3] == ["n,word", "1,", "2,'=1+1"]
    assert len(table.text.splitlines()) == 1501
    assert table.headers["content-disposition"] == 'attachment; filename="answer.csv"'
    assert len(json.loads(asked(browser, query, format="json").text)) == 1500
    assert parquet.read_table(io.BytesIO(asked(browser, query, format="parquet").content)).num_rows == 1500
    named = browser.get("/ask/who-is-in-the-most-files?people=2&format=csv")
    assert named.headers["content-disposition"] == 'attachment; filename="who-is-in-the-most-files.csv"'
    asked(browser, query, 400, format="exe")


def test_a_file_that_would_be_too_large_is_refused_and_leaves_nothing(browser, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(downloads, "MAX_FILE_BYTES", 10_000)
    query = "SELECT repeat('x', 1000) AS x FROM generate_series(1, 100)"
    assert "more than 1,000,000 rows or 0 MB" in asked(browser, query, 400, format="csv").text
    assert "does not exist" in asked(browser, "SELECT y", 400, format="parquet").text
    assert asked(browser, "SELECT 1 AS x", format="csv").text == "x\r\n1\r\n"
    assert list(tmp_path.glob("facet-answer*")) == []


def test_an_empty_form_and_a_long_one(browser):
    assert "<textarea" in browser.get("/ask/sql").text
    asked(browser, "SELECT 1 --" + "x" * 20_000, 400)


def test_columns_are_explained(browser):
    page = browser.get("/ask/columns").text
    assert "appearance_count" in page
    assert "FROM+people" in page or "FROM%20people" in page


def test_a_reader_may_ask(people, as_role):
    from worker.web.access.visitor import Role

    with as_role(Role.READER) as reader:
        assert "3 rows." in asked(reader, "SELECT 1 FROM people LIMIT 3").text


def statements(session):
    session.rollback()
    found = session.execute(
        text("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'facet web %' AND state = 'active'")
    )
    return found.scalar_one()


def test_only_so_many_questions_are_answered_at_once(people, desk, browser):
    taken = [desk.turns.take() for _ in range(4)]
    for one in taken:
        one.__enter__()
    desk.turns._wait = 0.2
    assert "questions are being answered" in asked(browser, "SELECT 1", 503).text
    for one in taken:
        one.__exit__(None, None, None)
    asked(browser, "SELECT 1")


def test_a_visitor_who_leaves_ends_the_query(people, desk, door):
    """A real server, since the test client never leaves."""
    import socket

    import uvicorn

    from worker.web.app import build_app

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    own = type(door)(port)
    server = uvicorn.Server(uvicorn.Config(build_app(desk, own), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    head = f"Host: 127.0.0.1:{port}\r\n"
    with socket.create_connection(("127.0.0.1", port)) as first:
        first.sendall(f"GET /?token={own.token} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        cookie = first.makefile().read().partition("set-cookie: ")[2].partition(";")[0]
    leaving = socket.create_connection(("127.0.0.1", port))
    leaving.sendall(f"GET /ask/sql?{urlencode({'q': SLOW})} HTTP/1.1\r\n{head}Cookie: {cookie}\r\n\r\n".encode())
    until = time.monotonic() + 10
    while not statements(people.session):
        assert time.monotonic() < until
        time.sleep(0.05)
    leaving.close()
    until = time.monotonic() + 10
    while statements(people.session):
        assert time.monotonic() < until
        time.sleep(0.05)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
