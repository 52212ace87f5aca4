"""Sidecars are rejected files of a job that do not make it fail."""

import pytest

from worker.cli.analyze import show
from worker.ingest import RefusedFile
from worker.ledger.status.job_status import read_status
from worker.ledger.status.summary import summarise_job

STORE = RefusedFile("/a/.DS_Store", "sidecar", "view of a folder in macOS", 6148)
DOUBLE = RefusedFile("/a/._a.jpg", "sidecar", "properties of a file", 4096)
TEXT = RefusedFile("/a/notes.txt", "not_media", "neither an image nor a video nor an archive by its first bytes", 5)


def summary_of(archive, *items):
    counts = archive.submit(items)
    with archive.sessions.begin() as session:
        summary = summarise_job(session, counts.job_id)
        (status,) = read_status(session, counts.job_id)
    assert (status.sidecars, status.all_went_well) == (summary.sidecars, summary.all_went_well)
    return summary


@pytest.mark.parametrize(
    ("items", "sidecars", "failures"),
    [([STORE], 1, 0), ([STORE, DOUBLE], 2, 0), ([STORE, TEXT, DOUBLE], 2, 1), ([TEXT], 0, 1)],
)
def test_sidecars_are_counted_and_only_others_fail(archive, items, sidecars, failures):
    summary = summary_of(archive, *items)
    assert (summary.submitted, summary.done, summary.rejected) == (len(items), 0, len(items))
    assert (summary.sidecars, len(summary.failures)) == (sidecars, failures)
    assert summary.all_went_well == (not failures)


def test_pending_files_are_not_hidden_by_sidecars(archive):
    summary = summary_of(archive, STORE, *archive.files(1, 2))
    assert (summary.submitted, summary.rejected, summary.pending) == (3, 1, 2)
    assert not summary.all_went_well


def test_sidecars_are_shown_as_a_number(archive, capsys):
    show(summary_of(archive, STORE, TEXT))
    out = capsys.readouterr().out
    assert "sidecars" in out
    assert "notes.txt" in out
    assert ".DS_Store" not in out
