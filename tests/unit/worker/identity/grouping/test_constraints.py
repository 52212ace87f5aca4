"""Constraints refuse columns of different lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worker.identity.grouping.constraints import Constraints, Exclusions


@pytest.mark.parametrize("field", ["must_link", "name", "pinned"])
def test_a_column_of_another_length_is_refused(field):
    with pytest.raises(ValueError, match=rf"got .*{field} \(4,\).*expected \(N,\) three times and \(A, 2\)"):
        replace(Constraints.none(3), **{field: np.full(4, -1)})


def test_cannot_links_are_pairs():
    with pytest.raises(ValueError, match=r"cannot_link \(5, 3\)"):
        replace(Constraints.none(3), cannot_link=np.zeros((5, 3), np.int64))


def test_an_exclusion_has_a_row_and_a_person():
    with pytest.raises(ValueError, match=r"Exclusions\.person has shape \(3,\), expected \(2,\)"):
        Exclusions(np.zeros(2, np.int64), np.zeros(3, np.int64))
