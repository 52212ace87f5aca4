"""The command line ``facet``."""

from worker.cli.main import main

__all__ = ["main"]
