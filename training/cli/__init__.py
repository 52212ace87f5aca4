"""The command ``facet-train``: one file a group of commands."""

from training.cli.main import main

__all__ = ["main"]
