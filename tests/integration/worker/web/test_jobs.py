"""Jobs on the page: figures, polling, and who may pause, resume and cancel."""

from __future__ import annotations

import logging
import time

import pytest
from sqlalchemy import text

from worker.web.access.visitor import Role
from worker.web.background import Running
from worker.web.pages.jobs import _POLL_SECONDS
from worker.web.queries.jobs import JOBS_PER_PAGE

PART = {"HX-Request": "true"}


def send(browser, path, fields, status=200):
    """Send a form of the page; its answer is the list."""
    return browser.post(path, {"back": "/jobs"} | fields, status)


@pytest.fixture
def job(archive):
    """A job of five files of which none was begun; its name is hostile."""
    counts = archive.submit(archive.files(1, 5), name="<b>parade</b>\u202e")
    return counts.job_id


def state(archive, job_id):
    with archive.sessions.begin() as session:
        row = session.execute(
            text("SELECT pending, cancelled, paused FROM jobs WHERE job_id = :id"), {"id": job_id}
        ).one()
    return tuple(row)


def wait_until_cancelled(archive, job_id):
    until = time.monotonic() + 20
    while state(archive, job_id)[0]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_jobs_are_listed_with_their_figures(archive, job, browser):
    page = browser.get("/jobs").text
    assert f'href="/jobs/{job}"' in page
    assert "&lt;b&gt;parade&lt;/b&gt;\\u202e" in page
    assert "<b>parade" not in page
    assert "running" in page


def test_a_job_shows_its_files_and_that_no_worker_runs(archive, job, browser):
    page = browser.get(f"/jobs/{job}").text
    assert "Pending</dt><dd>5" in page
    assert "facet worker" in page
    assert "Pause" in page


def test_failures_are_counted_by_reason(archive, job, browser):
    with archive.sessions.begin() as session:
        session.execute(
            text("""UPDATE analysis SET state = 'rejected', finished_at = now(),
                        reason = CASE WHEN analysis_id % 2 = 0 THEN 'truncated: <i>short</i>' ELSE 'not_media: no' END
                    WHERE analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :id)"""),
            {"id": job},
        )
    page = browser.get(f"/jobs/{job}").text
    assert "<code>truncated</code>" in page
    assert "<code>not_media</code>" in page
    assert "truncated: &lt;i&gt;short&lt;/i&gt;" in page
    assert f'href="/media?job={job}&amp;reason=truncated"' in page
    assert "reason" in browser.get(f"/media?job={job}&reason=truncated").text
    assert "every 3s" not in page


def test_a_page_asks_again_while_something_changes_and_then_loads_itself_whole(archive, job, browser, desk):
    page = browser.get(f"/jobs/{job}").text
    assert f'data-hx-trigger="every {_POLL_SECONDS}s"' in page
    part = browser.get(f"/jobs/{job}", headers=PART)
    assert "Pending</dt>" in part.text
    assert "<html" not in part.text
    assert "<table" in browser.get("/jobs", headers=PART).text
    send(browser, f"/jobs/{job}/cancel", {})
    wait_until_cancelled(archive, job)
    desk.memo.forget(("job", job))
    desk.memo.forget(("job line", job))
    for path in ("/jobs", f"/jobs/{job}"):
        last = browser.get(path, 204, headers=PART)
        assert last.headers["hx-refresh"] == "true"
        assert "data-hx-trigger" not in browser.get(path).text


def test_many_who_look_cost_one_query(archive, job, browser, desk, monkeypatch):
    from worker.web.pages import jobs

    reads = []
    read = jobs.queries.read_detail
    monkeypatch.setattr(jobs.queries, "read_detail", lambda *given: reads.append(1) or read(*given))
    desk.memo._now = lambda: 100.0
    for _ in range(5):
        browser.get(f"/jobs/{job}", headers=PART)
    assert len(reads) == 1


def test_a_job_is_paused_and_goes_on(archive, job, browser, caplog):
    with caplog.at_level(logging.INFO, "worker.web"):
        page = send(browser, f"/jobs/{job}/pause", {"back": f"/jobs/{job}"}).text
        assert f"Job {job} is paused" in page
        assert "Resume" in page
        assert state(archive, job) == (5, 0, True)
        page = send(browser, f"/jobs/{job}/pause", {"back": f"/jobs/{job}"}).text
        assert "was paused already" in page
        page = send(browser, f"/jobs/{job}/resume", {"back": f"/jobs/{job}"}).text
        assert f"Job {job} goes on" in page
    assert state(archive, job) == (5, 0, False)
    noted = [(one.change, one.job_id) for one in caplog.records if getattr(one, "action", "") == "job_changed"]
    assert noted == [("pause", job), ("pause", job), ("resume", job)]


def test_a_job_is_cancelled_in_the_background(archive, job, browser):
    page = send(browser, f"/jobs/{job}/cancel", {"back": f"/jobs/{job}"}).text
    assert "is being cancelled" in page
    wait_until_cancelled(archive, job)
    assert state(archive, job) == (0, 5, False)


def test_a_job_that_is_being_cancelled_shows_how_far_it_is(archive, job, browser, desk, monkeypatch):
    import threading

    go = threading.Event()
    desk.background.start(("cancel", job), lambda show: show("4,000 units cancelled") or go.wait(20))
    until = time.monotonic() + 10
    while not desk.background.state(("cancel", job)).note:
        assert time.monotonic() < until
    page = browser.get(f"/jobs/{job}").text
    assert "cancelling" in page
    assert "4,000 units cancelled" in page
    assert isinstance(desk.background.state(("cancel", job)), Running)
    assert "being cancelled already" in send(browser, f"/jobs/{job}/cancel", {"back": f"/jobs/{job}"}).text
    go.set()


@pytest.mark.parametrize("role", [Role.READER, Role.REVIEWER])
@pytest.mark.parametrize("change", ["pause", "resume", "cancel"])
def test_only_an_operator_changes_a_job(archive, job, as_role, role, change):
    with as_role(role) as visitor:
        page = visitor.get(f"/jobs/{job}").text
        assert "<form" not in page
        refused = send(visitor, f"/jobs/{job}/{change}", {}, 403)
        assert "this needs a operator" in refused.text or "operator" in refused.text
    assert state(archive, job) == (5, 0, False)


def test_without_the_token_of_the_page_nothing_is_cancelled(archive, job, browser):
    assert browser.client.post(f"/jobs/{job}/cancel", data={}).status_code == 403
    assert browser.client.post(f"/jobs/{job}/cancel", data={"csrf": "0" * 64}).status_code == 403
    assert browser.client.get(f"/jobs/{job}/cancel").status_code == 405
    assert state(archive, job) == (5, 0, False)


def test_a_job_that_is_not_there(browser):
    browser.get("/jobs/999", 404)
    send(browser, "/jobs/999/cancel", {}, 404)
    send(browser, "/jobs/999/pause", {}, 400)
    browser.get("/jobs?before=x", 400)
    browser.get("/jobs/99999999999999999999999", 404)


def test_an_ended_job_cannot_be_paused(archive, browser):
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET finished_at = now()"))
    assert "has ended" in send(browser, f"/jobs/{archive.job_id}/pause", {}, 400).text


def test_older_jobs_are_on_further_pages(archive, browser):
    with archive.sessions.begin() as session:
        session.execute(text("INSERT INTO job (name, options) SELECT 'n' || n, '{}' FROM generate_series(1, 30) AS n"))
        last = session.execute(text("SELECT max(job_id) FROM job")).scalar_one()
    first = browser.get("/jobs").text
    below = last - JOBS_PER_PAGE + 1
    assert f'href="/jobs?before={below}"' in first
    assert f'href="/jobs/{below}"' in first
    second = browser.get(f"/jobs?before={below}").text
    assert f'href="/jobs/{below - 1}"' in second
    assert f'href="/jobs/{below}"' not in second
    assert "Latest jobs" in second


def test_an_empty_archive_says_how_to_begin(clean_database, browser):
    assert "facet submit" in browser.get("/jobs").text
