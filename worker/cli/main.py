"""Entry point: all commands, and how errors are shown to users."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from db.errors import DatabaseError
from models.inference.threads import set_wait_policy
from worker.cli import analyze, annotate, ask, forget, schedules, search, workers
from worker.cli.admin import commands as admin
from worker.cli.admin import releases
from worker.cli.jobs import commands as jobs
from worker.cli.jobs import pausing
from worker.cli.jobs import reprocess as reprocessing
from worker.cli.people.app import app as people_app
from worker.errors import FacetError, UsageError
from worker.masking import MaskingFormatter, masked
from worker.storage.database import database_failure, is_unreachable
from worker.visible import visible_lines

if TYPE_CHECKING:
    from types import TracebackType

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="facet",
    help="Find, describe and identify faces in media archives, and query people, ages, genders and emotions in SQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (analyze, jobs, reprocessing, workers, ask, search, annotate, forget, admin):
    group.add_commands(app)
app.add_typer(pausing.app, name="jobs")
app.add_typer(people_app, name="people")
app.add_typer(releases.app, name="releases")
app.add_typer(schedules.app, name="schedule")
app.add_typer(admin.database, name="db")


def main() -> None:
    """Run a command. Print an error as one line on standard error; the exit status depends on its kind."""
    set_wait_policy()
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _show_masked
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack characters of names
            stream.reconfigure(errors="backslashreplace")
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        app()
    except UsageError as err:
        errors.print(visible_lines(masked(f"facet: {err}")), style="red")
        sys.exit(EXIT_USAGE)
    except (FacetError, DatabaseError) as err:
        errors.print(visible_lines(masked(f"facet: {err}")), style="red")
        sys.exit(EXIT_FAILED)
    except DBAPIError as err:
        if not is_unreachable(err):
            raise
        errors.print(visible_lines(masked(f"facet: {database_failure(err)}")), style="red")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        errors.print("facet: interrupted; nothing is lost, run the same command again to go on")
        sys.exit(EXIT_INTERRUPTED)


def _show_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, with the passwords masked that a library may have put into it."""
    sys.stderr.write(visible_lines(masked("".join(traceback.format_exception(kind, error, trace))), indent=""))
