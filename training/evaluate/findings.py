"""The results on a data set: figures, matrices, curves, and the outcome of each face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.evaluate.curves import Confusion, Curve  # noqa: TC001 - pydantic reads the annotations
from training.evaluate.metrics import Figure  # noqa: TC001 - pydantic reads the annotations
from training.evaluate.outcomes import Outcomes  # noqa: TC001 - pydantic reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with the set, task, measure and group that it belongs to."""

    data: str
    task: str
    measure: str
    figure: Figure
    group: str = "all"
    """'all', or the values of gender, ethnicity and age band, such as 'female / Asian / 18-39'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All results on some sets."""

    rows: tuple[Row, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    curves: tuple[Curve, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()

    @classmethod
    def join(cls, parts: Iterable[Findings]) -> Findings:
        """Join findings in their order."""
        every = list(parts)
        return cls(
            rows=tuple(row for part in every for row in part.rows),
            confusions=tuple(one for part in every for one in part.confusions),
            curves=tuple(one for part in every for one in part.curves),
            outcomes=tuple(one for part in every for one in part.outcomes),
        )
