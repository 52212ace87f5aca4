"""``facet people name|merge|split|not|undo|history``: corrections of people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, utf8, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.identity.correct import merge_people, name_person, not_person, split_person, undo_correction
from worker.identity.corrections.history import read_history
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.storage.transactions import Result, run_transaction

Person = Annotated[int, typer.Argument(help="Number of a person, as in `facet people list`.")]
Reason = Annotated[str | None, typer.Option(help="Reason, stored with the correction.", callback=utf8_or_none)]
Appearances = Annotated[
    str,
    typer.Option("--appearances", metavar="A,B,...", help="Numbers of appearances, as in `facet people show`."),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those on people."""
    app.command(epilog="Example: facet people name 3 'Grace Hopper' --reason 'caption of the photo'")(name)
    app.command(epilog="Example: facet people merge 3 7 12")(merge)
    app.command(epilog="Example: facet people split 3 --appearances 41,57")(split)
    app.command("not", epilog="Example: facet people not 3 --appearances 41")(deny)
    app.command(epilog="Example: facet people undo")(undo)
    app.command(epilog="Example: facet people history --limit 10")(history)


@contextmanager
def transaction() -> Iterator[Session]:
    """Open this deployment's database for one transaction."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        yield session


def change(work: Callable[[Session], Result]) -> Result:
    """Change people in one transaction; after a conflict with another one it is run again."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        return run_transaction(database.sessions, "correct", work)


def name(
    person: Person,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="The name.", callback=utf8)],
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Name a person; the name stays with these appearances when people are regrouped or files analysed again."""
    correction = change(lambda session: name_person(session, person, new_name, reason=reason))
    _report(f"person {person} is {new_name.strip()}", correction, as_json=as_json)


def merge(
    person: Person,
    others: Annotated[list[int], typer.Argument(help="Numbers of the people to merge into the first.")],
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Merge people: the first keeps its number, and its name if it has one."""
    correction = change(lambda session: merge_people(session, [person, *others], reason=reason))
    _report(f"people {', '.join(map(str, others))} are person {person}", correction, as_json=as_json)


def split(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Split some appearances of a person off into a new person."""
    chosen = _numbers(appearances)
    done = change(lambda session: split_person(session, person, chosen, reason=reason))
    message = f"{len(chosen)} appearances of person {person} are person {done.person_id}"
    _report(message, done.correction_id, as_json=as_json, person_id=done.person_id)


def deny(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Exclude appearances from a person: each joins the most similar other person, or becomes a new one."""
    done = change(lambda session: not_person(session, person, _numbers(appearances), reason=reason))
    message = "; ".join(f"appearance {appearance} is person {other}" for appearance, other in done.people.items())
    _report(message, done.correction_id, as_json=as_json, person_ids=done.people)


def undo(
    correction: Annotated[int | None, typer.Argument(help="Number of the correction; default: the latest.")] = None,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Undo a correction; if nothing else has changed since, people are as they were before."""
    undone = change(lambda session: undo_correction(session, correction, reason=reason))
    _report(f"correction {undone} is undone", undone, as_json=as_json)


def history(
    limit: Annotated[int, typer.Option(help="Maximum number of corrections.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List corrections with their times and reasons, the latest first."""
    with transaction() as session:
        found = read_history(session, limit=limit)
    if as_json:
        print_json([asdict(correction) | {"what": correction.description()} for correction in found])
        return
    columns = ("correction", "when", "what", "reason", "undone", "places lost")
    rows = [(c.correction_id, c.created_at, c.description(), c.reason, c.undone_at, c.lost or None) for c in found]
    console().print(table("Corrections", columns, rows, prose=("what", "reason")))


def _numbers(given: str) -> list[int]:
    try:
        return [int(part) for part in given.split(",") if part.strip()]
    except ValueError as err:
        raise UsageError(f"--appearances {given} cannot be read, expected numbers separated by commas: 41,57") from err


def _report(message: str, correction: int, *, as_json: bool, **facts: object) -> None:
    if as_json:
        print_json({"correction_id": correction, "what": message} | facts)
    else:
        echo(f"{message} (correction {correction})")
