"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of labelled research data beside the repository, or skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"research data is not on this machine: {SHARED_DATA} is missing")
    return SHARED_DATA
