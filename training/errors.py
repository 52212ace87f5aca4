"""Errors of training, by the reaction of the caller.

TrainingError              base; the text is one line: the fact, the expectation, the remedy
├── DataError              a data set is missing or not in the expected layout: fix the folder
└── RecipeError            a recipe is unknown or contradicts itself: choose or write another
"""

from __future__ import annotations


class TrainingError(Exception):
    """Training or evaluation cannot go on; the text states the fact, the expectation and the remedy."""


class DataError(TrainingError):
    """A data set is missing or is not in the expected layout."""


class RecipeError(TrainingError):
    """A recipe is unknown, or contradicts itself."""
