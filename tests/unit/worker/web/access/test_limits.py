"""Uploads are counted for each visitor in a sliding window."""

from __future__ import annotations

import pytest

from worker.web.access.limits import RateLimit
from worker.web.access.visitor import VisitRefused


def test_the_window_slides():
    limit = RateLimit(acts=2, seconds=10.0)
    limit.count("ada", now=0.0)
    limit.count("ada", now=4.0)
    with pytest.raises(VisitRefused, match="wait 5 s") as caught:
        limit.count("ada", now=5.0)
    assert caught.value.status == 429
    limit.count("bea", now=5.0)
    limit.count("ada", now=10.5)
    with pytest.raises(VisitRefused):
        limit.count("ada", now=13.9)
