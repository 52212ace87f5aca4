"""Errors of training, by the reaction of the caller.

TrainingError              base; the text is one line: the fact, the expectation, the remedy
├── DataError              a data set is missing or not in the expected layout: fix the folder
└── RecipeError            a recipe is unknown or contradicts itself: choose or write another
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class TrainingError(Exception):
    """Training or evaluation cannot go on; the text states the fact, the expectation and the remedy."""


class DataError(TrainingError):
    """A data set is missing or is not in the expected layout."""


class RecipeError(TrainingError):
    """A recipe is unknown, or contradicts itself."""


def unknown_names(what: str, names: Iterable[str], known: Collection[str]) -> RecipeError:
    """Return the error of names that are unknown: with the one that was probably meant, and all that are known."""
    given = list(names)
    near = [match for name in given for match in get_close_matches(name, known, n=1)]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    return RecipeError(f"no {what} {', '.join(given)}; {meant}known are {', '.join(known)}")
