"""Sidecars are rejected files of a job that do not make it fail."""

import pytest

from worker.cli.analyze import print_summary
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
    assert (status.sidecars, status.not_media) == (summary.sidecars, summary.not_media)
    for strict in (False, True):
        assert status.went_well(strict=strict) == summary.went_well(strict=strict)
    return summary


@pytest.mark.parametrize(
    ("items", "sidecars", "failures"),
    [([STORE], 1, 0), ([STORE, DOUBLE], 2, 0), ([STORE, TEXT, DOUBLE], 2, 1), ([TEXT], 0, 1)],
)
def test_sidecars_are_counted_and_only_others_fail(archive, items, sidecars, failures):
    summary = summary_of(archive, *items)
    assert (summary.submitted, summary.done, summary.rejected) == (len(items), 0, len(items))
    assert (summary.sidecars, len(summary.failures)) == (sidecars, failures)
    assert summary.went_well(strict=True) == (not failures)
    assert summary.went_well(), "nothing but files that are no media was passed over"


def test_a_file_that_may_not_be_read_is_a_failure(archive):
    refused = RefusedFile("/a/secret.jpg", "no_permission", "this user may not read it")
    assert not summary_of(archive, STORE, refused).went_well()


def test_pending_files_are_not_hidden_by_sidecars(archive):
    summary = summary_of(archive, STORE, *archive.files(1, 2))
    assert (summary.submitted, summary.rejected, summary.pending) == (3, 1, 2)
    assert not summary.went_well()


def test_sidecars_are_shown_as_a_number_of_their_own(archive, capsys):
    print_summary(summary_of(archive, STORE, TEXT, DOUBLE))
    out = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.count("│") == 3}
    assert (rows["rejected"], rows["ignored (sidecars)"]) == ("1", "2")
    assert "notes.txt" in out
    assert ".DS_Store" not in out
