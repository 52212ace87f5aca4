"""Recipes: the branches of a release, and how each is trained; the package registers those of ``catalogue``."""

import training.recipes.catalogue  # noqa: F401 - registers them
