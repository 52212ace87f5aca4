"""Two releases over one archive: everything that the comparison reports, against a computation of its own."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from sqlalchemy import text

from db.bulk.codes import encode_multilabel
from db.bulk.rows import allocate_ids, copy_rows
from worker.errors import UsageError
from worker.releases.diff.attributes import attribute_drift
from worker.releases.diff.drift import wilson
from worker.releases.diff.page import page, sections
from worker.releases.diff.pairs import make_pairs
from worker.releases.diff.report import ComparedRelease, read_diff
from worker.releases.gate import Limits, judge_switch, parse_limits

FACES = 400
FACE_COLUMNS = (
    "face_id", "analysis_id", "unit_id", "frame_index", "at_seconds", "x1", "y1", "x2", "y2", "landmarks",
    "detection_score", "quality", "dropped_reason",
)  # fmt: skip
LABELS = {"gender": ("female", "male", "unknown"), "ethnicity": ("a", "b", "c")}


class Answers:
    """An archive of one file, with made answers that a test may look at without SQL."""

    def __init__(self, archive):
        self.archive = archive
        self.random = np.random.default_rng(11)
        self.analysis = archive.add()
        with archive.sessions.begin() as session:
            session.execute(text("UPDATE analysis SET state = 'done', finished_at = now(), is_current = true"))
            self.unit = session.execute(text("UPDATE unit SET state = 'done' RETURNING unit_id")).scalar_one()
            self.quality = self.random.uniform(0, 1, FACES)
            self.faces = allocate_ids(session, "face", FACES)
            dropped = allocate_ids(session, "face", 5)
            rows = [self._face(face, n, self.quality[n], None) for n, face in enumerate(self.faces)]
            rows += [self._face(face, FACES + n, 0.1, "too_small") for n, face in enumerate(dropped)]
            copy_rows(session, "face", FACE_COLUMNS, rows)

    def _face(self, face, frame, quality, reason):
        return (face, self.analysis, self.unit, frame, frame / 2, 0.0, 0.0, 10.0, 10.0, bytes(20), 0.9, quality, reason)

    def labels(self, task, count=FACES):
        return self.random.choice(LABELS[task], count)

    def write(self, release, task, answers, faces=None):
        """Store labels, values, or (N, 2) logits of attributes."""
        faces = self.faces if faces is None else faces
        reading = release.readings[task]
        if task == "attributes":
            codes = encode_multilabel(answers).astype(">u2")
            rows = [(face, reading, None, None, None, codes[n].tobytes()) for n, face in enumerate(faces)]
        elif task == "age":
            rows = [(face, reading, None, float(answers[n]), None, None) for n, face in enumerate(faces)]
        else:
            rows = [(face, reading, str(answers[n]), None, 0.9, None) for n, face in enumerate(faces)]
        columns = ("face_id", "reading_id", "label", "value", "confidence", "scores")
        with self.archive.sessions.begin() as session:
            copy_rows(session, "prediction", columns, rows)

    def diff(self, after):
        return read_diff(self.archive.sessions, ComparedRelease("old", self.archive.ids), ComparedRelease("new", after))


@pytest.fixture
def answers(archive):
    return Answers(archive)


def test_counts_table_and_drift_of_labels(answers):
    old, new = answers.archive.ids, answers.archive.register("new", gender="retrained")
    before, ethnicity, age = answers.labels("gender"), answers.labels("ethnicity"), answers.random.uniform(0, 90, FACES)
    after = np.where(answers.random.uniform(size=FACES) < 0.2, answers.labels("gender"), before)
    has = answers.random.uniform(size=FACES) < 0.9
    answers.write(old, "gender", before)
    answers.write(old, "ethnicity", ethnicity)
    answers.write(old, "age", age)
    answers.write(new, "gender", after[has], np.array(answers.faces)[has].tolist())
    found = answers.diff(new)
    gender = next(one for one in found.heads if one.head == "gender")
    assert (gender.unchanged, gender.changed, gender.missing, gender.new, gender.vanished) == (
        int((before == after)[has].sum()),
        int((before != after)[has].sum()),
        int((~has).sum()),
        0,
        0,
    )
    expected = Counter(zip(before[has].tolist(), after[has].tolist(), strict=True))
    assert {(one.before, one.after): one.faces for one in gender.table} == dict(expected)
    assert found.covered == pytest.approx(has.mean())
    shared = next(one for one in found.heads if one.head == "ethnicity")
    assert shared.is_shared
    assert (shared.unchanged, shared.changed) == (FACES, 0)
    groups = {one.group: one for one in found.drift if one.head == "gender"}
    for label in ("a", "b", "c"):
        rows = has & (ethnicity == label)
        one = groups[f"ethnicity {label}"]
        assert one.faces == rows.sum()
        assert one.changed == wilson(int((before != after)[rows].sum()), int(rows.sum()))
    young, poor = has & (age >= 20) & (age < 30), has & (answers.quality < 0.25)
    assert groups["age 20 to 30"].faces == young.sum()
    assert groups["quality 0 to 0.25"].faces == poor.sum()
    cell = has & (before == "male") & (ethnicity == "b") & (age >= 20) & (age < 30) & (answers.quality >= 0.75)
    name = "gender male, ethnicity b, age 20 to 30, quality 0.75 and more"
    assert (groups[name].faces if name in groups else 0) == cell.sum()
    assert {one.head for one in found.movers} == {"gender"}
    assert found.questions[0].question
    assert "old label by new label" in page(found)


def test_releases_without_a_file_in_common_show_counts_alone(answers):
    new = answers.archive.register("new", detector="stricter")
    answers.write(answers.archive.ids, "gender", answers.labels("gender"))
    found = answers.diff(new)
    assert (found.faces.before, found.faces.compared) == (FACES, 0)
    assert [section.title for section in sections(found)] == ["Faces"]


def test_shifts_of_ages(answers):
    old, new = answers.archive.ids, answers.archive.register("new", age="retrained")
    before = answers.random.uniform(10, 80, FACES).astype(np.float32)
    shift = answers.random.normal(0.5, 2, FACES).astype(np.float32)
    answers.write(old, "age", before)
    answers.write(new, "age", before + shift)
    found = answers.diff(new)
    age = next(one for one in found.heads if one.head == "age")
    moved = (before + shift) - before
    assert age.shift.mean == pytest.approx(moved.mean(), abs=1e-4)
    assert age.shift.deviation == pytest.approx(moved.std(ddof=1), abs=1e-4)
    assert age.shift.quantiles == pytest.approx(np.quantile(moved, (0.05, 0.5, 0.95)).tolist(), abs=1e-4)
    assert age.changed == int((np.abs(moved) >= 1).sum())
    biggest = np.abs(moved).argmax()
    assert found.movers[0].face_id == answers.faces[biggest]
    whole = next(one for one in found.drift if one.group == "all")
    half = 1.96 * moved.std(ddof=1) / np.sqrt(FACES)
    assert (whole.shift.low, whole.shift.high) == pytest.approx((moved.mean() - half, moved.mean() + half), abs=1e-3)


def test_attributes_gained_and_lost(answers):
    old, new = answers.archive.ids, answers.archive.register("new", attributes="retrained")
    before, after = (answers.random.normal(0, 2, (FACES, 2)) for _ in range(2))
    answers.write(old, "attributes", before)
    answers.write(new, "attributes", after)
    (found,) = answers.diff(new).attributes
    by_name = {one.attribute: one for one in found.attributes}
    for place, name in enumerate(("hat", "beard")):
        had, has = before[:, place] >= 0, after[:, place] >= 0
        one = by_name[name]
        assert abs(one.gained - int((~had & has).sum())) <= 1, "a logit of 0 within rounding"
        assert abs(one.lost - int((had & ~has).sum())) <= 1
        expected = (1 / (1 + np.exp(-after[:, place])) - 1 / (1 + np.exp(-before[:, place]))).mean()
        assert one.shift == pytest.approx(expected, abs=1e-3)
    assert abs(found.changed - int(((before >= 0) != (after >= 0)).any(axis=1).sum())) <= 2


def test_faces_of_two_finders_are_paired_by_their_boxes(answers):
    old, new = answers.archive.ids, answers.archive.register("new", detector="other")
    with answers.archive.sessions.begin() as session:
        analysis = session.execute(
            text("""INSERT INTO analysis (media_id, finder_id, sampling, state, finished_at, is_current)
                    SELECT media_id, :finder, '2/s', 'done', now(), true FROM analysis RETURNING analysis_id"""),
            {"finder": new.finder_id},
        ).scalar_one()
        unit = session.execute(
            text("INSERT INTO unit (analysis_id, release_id, state) VALUES (:a, :r, 'done') RETURNING unit_id"),
            {"a": analysis, "r": new.release_id},
        ).scalar_one()
        boxes = {
            0: [(1.0, 0.0, 11.0, 10.0)],
            1: [(40.0, 0.0, 50.0, 10.0)],
            2: [(0.0, 0.0, 9.0, 10.0), (2.0, 0.0, 12.0, 10.0)],
        }
        rows = [(frame, number, box) for frame, several in boxes.items() for number, box in enumerate(several)]
        ids = allocate_ids(session, "face", len(rows))
        copy_rows(
            session,
            "face",
            (*FACE_COLUMNS, "face_no"),
            [
                (ids[n], analysis, unit, frame, frame / 2, *box, bytes(20), 0.9, 0.5, None, number)
                for n, (frame, number, box) in enumerate(rows)
            ],
        )
    with answers.archive.sessions() as session:
        counts = make_pairs(session, old, new)
        pairs = dict(
            session.execute(text("SELECT before_id, after_id FROM face_pair WHERE before_id IS NOT NULL")).all()
        )
    assert pairs[answers.faces[0]] == ids[0]
    assert pairs[answers.faces[1]] is None
    assert pairs[answers.faces[2]] == ids[2], "the one that overlaps more"
    assert (counts.before, counts.compared, counts.paired, counts.vanished, counts.new) == (
        FACES,
        FACES,
        2,
        FACES - 2,
        2,
    )


def verdict(archive, release, *, judged=10, worse=()):
    """Write the verdict of training on a release."""
    with archive.sessions.begin() as session:
        session.execute(
            text("""UPDATE release SET manifest = jsonb_set(manifest, '{verdict}', jsonb_build_object(
                        'base', 'old', 'judged', cast(:judged AS int), 'worse', cast(:worse AS text[])))
                    WHERE release_id = :id"""),
            {"id": release.release_id, "judged": judged, "worse": list(worse)},
        )


def gate(answers, new, limits=None):
    with answers.archive.sessions() as session:
        return judge_switch(session, answers.archive.ids, new, limits)


def test_the_gate_opens_only_where_every_check_holds(answers):
    old, new = answers.archive.ids, answers.archive.register("new", gender="retrained")
    before = answers.labels("gender")
    answers.write(old, "gender", before)
    answers.write(old, "ethnicity", answers.labels("ethnicity"))
    for task in ("age", "attributes", "emotion", "ethnicity"):
        with answers.archive.sessions.begin() as session:
            session.execute(
                text("""INSERT INTO prediction (face_id, reading_id, label)
                        SELECT face_id, :r, 'x' FROM face WHERE dropped_reason IS NULL ON CONFLICT DO NOTHING"""),
                {"r": new.readings[task]},
            )
    refused = {check.name for check in gate(answers, new).checks if not check.ok}
    assert refused == {"coverage", "verdict"}
    answers.write(new, "gender", before)
    verdict(answers.archive, new)
    assert gate(answers, new).is_open, gate(answers, new).refusals
    verdict(answers.archive, new, worse=("utkface, gender, all: worse",))
    assert [check.name for check in gate(answers, new).checks if not check.ok] == ["verdict"]
    verdict(answers.archive, new, judged=0)
    assert [check.name for check in gate(answers, new).checks if not check.ok] == ["verdict"]


def test_the_gate_refuses_a_head_that_drifts_in_one_group(answers):
    old, new = answers.archive.ids, answers.archive.register("new", gender="sabotaged")
    ethnicity = np.repeat(("a", "b"), FACES // 2)
    before = np.full(FACES, "female")
    after = before.copy()
    after[: FACES // 2 : 5] = "male"  # a fifth of group a, a tenth of all
    answers.write(old, "gender", before)
    answers.write(old, "ethnicity", ethnicity)
    answers.write(new, "gender", after)
    drift = next(check for check in gate(answers, new, Limits(changed=0.12)).checks if check.name == "drift")
    assert not drift.ok
    assert "ethnicity a: 20.0% of labels change" in drift.found
    assert "ethnicity b" not in drift.found
    assert next(check for check in gate(answers, new, Limits(changed=0.2)).checks if check.name == "drift").ok


def test_the_views_say_what_the_comparison_says(answers):
    old, new = answers.archive.ids, answers.archive.register("new", gender="retrained", age="retrained")
    answers.write(old, "gender", answers.labels("gender"))
    answers.write(new, "gender", answers.labels("gender", FACES - 50), answers.faces[50:])
    answers.write(old, "ethnicity", answers.labels("ethnicity"))
    ages = answers.random.uniform(0, 90, FACES)
    answers.write(old, "age", ages)
    answers.write(new, "age", ages + answers.random.normal(0, 3, FACES))
    found = answers.diff(new)
    with answers.archive.sessions() as session:
        counts = dict(
            session.execute(text("SELECT head || ' ' || change, count(*) FROM facet.release_changes GROUP BY 1")).all()
        )
        groups = session.execute(text("SELECT * FROM facet.release_drift")).all()
        named = session.execute(text("SELECT release, count(*) FROM facet.release_predictions GROUP BY 1")).all()
    for one in found.heads:
        if one.head in {"gender", "age"}:
            expected = {"changed": one.changed, "unchanged": one.unchanged, "missing": one.missing}
            assert {change: counts.get(f"{one.head} {change}", 0) for change in expected} == expected
    assert not any(name.startswith("ethnicity") for name in counts), "both have the same reading"
    assert dict(named) == {"test": 3 * FACES, "new": 3 * FACES - 50}
    bands = {0: "0 to 3", 3: "3 to 10", 70: "70 and more"} | {n: f"{n} to {n + 10}" for n in range(10, 70, 10)}
    qualities = {0.0: "0 to 0.25", 0.25: "0.25 to 0.5", 0.5: "0.5 to 0.75", 0.75: "0.75 and more"}
    cells = {(one.head, one.group): one for one in found.drift}
    assert len(groups) > 100
    for row in groups:
        age, quality = bands[row.age_from], qualities[row.quality_from]
        group = f"gender {row.gender}, ethnicity {row.ethnicity}, age {age}, quality {quality}"
        one = cells[row.head, group]
        assert row.faces == one.faces
        assert (row.share, row.share_low, row.share_high) == pytest.approx(
            (one.changed.value, one.changed.low, one.changed.high), abs=1e-6
        )
        if one.shift is not None:
            shift = (row.shift, row.shift_low, row.shift_high)
            assert shift == pytest.approx((one.shift.value, one.shift.low, one.shift.high), abs=1e-4)


@pytest.mark.parametrize("wrong", ["coverage=2", "changed=-1", "speed=3", "shift", "shift=nan"])
def test_limits_that_cannot_be_meant(wrong):
    with pytest.raises(UsageError, match="expected one of coverage, changed, shift, faces"):
        parse_limits(wrong)


def test_limits_that_are_named_replace_the_usual_ones():
    assert parse_limits(" shift=3, faces=50") == Limits(shift=3.0, faces=50)
    assert parse_limits(None) == Limits()


@pytest.mark.parametrize(("share", "ok"), [(0.5, False), (0.02, True)])
def test_the_gate_refuses_attributes_that_drift(answers, share, ok):
    old, new = answers.archive.ids, answers.archive.register("new", attributes="sabotaged")
    before = answers.random.normal(0, 2, (FACES, 2))
    after = before.copy()
    after[: int(share * FACES), 0] *= -1
    answers.write(old, "attributes", before)
    answers.write(new, "attributes", after)
    drift = next(check for check in gate(answers, new).checks if check.name == "drift")
    assert drift.ok is ok
    assert (re.search(r"^hat, all: (49|50)\.\d% of faces gained or lost it", drift.found) is not None) is not ok


def test_the_gate_refuses_attributes_that_drift_in_one_group(answers):
    """A fifth of one group, a twentieth of all: over all faces it would pass."""
    old, new = answers.archive.ids, answers.archive.register("new", attributes="sabotaged")
    ethnicity = np.array((["a", "b", "b", "c"] * FACES)[:FACES])
    gender, age = answers.labels("gender"), answers.random.uniform(20, 30, FACES)
    before = np.sign(answers.random.normal(0, 1, (FACES, 2))) * 2
    after = before.copy()
    hit = np.flatnonzero(ethnicity == "a")[::3]
    after[hit, 1] *= -1
    for task, values in (("attributes", before), ("ethnicity", ethnicity), ("gender", gender), ("age", age)):
        answers.write(old, task, values)
    answers.write(new, "attributes", after)

    def judged(**limits):
        return next(check for check in gate(answers, new, Limits(**limits)).checks if check.name == "drift")

    share = len(hit) / (ethnicity == "a").sum()
    assert judged().found == f"beard, ethnicity a: {share:.1%} of faces gained or lost it, 10% may"
    assert judged(changed=0.5).ok
    assert judged(faces=101).ok, "the group has 100 faces"
    cell = "gender female, ethnicity a, age 20 to 30, quality 0.75 and more"
    with answers.archive.sessions() as session:
        make_pairs(session, old, new)
        found = {one.group: one for one in attribute_drift(session, "attributes", old, new) if one.head == "beard"}
    flipped = np.isin(np.arange(FACES), hit)
    for group, rows in {
        "all": np.full(FACES, True),
        "gender male": gender == "male",
        "quality 0.25 to 0.5": (answers.quality >= 0.25) & (answers.quality < 0.5),
        cell: (gender == "female") & (ethnicity == "a") & (answers.quality >= 0.75),
    }.items():
        assert found[group].changed == wilson(int(flipped[rows].sum()), int(rows.sum()))
        assert found[group].faces == rows.sum()
