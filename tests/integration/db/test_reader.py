from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from db.engine import make_engine
from db.errors import DatabaseUnreachable, QueryError, WrongQuery
from db.reader.run_query import HARMLESS, run_query


@pytest.fixture(scope="module", params=["login", "set role"])
def reader_url(request, database_url):
    """The database as its owner, once with and once without a reader that may log in by itself."""
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE job CASCADE"))
        connection.execute(text(f"ALTER ROLE facet_reader {'LOGIN' if request.param == 'login' else 'NOLOGIN'}"))
        connection.execute(text("INSERT INTO job (name) VALUES ('first'), ('second')"))
    yield database_url
    with engine.begin() as connection:
        connection.execute(text("ALTER ROLE facet_reader LOGIN"))
        jobs = connection.execute(text("SELECT name FROM job ORDER BY 1")).scalars().all()
    engine.dispose()
    assert jobs == ["first", "second"], "a query has written"


def ask(url, query, **options):
    with run_query(url, query, **options) as result:
        return list(result)


def test_rows_columns_and_types(reader_url):
    query = """SELECT 1::int4 AS number, 'x' AS word, ARRAY[1.5]::real[] AS list, '{"a": [1]}'::jsonb AS document,
               '[1,2.5]'::vector AS vector, name FROM jobs ORDER BY name"""
    with run_query(reader_url, query) as result:
        assert result.columns == ["number", "word", "list", "document", "vector", "name"]
        assert result.types == ["int4", "text", "_float4", "jsonb", "vector", "text"]
        rows = list(result)
    assert rows == [(1, "x", [1.5], {"a": [1]}, [1.0, 2.5], name) for name in ("first", "second")]


def test_parameters_limit_and_percent_signs(reader_url):
    assert ask(reader_url, "SELECT name FROM jobs WHERE name LIKE 'f%'") == [("first",)]
    assert ask(reader_url, "SELECT name FROM jobs WHERE name = %s", parameters=("second",)) == [("second",)]
    assert ask(reader_url, "SELECT %(a)s::int", parameters={"a": 5}) == [(5,)]
    assert len(ask(reader_url, "SELECT generate_series(1, 100)", limit=7)) == 7


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1;",
        "TABLE jobs",
        "VALUES (1)",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "EXPLAIN SELECT * FROM faces",
        "EXPLAIN (ANALYZE, COSTS off) SELECT * FROM faces",
        "SELECT '[1,2]'::vector <=> '[2,1]'",
        "SELECT l2_distance('[1]'::vector, '[2]'), random(), now()",
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'facet'",
    ],
)
def test_questions_are_answered(reader_url, query):
    assert ask(reader_url, query)


def test_a_million_rows_are_streamed(reader_url):
    import tracemalloc

    tracemalloc.start()
    with run_query(
        reader_url, "SELECT i, repeat('x', 100) FROM generate_series(1, 1000000) AS i", limit=50_000
    ) as result:
        assert sum(1 for _ in result) == 50_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


# What somebody would try who wants more than the views. Each is refused under both kinds of log-in.
ATTEMPTS = {
    "read a base table": "SELECT * FROM facet.face",
    "read it by TABLE": "TABLE facet.media_file",
    "read passwords": "SELECT rolpassword FROM pg_authid",
    "two statements": "SELECT 1; DELETE FROM facet.job",
    "end the transaction": "SELECT 1; COMMIT; DELETE FROM facet.job",
    "two statements after EXPLAIN": "EXPLAIN SELECT 1; DELETE FROM facet.job",
    "delete": "DELETE FROM facet.job",
    "write in a WITH": "WITH gone AS (DELETE FROM facet.job RETURNING *) SELECT * FROM gone",
    "write in an analysed plan": "EXPLAIN ANALYZE DELETE FROM facet.job",
    "write in an analysed WITH": "EXPLAIN ANALYZE WITH g AS (DELETE FROM facet.job RETURNING *) TABLE g",
    "make a table in an analysed plan": "EXPLAIN ANALYZE CREATE TABLE public.mine AS SELECT 1",
    "make a table": "SELECT 1 AS a INTO public.mine",
    "make a temporary table": "CREATE TEMP TABLE mine AS SELECT 1",
    "lock rows": "SELECT * FROM facet.releases FOR UPDATE",
    "become somebody else": "SET ROLE postgres",
    "become oneself": "RESET ROLE",
    "become oneself, later": "SELECT set_config('role', 'none', false)",
    "and read meanwhile": "SELECT set_config('role','none',true), query_to_xml('TABLE facet.face', true, true, '')",
    "in other words": "SELECT pg_catalog.\"set_config\" ('role', 'postgres', true)",
    "behind a comment": "SELECT set_config/* */\n('role', 'postgres', true)",
    "behind a backslash": r"SELECT E'\'', set_config('role', 'none', true), ''",
    "in Unicode": "SELECT U&\"\\0073et_config\"('role', 'none', true)",
    "through settings": "UPDATE pg_settings SET setting = 'postgres' WHERE name = 'role'",
    "through settings in a WITH": "WITH u AS (UPDATE pg_settings SET setting = 'x' RETURNING 1) TABLE u",
    "without a limit": "SELECT set_config('statement_timeout', '0', false)",
    "run text as SQL": "SELECT query_to_xml('SELECT 1', true, true, '')",
    "read a file": "SELECT pg_read_file('postgresql.conf')",
    "list a folder": "SELECT * FROM pg_ls_dir('.')",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "write a file": "COPY (SELECT 1) TO '/tmp/mine'",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "read by COPY": "COPY facet.face TO STDOUT",
    "a block of code": "DO $$ BEGIN DELETE FROM facet.job; END $$",
    "call a procedure": "CALL nothing()",
    "stop others": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "hold the migrations' lock": "SELECT pg_advisory_lock(439788799348)",
    "take ids": "SELECT nextval('facet.job_job_id_seq')",
    "sleep": "SELECT pg_sleep(1)",
    "prepare": "PREPARE p AS SELECT 1",
    "listen": "LISTEN somebody",
    "shout": "SELECT pg_notify('somebody', 'hello')",
    "make a large object": "SELECT lo_create(0)",
    "read settings of the server": "SELECT * FROM pg_hba_file_rules",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nobody_gets_more_than_the_views(reader_url, attempt):
    with pytest.raises(QueryError) as caught:
        ask(reader_url, ATTEMPTS[attempt])
    assert "\n" not in str(caught.value).partition("\nline ")[0], "but for the place of the mistake"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FORM people", "line 1: SELECT * FORM people\n                 ^"),
        ("SELECT *\nFROM people\n WHERE nobody = 1", "line 3:  WHERE nobody = 1\n               ^"),
        ("EXPLAIN SELECT nobody FROM people", "line 1: EXPLAIN SELECT nobody FROM people\n                       ^"),
        ("SELECT " + "1, " * 100 + "nobody", "1, nobody\n" + " " * 58 + "^"),
        ("SELECT 'a' -- \u00e4\u5c71\n, nobody", "line 2: , nobody\n          ^"),
    ],
)
def test_a_mistake_is_shown_in_its_line(reader_url, query, shown):
    with pytest.raises(WrongQuery) as caught:
        ask(reader_url, query)
    assert str(caught.value).endswith(f"\n{shown}" if shown.startswith("line") else shown)


def test_a_query_that_fails_at_its_data_is_not_wrong(reader_url):
    with pytest.raises(QueryError) as caught:
        ask(reader_url, "SELECT 1/0")
    assert not isinstance(caught.value, WrongQuery)


def test_the_reader_itself_is_held_by_its_role(reader_url, embedded_postgres):
    # What would be left if the look at the text were fooled: the role and the transaction.
    engine = make_engine(embedded_postgres.url)
    for attempt in ("SELECT * FROM facet.face", "DELETE FROM facet.job", "SELECT pg_read_file('PG_VERSION')"):
        with engine.connect() as connection:
            connection.execute(text("SET ROLE facet_reader"))
            with pytest.raises(Exception, match="permission denied"):
                connection.execute(text(attempt))
    engine.dispose()


def test_functions_of_others_that_could_run_sql_are_refused(reader_url):
    engine = make_engine(reader_url)
    with engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION public.crosstab(t text) RETURNS int STABLE LANGUAGE sql AS 'SELECT length(t)'")
        )
    try:
        with pytest.raises(QueryError, match="crosstab"):
            ask(reader_url, "SELECT crosstab('x')")
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION public.crosstab"))
        engine.dispose()


def test_harmless_functions_exist(reader_url):
    found = ask(
        reader_url, "SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY(%s)", parameters=(list(HARMLESS),)
    )
    assert sorted(name for (name,) in found) == sorted(HARMLESS)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT nme FROM jobs", 'column "nme" does not exist; .*jobs.name'),
        ("SELECT * FROM nobody", "nobody.*does not exist; expected one of the views releases, media"),
        ("SELECT * FROM facet.face", "permission denied.*; expected one of the views"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT 1/0", "division by zero"),
        ("SELECT FROM WHERE", "syntax error"),
    ],
)
def test_errors_are_one_line_with_a_next_step(reader_url, query, told):
    with pytest.raises(QueryError) as caught:
        ask(reader_url, query)
    assert re.search(told, str(caught.value))
    assert "\n" not in str(caught.value).partition("\nline ")[0], "but for the place of the mistake"


def test_an_error_in_a_later_row_is_told_too(reader_url):
    query = "SELECT 1 / (5000 - i) FROM generate_series(1, 6000) AS i"
    with run_query(reader_url, query) as result, pytest.raises(QueryError, match="division"):
        list(result)


def test_slow_queries_end(reader_url):
    with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
        ask(reader_url, "SELECT count(*) FROM generate_series(1, 1000000000)", timeout_seconds=0.2)


def test_a_server_without_the_role_is_told_of_it(database_url):
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE somebody LOGIN"))
        connection.execute(text("ALTER ROLE facet_reader NOLOGIN"))
    try:
        with pytest.raises(QueryError, match="GRANT facet_reader"):
            ask(database_url.replace("//postgres@", "//somebody@"), "SELECT 1")
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP ROLE somebody"))
            connection.execute(text("ALTER ROLE facet_reader LOGIN"))
        engine.dispose()


def test_no_server_is_unreachable():
    with pytest.raises(DatabaseUnreachable, match="is it running"):
        ask("postgresql://somebody@localhost:1/facet", "SELECT 1")
