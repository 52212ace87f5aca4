"""The faces that judge a trunk while it learns, from which it never learns, and the best weights by their judgement."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.trunk.options import IdentityOptions

_STREAM = 1_000_003  # number of the random stream that draws the faces, apart from those of the epochs


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the faces of a training."""

    learnt: NDArray[np.int64]
    """Ascending."""
    held_out: NDArray[np.int64]
    """Ascending; shares none with the others."""

    @classmethod
    def of_people(cls, person: NDArray[np.int64], options: IdentityOptions) -> Rows:
        """Hold out as many faces of each person as the options name, where twice as many are there.

        Args:
            person: (N,) number of each face's person, or UNKNOWN; unknown people are neither learnt nor held out.
            options: number of faces, and the seed that chooses them.
        """
        drawn = np.random.default_rng((options.seed, _STREAM)).permutation(len(person))
        order = drawn[np.argsort(person[drawn], kind="stable")]
        _, first, count = np.unique(person[order], return_index=True, return_counts=True)
        place = np.arange(len(person)) - np.repeat(first, count)
        many = np.repeat(count >= 2 * options.held_out, count)
        held = (place < options.held_out) & many & (person[order] != UNKNOWN)
        learnt = ~held & (person[order] != UNKNOWN)
        return cls(np.sort(order[learnt]), np.sort(order[held]))

    @classmethod
    def of_faces(cls, count: int, options: IdentityOptions) -> Rows:
        """Hold out the options' share of so many faces, without regard to people."""
        order = np.random.default_rng((options.seed, _STREAM)).permutation(count)
        held = round(count * options.held_share)
        return cls(np.sort(order[held:]), np.sort(order[:held]))


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation of a run."""

    score: float = -math.inf
    """Share of the held-out faces whose person is recognised, or their mean cosine to the teacher."""
    step: int = 0


class StepLog:
    """A CSV file with a line for some of the steps of a run, of which the first column is the step."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._path, self._columns = path, columns

    def write(self, step: int, *values: str) -> None:
        """Append a line."""
        begun = self._path.is_file()
        with self._path.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if not begun:
                writer.writerow(self._columns)
            writer.writerow((step, *values))

    def truncate(self, step: int) -> None:
        """Delete the lines of later steps, which are taken again."""
        if self._path.is_file():
            head, *lines = self._path.read_text().splitlines()
            kept = [line for line in lines if int(line.partition(",")[0]) <= step]
            self._path.write_text("".join(f"{line}\n" for line in [head, *kept]))
