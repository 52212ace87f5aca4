"""``facet people``: identity clusters."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import text

from worker.cli.output.terminal import JsonFlag, console, print_json, table
from worker.cli.people import corrections, regrouping
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

app = typer.Typer(help="People: identity clusters over everything stored.", no_args_is_help=True)

COLUMNS = (
    "person_id", "name", "appearance_count", "media_count", "face_count", "age", "gender", "ethnicity", "best_face_id",
)  # fmt: skip


@app.command("list", epilog="Example: facet people list --limit 50")
def list_people(
    limit: Annotated[int, typer.Option(help="At most so many, those seen most first.", min=1)] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List people, those with the most appearances first."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        statement = f"SELECT {', '.join(COLUMNS)} FROM people ORDER BY appearance_count DESC, person_id LIMIT :limit"  # noqa: S608 - constant names
        rows = session.execute(text(statement), {"limit": limit}).all()
    _show("People", COLUMNS, [tuple(row) for row in rows], as_json=as_json)


@app.command(epilog="Example: facet people show 3")
def show(person: corrections.Person, as_json: JsonFlag = False) -> None:
    """Show where a person appears."""
    config = settings()
    make_home(config.home)
    columns = ("appearance_id", "uri", "start_seconds", "end_seconds", "face_count", "age", "gender", "emotion")
    with open_database(config) as database, database.sessions.begin() as session:
        statement = text("""SELECT appearance_id, uri, start_seconds, end_seconds, a.face_count, age, gender, emotion
                            FROM appearances a JOIN media USING (media_id) WHERE person_id = :person
                            ORDER BY uri, start_seconds""")
        rows = session.execute(statement, {"person": person}).all()
    if not rows:
        raise UsageError(f"there is no person {person}; see `facet people list`")
    _show(f"Person {person}", columns, [tuple(row) for row in rows], as_json=as_json)


def _show(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]], *, as_json: bool) -> None:
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        console().print(table(title, columns, rows))


corrections.register(app)
regrouping.register(app)
