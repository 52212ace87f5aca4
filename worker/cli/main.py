"""Entry point: the commands together, and what an error looks like to a user."""

from __future__ import annotations

import logging
import os
import sys

import typer
from rich.console import Console

from db.errors import DatabaseError
from worker.cli import admin, analyze, annotate, ask, forget, jobs, people, search, workers
from worker.errors import FacetError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="facet",
    help="Who appears where in a media archive, with which age, gender, ethnicity, emotion and attributes, in SQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (analyze, jobs, workers, ask, search, annotate, forget, admin):
    group.register(app)
app.add_typer(people.app, name="people")
app.add_typer(admin.releases, name="releases")
app.add_typer(admin.database, name="db")


def main() -> None:
    """Run a command; errors are one line on standard error, and the exit status says what kind they are."""
    # Threads of the network that wait shall sleep: decoding needs their core. Spinning made it four times slower on two
    # busy cores. OpenMP reads this when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except UsageError as err:
        errors.print(f"facet: {err}", style="red", markup=False)
        sys.exit(EXIT_USAGE)
    except (FacetError, DatabaseError) as err:
        errors.print(f"facet: {err}", style="red", markup=False)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        errors.print("facet: interrupted; nothing is lost, run the same command again to go on", markup=False)
        sys.exit(EXIT_INTERRUPTED)
