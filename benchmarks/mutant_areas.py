"""Which tests have to notice a change of which files, the quickest first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Area:
    """Files, and the tests of their area."""

    files: tuple[str, ...]
    """Names of sources, or folders whose sources all belong to the area."""
    tests: tuple[str, ...]


_LEDGER = "tests/integration/worker"
_TRACKING = "tests/unit/worker/analysis/tracking"
_DETECTION = "tests/unit/models/detection"
_EVALUATE = "tests/unit/training/evaluate"

AREAS = {
    "units": Area(
        ("worker/ledger/units.py",),
        (f"{_LEDGER}/test_ledger.py", f"{_LEDGER}/test_fair_queue.py", f"{_LEDGER}/test_unreachable.py"),
    ),
    "leases": Area(
        ("worker/ledger/leases.py",),
        tuple(f"{_LEDGER}/test_{name}.py" for name in ("leases", "ledger", "unreachable", "waiting")),
    ),
    "fair queue": Area(
        ("worker/ledger/submission/fair_queue.py",),
        ("tests/unit/worker/ledger/submission", f"{_LEDGER}/test_fair_queue.py"),
    ),
    "store": Area(
        ("worker/analysis/store",),
        (
            "tests/unit/worker/analysis/store",
            *(f"{_LEDGER}/test_{name}.py" for name in ("frame_sizes", "finish", "notes", "failed_units")),
            f"{_LEDGER}/locks/test_lock_order.py",
        ),
    ),
    "sampling": Area(
        ("worker/decode/child/readers/sampling.py",), ("tests/unit/worker/decode/child/readers/test_sampling.py",)
    ),
    "timeline": Area(
        ("worker/decode/child/readers/video/timeline.py",),
        ("tests/unit/worker/decode/child/readers", "tests/integration/media/test_videos.py"),
    ),
    "track": Area(
        ("worker/analysis/tracking/track.py",), (f"{_TRACKING}/test_evidence.py", f"{_TRACKING}/test_track.py")
    ),
    "assignment": Area(("worker/analysis/tracking/assignment.py",), (f"{_TRACKING}/test_track.py",)),
    "appearances": Area(
        ("worker/analysis/tracking/appearances.py", "worker/analysis/tracking/holds.py"),
        (f"{_TRACKING}/test_appearances.py", f"{_TRACKING}/test_holds.py"),
    ),
    "joining": Area(
        ("worker/analysis/tracking/joining.py",),
        (_TRACKING, f"{_LEDGER}/test_finish.py"),
    ),
    "grouping": Area(("worker/identity/grouping",), ("tests/unit/worker/identity/grouping",)),
    "corrections": Area(
        ("worker/identity/corrections",),
        (
            "tests/unit/worker/identity/corrections",
            *(f"{_LEDGER}/test_{name}.py" for name in ("anchors", "people", "people_regroup")),
        ),
    ),
    "erasure": Area(("worker/erasure",), (f"{_LEDGER}/erasure",)),
    "geometry": Area(("models/geometry.py",), ("tests/unit/models/test_geometry.py",)),
    "quality": Area(("models/quality.py",), ("tests/unit/models/test_quality.py", f"{_DETECTION}/test_finding.py")),
    "detector": Area(
        ("models/detection/detector.py", "models/detection/tiles.py", "models/detection/boxes.py"),
        tuple(f"{_DETECTION}/test_{name}.py" for name in ("boxes", "tiles", "detector")),
    ),
    "finding": Area(
        ("models/detection/finding.py",), (f"{_DETECTION}/test_doubts.py", f"{_DETECTION}/test_finding.py")
    ),
    "calibration": Area(
        ("training/fit/calibration.py",), (f"{_EVALUATE}/test_metrics.py", "tests/unit/training/fit/test_fit.py")
    ),
    "verification": Area(("training/evaluate/verification.py",), (f"{_EVALUATE}/test_verification.py",)),
    "metrics": Area(("training/evaluate/metrics.py",), (f"{_EVALUATE}/test_metrics.py",)),
    "operating points": Area(
        ("training/evaluate/operating_points.py",), (f"{_EVALUATE}/test_findings.py", f"{_EVALUATE}/test_evaluate.py")
    ),
}
