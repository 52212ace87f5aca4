"""Errors of training, by what the caller does about them.

TrainingError              base; its text is one line: what was found, what was expected, what to do
├── DataError              a data set is missing or not in the expected layout: fix the folder
└── RecipeError            a recipe is unknown or contradicts itself: choose or write another
"""

from __future__ import annotations


class TrainingError(Exception):
    """Training or evaluation cannot go on; the text says what was found, what was expected and what to do."""


class DataError(TrainingError):
    """A data set is missing or is not in the expected layout."""


class RecipeError(TrainingError):
    """A recipe is unknown, or contradicts itself."""
