"""Recipes: the branches of a release, and how each is trained; the package registers those of its catalogues."""

from training.recipes import attributes, backbones, catalogue, robust, systems  # noqa: F401 - registers them
