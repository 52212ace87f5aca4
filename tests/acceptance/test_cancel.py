"""``facet cancel`` and ``--priority`` as a user has them; no worker runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((16, 16, 3), 50 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_job_is_cancelled_and_submitted_again(facet, redis_url, photos):
    facet.settings |= {"FACET_BROKER_URL": redis_url}
    facet("submit", photos, "--priority", "5")
    assert "pass --yes" in facet("cancel", "1", status=2).stderr
    assert json.loads(facet("cancel", "1", "--yes", "--json").stdout) == {
        "job_id": 1, "files": 3, "units": 3, "batches": 0, "taken_back": 0, "shared": 0,
    }  # fmt: skip
    assert "there is nothing to cancel" in facet("cancel", "1").stdout
    (job,) = json.loads(facet("status", "1", "--json").stdout)
    assert (job["cancelled"], job["pending"], job["units"]) == (3, 0, {"cancelled": 3})
    assert "there is no job 9" in facet("cancel", "9", "--yes", status=2).stderr
    facet("submit", photos)
    assert facet.rows("SELECT job_id, cancelled, pending FROM jobs ORDER BY 1") == [
        {"job_id": 1, "cancelled": 3, "pending": 0},
        {"job_id": 2, "cancelled": 0, "pending": 3},
    ]
    facet("analyze", photos)
    assert facet.value("SELECT bool_and(done = 3) FROM jobs") is True
