"""``facet people merge|split|not|undo|history``: corrections of people."""

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
from worker.identity.correct import NotResult, SplitResult, merge_people, not_person, split_person, undo_correction
from worker.identity.corrections.history import read_history
from worker.identity.listing import find_person
from worker.ledger.releases import user_name
from worker.storage.database import Database, open_database
from worker.storage.home import make_home
from worker.storage.transactions import Result, run_transaction
from worker.visible import counted

Person = Annotated[str, typer.Argument(help="Number or name of a person, as in `facet people list`.", callback=utf8)]
Reason = Annotated[str | None, typer.Option(help="Reason, stored with the correction.", callback=utf8_or_none)]
Appearances = Annotated[
    str,
    typer.Option("--appearances", metavar="A,B,...", help="Numbers of appearances, as in `facet people show`."),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those on people."""
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


def named_person(database: Database, given: str) -> int:
    """Return the number of a person who is given by number or by name.

    Raises:
        UsageError: no person or more than one has the name.
    """
    with database.sessions.begin() as session:
        return find_person(session, given)


def merge(
    person: Person,
    others: Annotated[list[str], typer.Argument(help="Numbers or names of the people to merge into the first.")],
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Merge people: the first keeps its number, and its name if it has one."""

    def work(session: Session) -> tuple[list[int], int]:
        people = [find_person(session, utf8(one)) for one in (person, *others)]
        return people, merge_people(session, people, reason=reason, made_by=user_name())

    (keep, *joined), correction = change(work)
    _report(f"people {', '.join(map(str, joined))} are person {keep}", correction, as_json=as_json)


def split(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Split some appearances of a person off into a new person."""
    chosen = _numbers(appearances)

    def work(session: Session) -> tuple[int, SplitResult]:
        number = find_person(session, person)
        return number, split_person(session, number, chosen, reason=reason, made_by=user_name())

    number, done = change(work)
    subject = counted(len(chosen), f"appearance of person {number} is", f"appearances of person {number} are")
    message = f"{subject} person {done.person_id}"
    _report(message, done.correction_id, as_json=as_json, person_id=done.person_id)


def deny(person: Person, appearances: Appearances, reason: Reason = None, as_json: JsonFlag = False) -> None:
    """Exclude appearances from a person: each joins the most similar other person, or becomes a new one."""
    chosen = _numbers(appearances)

    def work(session: Session) -> NotResult:
        return not_person(session, find_person(session, person), chosen, reason=reason, made_by=user_name())

    done = change(work)
    message = "; ".join(f"appearance {appearance} is person {other}" for appearance, other in done.people.items())
    _report(message, done.correction_id, as_json=as_json, person_ids=done.people)


def undo(
    correction: Annotated[int | None, typer.Argument(help="Number of the correction; default: the latest.")] = None,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Undo a correction; if nothing else has changed since, people are as they were before."""
    undone = change(lambda session: undo_correction(session, correction, reason=reason, made_by=user_name()))
    _report(f"correction {undone} is undone", undone, as_json=as_json)


def history(
    limit: Annotated[int, typer.Option(help="Maximum number of corrections.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List corrections with their times, users and reasons, the latest first."""
    with transaction() as session:
        found = read_history(session, limit=limit)
    if as_json:
        print_json([asdict(correction) | {"what": correction.description()} for correction in found])
        return
    columns = ("correction", "when", "by", "what", "reason", "undone", "places lost")
    rows = [
        (c.correction_id, c.created_at, c.made_by, c.description(), c.reason, c.undone_at, c.lost or None)
        for c in found
    ]
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
