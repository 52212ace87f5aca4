"""Entry point: all commands, and how errors are shown to users."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from db.errors import DatabaseError, WrongQuery
from models.inference.threads import set_wait_policy
from worker.errors import FacetError, UsageError
from worker.masking import MaskingFormatter, masked
from worker.visible import visible_lines

if TYPE_CHECKING:
    from types import TracebackType

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141  # as a shell reports a program that SIGPIPE ended

COMMANDS = {
    "analyze": (
        ".analyze",
        "Find, describe and identify every face in media files, on this machine, without a broker.",
    ),
    "submit": (".jobs.commands", "Write a job to the ledger and wake the workers (`facet worker`)."),
    "status": (".jobs.commands", "Show the progress of jobs, slow units and failures."),
    "cancel": (
        ".jobs.commands",
        "Stop a job; stored results are kept, and files that another job waits for go on.",
    ),
    "reprocess": (
        ".jobs.reprocess",
        "Fill in what a release lacks, from the cheapest source: stored scores, embeddings, crops or the files.",
    ),
    "worker": (".workers", "Work on submitted jobs until stopped; start one per host or GPU."),
    "beat": (
        ".workers",
        "Wake workers for units that wait, and schedule upkeep, every half minute; run one per deployment.",
    ),
    "flower": (".workers", "Serve Celery's monitoring page (needs the extra called monitor)."),
    "sql": (
        ".ask",
        "Run a read-only query over media, jobs, faces, appearances, people, releases and predictions.",
    ),
    "sheet": (".ask", "Draw a contact sheet: the best face of each appearance, grouped by person."),
    "search": (
        ".search",
        "Find the people and appearances most similar to a face, each with the probability of being the same person.",
    ),
    "annotate": (
        ".pictures.annotate",
        "Draw box, person, age, gender and emotion of each appearance on the frames of a video or on an image.",
    ),
    "export": (
        ".pictures.export",
        "Write who appears when, and where in the frame, for other programs: subtitles, annotations, a table, regions.",
    ),
    "report": (
        ".pictures.report",
        "Write a report as one HTML file: what was analysed, people, times in view, method, errors, limits.",
    ),
    "sample": (
        ".pictures.sample",
        "Draw faces at random for people to label: their crops, a table, and tasks for Label Studio.",
    ),
    "agreement": (
        ".pictures.agreement",
        "Compare labels of people with the heads of the active release: accuracy, kappa, years off, by group.",
    ),
    "forget": (
        ".forget",
        "Erase a file or a person from everything that is stored, and print a receipt (JSON).",
    ),
    "web": (
        ".workers",
        "Serve the page on which people are looked at and corrected, until stopped (needs the extra called web).",
    ),
    "doctor": (
        ".admin.commands",
        "Check settings, disk, database, broker, weights and device, and print remedies; exit status 1 on a failure.",
    ),
    "jobs": (".jobs.pausing", "Jobs: pause them, let them go on."),
    "people": (".people.app", "People: list, name and correct the identity clusters of the archive."),
    "import-json": (
        ".admin.import_json",
        "Import face results of Rekognition, Video Intelligence or Video Indexer, to compare them in SQL.",
    ),
    "releases": (
        ".admin.releases",
        "Model releases: register and list them, choose the one that the views show.",
    ),
    "schedule": (".schedules", "Schedules: work that comes again, which `facet beat` begins."),
    "db": (".admin.commands", "The database: upgrade it, check it, print its address."),
}
"""Module and summary of each command; a test compares the summaries with the commands' own."""
GROUPS = {"jobs": "app", "people": "app", "releases": "app", "schedule": "app", "db": "database"}
"""Names of the Typer objects of commands that have commands of their own."""


class Later(TyperCommand):
    """A command whose module is imported when it is called: the help of the program needs the summary alone."""

    def __init__(self, name: str) -> None:
        self.module, summary = COMMANDS[name]
        super().__init__(name=name, callback=None, help=summary)

    def load(self) -> Any:  # typer publishes no type of a command
        """Import the command."""
        module = import_module(self.module, __package__)
        if self.name in GROUPS:
            group = typer.main.get_group(getattr(module, GROUPS[self.name]))
            group.name = self.name
            return group
        commands = typer.Typer()
        module.add_commands(commands)
        commands.callback()(_nothing)  # with it, one command is a group, too
        return typer.main.get_group(commands).commands[str(self.name)]


class Commands(TyperGroup):
    """All commands of the program."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": {name: Later(name) for name in COMMANDS}})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Later) else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; typer would end silently when it is interrupted.

        Raises:
            Interrupted: the user pressed Ctrl-C.
            PipeClosed: the reader of the output ended.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as err:
            raise PipeClosed from err
        except KeyboardInterrupt as err:
            raise Interrupted from err
        return result


class PipeClosed(Exception):
    """The program that reads the output, such as `head`, has ended."""


class Interrupted(Exception):
    """The user pressed Ctrl-C."""


app = typer.Typer(
    name="facet",
    cls=Commands,
    help="Find, describe and identify faces in media archives, and query people, ages, genders and emotions in SQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _nothing() -> None:
    """Do nothing."""


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer passes it so
    if wanted:
        typer.echo(f"facet {metadata.version('facet')}")
        raise typer.Exit


@app.callback()
def program(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options of the program itself."""


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
    except (UsageError, WrongQuery) as err:
        errors.print(visible_lines(masked(f"facet: {err}")), style="red")
        sys.exit(EXIT_USAGE)
    except (FacetError, DatabaseError) as err:
        errors.print(visible_lines(masked(f"facet: {err}")), style="red")
        sys.exit(EXIT_FAILED)
    except PipeClosed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is lost without a message
        sys.exit(EXIT_PIPE_CLOSED)
    except (Interrupted, KeyboardInterrupt):
        errors.print("facet: interrupted; nothing is lost, run the same command again to go on")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as err:
        if (message := _unreachable(err)) is None:
            raise
        errors.print(visible_lines(masked(f"facet: {message}")), style="red")
        sys.exit(EXIT_FAILED)


def _unreachable(error: Exception) -> str | None:
    """Return the message of an error of an unreachable database; None for any other error."""
    from sqlalchemy.exc import DBAPIError  # a command that failed without a database has no need of it

    from worker.storage.database import database_failure, is_unreachable

    return str(database_failure(error)) if isinstance(error, DBAPIError) and is_unreachable(error) else None


def _show_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, with the passwords masked that a library may have put into it."""
    sys.stderr.write(visible_lines(masked("".join(traceback.format_exception(kind, error, trace))), indent=""))
