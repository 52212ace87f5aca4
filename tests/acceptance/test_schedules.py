"""`facet schedule`, and beats with workers that run what is due; reprocessing by schedule is in test_story.py."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import make_url

from db.server.embedded import EmbeddedPostgres
from tests.databases import copy_home
from worker.storage.home import make_home


def schedules(facet):
    return json.loads(facet("schedule", "list", "--json").stdout)


def test_schedules_are_listed_added_run_and_removed(facet):
    facet.databases = None  # the first times count from the making of the database
    found = schedules(facet)
    assert [(row["kind"], row["when"], row["created_by"]) for row in found] == [
        ("retention", "every 30s", "facet"),
        ("regroup", "every 1d", "facet"),
    ]
    until = datetime.fromisoformat(found[1]["next_at"]) - datetime.now(UTC)
    assert 86_000 < until.total_seconds() < 86_500
    added = facet("schedule", "add", "regroup", "--cron", "0 3 * * sun", "--tz", "Europe/Berlin").stdout
    assert added.startswith("schedule 3: regroup cron 0 3 * * sun Europe/Berlin, next at ")
    assert added.endswith("; it takes the place of schedule 2\n")
    assert json.loads(facet("schedule", "add", "regroup", "--every", "12h", "--json").stdout)["replaced"] == []
    assert facet("schedule", "run", "4").stdout == "schedule 4 has run: nothing was analysed yet\n"
    assert json.loads(facet("schedule", "run", "1", "--json").stdout)["result"] == "no file is due"
    assert facet("schedule", "remove", "3").stdout == (
        "schedule 3 (regroup) is removed: cron 0 3 * * sun Europe/Berlin\n"
    )
    rows = {row["schedule"]: row for row in schedules(facet)}
    assert set(rows) == {1, 4}
    assert rows[4]["last_result"] == "nothing was analysed yet"
    assert "regroup" in facet("schedule", "list").stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["add", "regroup"], "expected one of a period"),
        (["add", "regroup", "--every", "1h", "--cron", "0 3 * * *"], "expected one of a period"),
        (["add", "regroup", "--every", "soon"], "the period 'soon' cannot be used"),
        (["add", "retention", "--cron", "0 25 * * *"], "the cron expression '0 25 * * *' cannot be used (Bad hour)"),
        (["add", "retention", "--cron", "0 3 * * *", "--tz", "Berlin"], "there is no time zone 'Berlin'"),
        (["add", "regroup", "--window", "22:00-06:00", "--then", "diff"], "got --window, --then for regroup"),
        (["add", "reprocess", "--window", "22-6"], "the window '22-6' cannot be read"),
        (["add", "reprocess", "--window", "22:00-06:00", "--days", "weekdays"], "the days 'weekdays' cannot be read"),
        (["run", "7"], "there is no schedule 7"),
        (["remove", "7"], "there is no schedule 7"),
    ],
)
def test_wrong_use_is_refused(facet, words, error):
    assert error in facet("schedule", *words, status=2).stderr


@pytest.mark.slow
def test_two_beats_run_a_schedule_once_and_go_on_after_the_database_was_away(
    facet, redis_url, tmp_path, short_folder, prepared_database
):
    make_home(facet.home)
    copy_home(prepared_database, short_folder / "postgres")
    with EmbeddedPostgres(short_folder / "postgres") as server:
        facet.settings |= {"FACET_BROKER_URL": redis_url, "FACET_DATABASE_URL": server.url}
        execute(server, "UPDATE facet.schedule SET next_at = now() - interval '3 days' WHERE kind = 'regroup'")
        worker = [facet.start("worker", "--only", "upkeep", "--concurrency", "2")]
        beats = [facet.start("beat"), start_second_beat(facet, tmp_path)]
        facet.wait_for(lambda: regroups(server) == 1, 90, pause=1)
        time.sleep(25)  # two more looks of each beat
        assert regroups(server) == 1, "three missed days are caught up once"
    time.sleep(15)
    with EmbeddedPostgres(short_folder / "postgres") as server:
        assert server.url == facet.settings["FACET_DATABASE_URL"]
        execute(server, "UPDATE facet.schedule SET next_at = now() WHERE kind = 'regroup'")
        facet.wait_for(lambda: regroups(server) == 2, 150, pause=1)
        for process in worker + beats:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=90)
            assert "Traceback" not in output, output


def start_second_beat(facet, tmp_path):
    """Start a beat of another host, whose FACET_HOME is its own."""
    home, facet.home = facet.home, tmp_path / "second"
    try:
        return facet.start("beat")
    finally:
        facet.home = home


def execute(server, statement):
    place = make_url(server.url)
    with psycopg.connect(host=place.query["host"], user=place.username, dbname=place.database) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def regroups(server):
    rows = execute(server, "SELECT runs FROM facet.upkeep_run WHERE name = 'regroup'")
    return rows[0][0] if rows else 0
