"""``facet people``: lists people; its other commands are in the modules beside."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from worker.cli.output.empty import explain_empty
from worker.cli.output.terminal import JsonFlag, print_json, print_rows
from worker.cli.people import corrections, learning, marks, naming, regrouping
from worker.cli.people.corrections import transaction
from worker.config import settings
from worker.errors import UsageError
from worker.identity.listing import (
    ListedAppearance,
    ListedPerson,
    find_person,
    name_of,
    read_appearances,
    read_people,
)
from worker.storage.database import open_database
from worker.storage.home import make_home

app = typer.Typer(help="People: list, name and correct the identity clusters of the archive.", no_args_is_help=True)


@app.command("list", epilog="Example: facet people list --limit 50")
def list_people(
    limit: Annotated[int, typer.Option(help="Maximum number of people.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List people, those with the most appearances first."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            people = read_people(session, limit)
        explain_empty(database, config)
    print_rows("People", ListedPerson, people, as_json=as_json)


@app.command(epilog="Example: facet people show 3")
def show(person: corrections.Person, as_json: JsonFlag = False) -> None:
    """Show the appearances of a person."""
    with transaction() as session:
        number = find_person(session, person)
        appearances = read_appearances(session, number)
        name = name_of(session, number)
    if not appearances:
        raise UsageError(f"there is no person {number}; see `facet people list`")
    if as_json:
        print_json([{"person_id": number, "name": name, **asdict(one)} for one in appearances])
        return
    title = f"Person {number}: {name}" if name else f"Person {number}"
    print_rows(title, ListedAppearance, appearances, as_json=False)


naming.add_commands(app)
learning.add_commands(app)
marks.add_commands(app)
corrections.add_commands(app)
regrouping.add_commands(app)
