from __future__ import annotations

import pytest

from worker.cli.admin.serving import parse_period
from worker.errors import UsageError


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("8h", 28800), ("1.5d", 129600)])
def test_a_period_is_read(text, seconds):
    assert parse_period(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "0s", "8h30m", "1y"])
def test_other_text_is_refused(text):
    with pytest.raises(UsageError, match="such as 8h"):
        parse_period(text)
