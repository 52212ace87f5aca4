"""``facet people name|merge|split|not|undo|history``: what humans say about people."""

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
Reason = Annotated[str | None, typer.Option(help="Why; kept with the correction.", callback=utf8_or_none)]
Appearances = Annotated[
    str,
    typer.Option("--appearances", metavar="A,B,...", help="Numbers of appearances, as in `facet people show`."),
]


def register(app: typer.Typer) -> None:
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
    """Change people in one transaction, again from its beginning where another one was in its way."""
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
    """Give a person a name; it stays with these appearances whatever is regrouped or analysed again."""
    correction = change(lambda session: name_person(session, person, new_name, reason=reason))
    _tell(f"person {person} is {new_name.strip()}", correction, as_json=as_json)


def merge(
    person: Person,
    others: Annotated[list[int], typer.Argument(help="Numbers of the people who are the same one.")],
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Make people one: the first keeps its number, and its name if it has one."""
    correction = change(lambda session: merge_people(session, [person, *others], reason=reason))
    _tell(f"people {', '.join(map(str, others))} are person {person}", correction, as_json=as_json)


def split(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Make some appearances of a person a new person."""
    chosen = _numbers(appearances)
    done = change(lambda session: split_person(session, person, chosen, reason=reason))
    said = f"{len(chosen)} appearances of person {person} are person {done.person_id}"
    _tell(said, done.correction_id, as_json=as_json, person_id=done.person_id)


def deny(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Say that appearances are not this person: each becomes whom it resembles otherwise, or somebody new."""
    done = change(lambda session: not_person(session, person, _numbers(appearances), reason=reason))
    said = "; ".join(f"appearance {appearance} is person {other}" for appearance, other in done.people.items())
    _tell(said, done.correction_id, as_json=as_json, person_ids=done.people)


def undo(
    correction: Annotated[int | None, typer.Argument(help="Its number; the latest if left out.")] = None,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a correction back; if nothing else happened since, everything is as it was before."""
    undone = change(lambda session: undo_correction(session, correction, reason=reason))
    _tell(f"correction {undone} is undone", undone, as_json=as_json)


def history(
    limit: Annotated[int, typer.Option(help="At most so many, the latest first.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List corrections: when, what and why."""
    with transaction() as session:
        found = read_history(session, limit=limit)
    if as_json:
        print_json([asdict(correction) | {"what": correction.description()} for correction in found])
        return
    columns = ("correction", "when", "what", "reason", "undone", "places lost")
    rows = [(c.correction_id, c.created_at, c.description(), c.reason, c.undone_at, c.lost or None) for c in found]
    console().print(table("Corrections", columns, rows))


def _numbers(given: str) -> list[int]:
    try:
        return [int(part) for part in given.split(",") if part.strip()]
    except ValueError as err:
        raise UsageError(f"--appearances {given} cannot be read; expected numbers with commas between: 41,57") from err


def _tell(said: str, correction: int, *, as_json: bool, **facts: object) -> None:
    if as_json:
        print_json({"correction_id": correction, "what": said} | facts)
    else:
        echo(f"{said} (correction {correction})")
