"""Recipes: the branches of a release, and how each is trained; the package registers those of ``catalogue``."""

from training.recipes import catalogue  # noqa: F401 - registers them
