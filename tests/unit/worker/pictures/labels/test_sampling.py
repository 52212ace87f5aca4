"""A sample has as many of each stratum as possible."""

from __future__ import annotations

import pytest

from worker.errors import UsageError
from worker.pictures.labels.sampling import SampleRequest, allocate, draw_sample


@pytest.mark.parametrize(
    ("populations", "count", "expected"),
    [
        ([100, 100], 10, [5, 5]),
        ([100, 3, 100], 13, [5, 3, 5]),
        ([1000, 1, 2], 200, [197, 1, 2]),
        ([5, 9, 7], 2, [0, 1, 1]),
        ([5, 9, 7], 4, [1, 2, 1]),
        ([2, 1], 50, [2, 1]),
        ([7], 3, [3]),
        ([], 3, []),
    ],
)
def test_strata_share_the_faces(populations, count, expected):
    assert allocate(populations, count) == expected


def test_what_is_no_stratum_is_refused():
    with pytest.raises(UsageError, match="name is nothing to stratify by, expected some of gender"):
        draw_sample("postgresql://nowhere", SampleRequest(count=3, stratify=("gender", "name")))
