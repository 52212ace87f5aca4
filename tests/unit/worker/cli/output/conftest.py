"""Every table of the command line with values as an archive has them, by the name of its snapshot."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

from db.reader.run_query import QueryResult
from db.status.jobs import JobCounts, Pace
from worker.cli import ask, search
from worker.cli.admin import commands as admin
from worker.cli.admin import release_diff, releases
from worker.cli.jobs import commands as jobs
from worker.cli.jobs import reprocess
from worker.cli.output import forecast
from worker.cli.output.terminal import console
from worker.cli.people import app as people
from worker.cli.people import corrections, learning, marks, regrouping
from worker.cli.pictures import agreement
from worker.deployment.doctor import Finding
from worker.identity.corrections.history import PastCorrection
from worker.identity.listing import ListedAppearance, ListedPerson
from worker.identity.merge_candidates import CandidatePerson, MergeCandidate
from worker.identity.proposals import OpenProposal, PersonShift
from worker.identity.search.learn import Match
from worker.identity.search.searcher import AppearanceHit, PersonHit, SearchResult
from worker.ingest.survey import Survey
from worker.ledger.status.job_status import JobStatus
from worker.ledger.status.rates import Rates
from worker.ledger.status.summary import FileFailure, FileNote, Summary
from worker.pictures.labels.agreement import Agreement, Compared
from worker.pictures.labels.figures import Figure
from worker.pictures.regions.naming import LeftOutRegion, ReadNames
from worker.releases.catalogue import LayerCost, ReleaseCost
from worker.releases.diff.changes import HeadChanges, ValueShift
from worker.releases.diff.drift import GroupDrift, Interval
from worker.releases.diff.movers import Mover
from worker.releases.diff.pairs import FaceCounts
from worker.releases.diff.people import CorrectionChanges, PeopleChanges
from worker.releases.diff.questions import QuestionChange
from worker.releases.diff.report import ReleaseDiff
from worker.releases.records import HistoryEntry
from worker.reprocess.preview import Preview, WayPreview
from worker.schedules.rows import Schedule
from worker.schedules.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

analyze = importlib.import_module("worker.cli.analyze")
schedules = importlib.import_module("worker.cli.schedules")

NOON = datetime(2026, 11, 28, 12, 0, 7, tzinfo=UTC)
FOLDER = "/srv/archive/2019 estate of the Weber family/negatives"
NAMES = ("Eileen Collins", "Prof. Dr. Ann-Katrin Freifrau von und zu Guttenberg-Habsburg", "山田 太郎")


FakeSessions = SimpleNamespace(begin=nullcontext)


def made(kind, *values):
    """Make a value of a dataclass from its fields in order."""
    names = (field.name for field in fields(kind))
    return kind(**dict(zip(names, values, strict=True)))


def _analysed() -> None:
    reason = "not_media: neither an image nor a video nor an archive by its first bytes"
    analyze.print_summary(
        Summary(
            job_id=12, submitted=13_013, done=12_999, rejected=13, quarantined=1, cancelled=0, pending=0,
            frames=60_123, faces=30_481, dropped={"too_small": 1_204, "unconfirmed": 77}, appearances=9_312,
            people=1_346, failures=[FileFailure(f"{FOLDER}/index.txt", "rejected", reason)], sidecars=2,
            notes=[FileNote(f"{FOLDER}/film.mp4", "from second 61.4 on, its frames cannot be decoded")],
        )
    )  # fmt: skip


def _status() -> None:
    counts = JobCounts(
        job_id=3, name="2019 estate of the Weber family", submitted=100_000, done=61_204, rejected=13, quarantined=2,
        cancelled=0, pending=38_781, submitted_at=NOON, finished_at=None, submission="ended",
    )  # fmt: skip
    pace = Pace(seconds=60, units=700, frames=1400, faces=2345)
    running = JobStatus(
        counts=counts, units={"done": 61_219, "pending": 38_781}, pace=pace, failures=[], troubled=[], reasons=[]
    )
    console().print(jobs.draw_jobs([running, running]))
    console().print(jobs.draw_jobs([running]))


def _preview() -> None:
    ways = [
        WayPreview(way="crops", faces=1_204_331, read_bytes=31 * 10**9, written_bytes=4 * 10**8, hours=2.125),
        WayPreview(way="media", faces=12, read_bytes=7 * 10**10, written_bytes=10**6, hours=None),
    ]
    found = Preview(release="default-2026-11", ways=ways, gaps={"no_crop": 3}, people=4_001, corrections=7)
    reprocess._show_preview(found, as_json=False)


COLUMNS_OF_FACES = {
    "face_id": 1, "media_id": 2, "uri": f"{FOLDER}/film.mp4", "person_id": 1, "at_seconds": 61.48, "x1": 82.428,
    "detection_score": 0.996, "dropped_reason": None, "gender": "female", "gender_confidence": 0.833,
    "attributes": {f"Attribute_{number}": 0.0381 for number in range(40)}, "embedding": [0.25] * 128,
    "landmarks": [1.5] * 10, "box": [1.5, 2.0, 3.25, 4.0], "created_at": NOON,
    "note": "from second 61.4 on, its frames cannot be decoded: " + "the container is damaged, " * 20,
}  # fmt: skip


def _faces() -> None:
    names, values = list(COLUMNS_OF_FACES), tuple(COLUMNS_OF_FACES.values())
    ask._print_table(QueryResult(names, ["text"] * len(names), iter([values, values])))


def _media() -> None:
    rows = [
        (f"{FOLDER}/film.mp4", "video", "done", None),
        (f"{FOLDER}/box.zip!/again/collins.jpg", "image", "rejected", "truncated: image file is truncated"),
    ]
    ask._print_table(QueryResult(["uri", "kind", "status", "reason"], ["text"] * 4, iter(rows)))


def _found() -> None:
    hits = tuple(
        made(PersonHit, number + 1, 0.9, 0.983 - number / 3, 1.0, 10, name, 12 * number + 1, number + 1, 0.5)
        for number, name in enumerate(NAMES)
    )
    seen = made(
        AppearanceHit, 7, 1, 2, f"{FOLDER}/film.mp4", "video", 61.5, 3_904.25, 38.0, "female", 0.9, 0.98, NAMES[1], 0.5
    )
    result = made(SearchResult, hits, (seen,), 0.01, 1_346, True)
    search._show([search._Answer(1, None, result), search._Answer(2, None, result)])


def _people(patch: pytest.MonkeyPatch) -> None:
    listed = [
        ListedPerson(
            person_id=number + 1, name=name, appearance_count=1_204, media_count=811, face_count=30_481, age=38.029,
            gender="female", ethnicity="Latino_Hispanic", best_face_id=1_204_331,
        )
        for number, name in enumerate((None, *NAMES))
    ]  # fmt: skip
    patch.setattr(people, "make_home", lambda _: None)
    patch.setattr(people, "open_database", lambda _: nullcontext(SimpleNamespace(sessions=FakeSessions)))
    patch.setattr(people, "explain_empty", lambda *_: None)
    patch.setattr(people, "read_people", lambda *_: listed)
    people.list_people()


def _person(patch: pytest.MonkeyPatch) -> None:
    seen = ListedAppearance(
        appearance_id=41, uri=f"{FOLDER}/film.mp4", start_seconds=61.5, end_seconds=3_904.25, face_count=12, age=38.0,
        gender="female", emotion="happiness",
    )  # fmt: skip
    patch.setattr(people, "transaction", nullcontext)
    patch.setattr(people, "read_appearances", lambda *_: [seen])
    patch.setattr(people, "name_of", lambda *_: NAMES[1])
    people.show("3")


def _learnt() -> None:
    matches = [
        Match(name=NAMES[1], photos=12, person_id=4, probability=0.9999, others=(7, 1_204), present_name=None),
        Match(name=NAMES[2], photos=0, person_id=None, probability=None, others=(), present_name=None),
    ]
    learning._show(matches, ["named", "no photo with a face"], [])


def _history(patch: pytest.MonkeyPatch) -> None:
    past = PastCorrection(
        correction_id=3, kind="merge", people=(1, 4, 12), name=NAMES[1], reason="caption of the photo", appearances=3,
        lost=0, created_at=NOON, made_by="ines", undone_at=None, undo_reason=None, undone_by=None,
    )  # fmt: skip
    patch.setattr(corrections, "transaction", nullcontext)
    patch.setattr(corrections, "read_history", lambda *_, **__: [past])
    corrections.history()


def _proposal() -> None:
    shifts = [made(PersonShift, 1, NAMES[1], 12, NAMES[0], 811), made(PersonShift, 4, None, None, None, 3)]
    regrouping._show(
        made(OpenProposal, 2, "default", NOON, "12 % of the appearances would change", 9_312, 1_117, 4, 5, shifts)
    )


def _alike(patch: pytest.MonkeyPatch) -> None:
    pair = made(
        MergeCandidate, made(CandidatePerson, 1, NAMES[1], 811), made(CandidatePerson, 4, NAMES[2], 3), 0.512, 0.87
    )
    patch.setattr(regrouping, "transaction", nullcontext)
    patch.setattr(regrouping, "read_merge_candidates", lambda *_, **__: [pair])
    regrouping.alike()


def _doctor() -> None:
    failed = "1.2 GB are free under /srv/facet/home, expected 2 GB or more; free space"
    console().print(
        admin.draw_findings([Finding("home", ok=True, found="/srv/facet"), Finding("disk", ok=False, found=failed)])
    )


COST = ReleaseCost(
    release_id=2, release="default-2026-11", aliases=("active",), created_at=NOON, retire_at=None, retired_at=None,
    code_version="0.9.0", covered=0.98765, own_bytes=10**9, shared_bytes=7 * 10**9, store_bytes=10**8, is_estimate=True,
)  # fmt: skip


def _releases(patch: pytest.MonkeyPatch) -> None:
    sessions = SimpleNamespace(begin=nullcontext)
    patch.setattr(releases, "_open", lambda: nullcontext(SimpleNamespace(sessions=sessions, store=None)))
    patch.setattr("worker.releases.catalogue.read_costs", lambda *_: [COST, COST])
    releases.list_releases()


def _release(patch: pytest.MonkeyPatch) -> None:
    sessions = SimpleNamespace(begin=nullcontext)
    layer = LayerCost(kind="reading", task="attributes", fingerprint="d8293a3e0b8ce55e" * 4, byte_size=10**9,
                      shared_with=(1, 3))  # fmt: skip
    entry = HistoryEntry(at=NOON, action="activate", who="archivist@workstation", from_release="default",
                         reason="ages are 0.4 years better on the sample", forced=False, gate=None)  # fmt: skip
    patch.setattr(releases, "_open", lambda: nullcontext(SimpleNamespace(sessions=sessions, store=None)))
    patch.setattr("worker.ledger.releases.find_release", lambda *_, **__: COST)
    patch.setattr("worker.releases.catalogue.read_costs", lambda *_: [COST])
    patch.setattr("worker.releases.catalogue.read_layers", lambda *_: [layer])
    patch.setattr("worker.releases.records.read_release_history", lambda *_: [entry])
    releases.show("candidate")


def _diff() -> None:
    share = made(Interval, 0.123, 0.101, 0.148)
    mean = made(ValueShift, 100, -0.41, 2.0, (-3.0, -0.4, 2.0))
    release_diff._print(
        ReleaseDiff(
            before="default", after="default-2026-11",
            faces=made(FaceCounts, 1_204_331, 1_204_000, 1_203_000, 1_000, 900),
            heads=(made(HeadChanges, "age", False, 1_000_000, 203_000, 900, 1_000, 331, mean, ()),),
            drift=(made(GroupDrift, "age", "ethnicity=Latino_Hispanic, gender=female", 30_481, share,
                        made(Interval, -0.4, -1, 0)),),
            attributes=(),
            movers=(made(Mover, "age", 1_204_331, 2, f"{FOLDER}/film.mp4", 61.5, "38.0", "61.2", None, None),),
            people=made(PeopleChanges, 1_346, 1_300, 20, 26, 12, 3), corrections=made(CorrectionChanges, 40, (7, 12)),
            questions=(made(QuestionChange, "How many people of each gender?", 3, 3, 1, 0.33,
                             "female: 811 became 812"),),
            uncovered=12,
        )
    )  # fmt: skip


def _schedules(patch: pytest.MonkeyPatch) -> None:
    found = Schedule(
        schedule_id=3, kind="reprocess", times=Times(cron="0 3 * * *", zone="Europe/Berlin"), next_at=NOON,
        last_ended_at=NOON, last_result="job 12: 1,204,331 faces filled in", held_reason="drift of age in 3 groups",
        created_at=NOON, created_by="archivist@workstation",
    )  # fmt: skip
    sessions = SimpleNamespace(begin=nullcontext)
    patch.setattr(schedules, "make_home", lambda _: None)
    patch.setattr(schedules, "open_database", lambda _: nullcontext(SimpleNamespace(sessions=sessions)))
    patch.setattr(schedules, "read_schedules", lambda _: [found])
    schedules.list_schedules()


def _forecast() -> None:
    found = Survey(images=90_123, videos=["a.mp4"] * 61, archives=2, others=13, sidecars=7, byte_size=10**12)
    console().print(forecast.draw_forecast(forecast.make_forecast(found, 61 * 5_400, 12, 2.0, Rates(31.5, 0.6, 5_000))))


def _agreement() -> None:
    share = Figure(0.9433, 0.9012, 0.9719)
    rows = (
        Agreement(
            head="gender", group="all", faces=200, answered=0.985, accuracy=share, kappa=Figure(0.884, 0.81, 0.95)
        ),
        Agreement(
            head="age", group="ethnicity=south_asian", faces=31, answered=1.0, mean_error=Figure(4.2, 3.1, 5.6),
            bias=Figure(-0.7, -2.2, 0.9), icc=Figure(0.91),
        ),
        Agreement(head="emotion", group="between people", faces=57, answered=None, accuracy=share),
    )  # fmt: skip
    agreement._show(Compared(rows=rows, gone=2, foreign=1, undecided=3))


def _marks() -> None:
    names = [
        marks.MarkedName(NAMES[0], 3, [11, 12], 0, (1, 4), 7),
        marks.MarkedName(NAMES[1], 2, [], 2, (9,)),
        marks.MarkedName(NAMES[2], 0, [], 0),
    ]
    left = LeftOutRegion(source=f"{FOLDER}/collins.jpg.xmp", name=NAMES[0], reason="no face of the archive is there")
    marks._show(names, ReadNames(left_out=[left]), dry_run=False)


@dataclass(frozen=True)
class Sample:
    """A call that prints tables."""

    draw: Callable[..., None]
    needs_patch: bool = False


SAMPLES = {
    "analyze": Sample(_analysed),
    "dry-run": Sample(_forecast),
    "status": Sample(_status),
    "reprocess": Sample(_preview),
    "sql-faces": Sample(_faces),
    "sql-media": Sample(_media),
    "search": Sample(_found),
    "people-list": Sample(_people, needs_patch=True),
    "people-show": Sample(_person, needs_patch=True),
    "people-learn": Sample(_learnt),
    "people-history": Sample(_history, needs_patch=True),
    "people-proposals": Sample(_proposal),
    "people-alike": Sample(_alike, needs_patch=True),
    "people-import-xmp": Sample(_marks),
    "agreement": Sample(_agreement),
    "doctor": Sample(_doctor),
    "releases-list": Sample(_releases, needs_patch=True),
    "releases-show": Sample(_release, needs_patch=True),
    "releases-diff": Sample(_diff),
    "schedule-list": Sample(_schedules, needs_patch=True),
}
