"""The areas of a mutation run name sources and tests that are there: a file that moves takes its name along."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_each_area_names_files_that_are_there():
    areas = runpy.run_path(str(ROOT / "benchmarks" / "mutant_areas.py"))["AREAS"]
    names = {name for area in areas.values() for name in (*area.files, *area.tests)}
    assert len(areas) > 20
    assert sorted(name for name in names if not (ROOT / name).exists()) == []
