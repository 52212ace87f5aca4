"""``facet people name``: names one person, or many from a list, and offers to merge people of one name."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, echo, print_json, typed, utf8_or_none
from worker.cli.people.corrections import Reason, change
from worker.cli.people.name_list import NameRow, read_name_list
from worker.errors import UsageError
from worker.identity.correct import NewName, merge_people, name_people
from worker.identity.listing import find_person, name_of, people_called, person_of_appearance
from worker.ledger.releases import user_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

MergeFlag = Annotated[bool, typer.Option("--merge", help="Merge people who have the same name now, without asking.")]


@dataclass(frozen=True, slots=True)
class Named:
    """People that were named."""

    new: tuple[NewName, ...]
    corrections: tuple[int, ...]
    unchanged: int
    """Number of people who had their name already."""
    same_name: tuple[tuple[str, tuple[int, ...]], ...]
    """Names that several people have now, with their numbers."""


def add_commands(app: typer.Typer) -> None:
    """Add the command to those on people."""
    app.command(epilog="Example: facet people name 3 'Grace Hopper' --reason 'caption of the photo'")(name)


def name(
    person: Annotated[
        str | None,
        typer.Argument(help="Number or present name of a person, as in `facet people list`.", callback=utf8_or_none),
    ] = None,
    new_name: Annotated[str | None, typer.Argument(metavar="NAME", help="The name.", callback=utf8_or_none)] = None,
    *,
    names: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="CSV file with a column name and one of person_id, person and appearance_id; all names are given, "
            "or none.",
        ),
    ] = None,
    merge: MergeFlag = False,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Name people; a name stays with these appearances when people are regrouped or files analysed again.

    Where another person has the name already, a warning says how to merge the two; in a terminal you are asked.
    """
    if names is not None:
        if person is not None:
            raise UsageError(f"got {person} and --from {names}, expected one of them")
        rows = read_name_list(names)
        named = change(lambda session: name_rows(session, _new_names(session, names, rows, reason)))
    elif person is None or new_name is None:
        raise UsageError("expected PERSON and NAME, or --from FILE.csv; see `facet people list` for people")
    else:
        given, called = person, new_name
        named = change(
            lambda session: name_rows(session, [NewName(find_person(session, given), called, reason)], again=True)
        )
    report_named(named, merge=merge, may_ask=names is None, as_json=as_json)


def _new_names(session: Session, path: Path, rows: Sequence[NameRow], reason: str | None) -> list[NewName]:
    """Find the person of each line.

    Raises:
        UsageError: there is no such person, or two lines give one person different names.
    """
    found: dict[int, tuple[int, NewName]] = {}
    for row in rows:
        try:
            number = person_of_appearance(session, int(row.key)) if row.is_appearance else find_person(session, row.key)
        except UsageError as err:
            raise UsageError(f"{path} line {row.line}: {err}; no name was given") from err
        new = NewName(number, row.name, row.reason or reason)
        line, before = found.setdefault(number, (row.line, new))
        if before.name != new.name:
            raise UsageError(
                f"{path} lines {line} and {row.line} call person {number} {before.name} and {new.name}; expected one "
                "name; no name was given"
            )
    return [new for _, new in found.values()]


def name_rows(session: Session, names: Sequence[NewName], *, again: bool = False) -> Named:
    """Store names; people who have theirs already are left as they are unless named ``again``."""
    new = [one for one in names if again or name_of(session, one.person_id) != one.name.strip()]
    corrections = name_people(session, new, made_by=user_name()) if new else []
    groups = {name.lower(): (name, tuple(people_called(session, name))) for name in (one.name.strip() for one in names)}
    same = tuple(group for group in groups.values() if len(group[1]) > 1)
    return Named(tuple(new), tuple(corrections), len(names) - len(new), same)


def report_named(named: Named, *, merge: bool, may_ask: bool, as_json: bool) -> None:
    """Report names, and merge people of one name where that is wanted."""
    if not as_json:
        for one, correction in zip(named.new, named.corrections, strict=True):
            echo(f"person {one.person_id} is {one.name.strip()} (correction {correction})")
        if named.unchanged:
            echo(f"{named.unchanged} people had their names already")
    merged = {}
    for called, people in named.same_name:
        if merge or (may_ask and not as_json and _is_wanted(called, people)):
            merged[called] = change(partial(merge_people, person_ids=people, made_by=user_name()))
            if not as_json:
                joined = ", ".join(map(str, people[1:]))
                echo(f"people {joined} are person {people[0]} (correction {merged[called]})")
        else:
            numbers = ", ".join(map(str, people))
            command = typed("people", "merge", *map(str, people))
            echo(f"people {numbers} are all called {called}; if they are one person: {command}", err=True)
    if as_json:
        print_json(named_document(named, merged))


def merge_same_names(named: Named) -> dict[str, int]:
    """Merge people of one name; returns the corrections by name."""
    return {
        called: change(partial(merge_people, person_ids=people, made_by=user_name()))
        for called, people in named.same_name
    }


def _is_wanted(called: str, people: Sequence[int]) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"People {', '.join(map(str, people))} are all called {called}. Merge them?", err=True)


def named_document(named: Named, merged: Mapping[str, int]) -> dict[str, object]:
    """Return names as JSON has them, with the corrections that merged people of one name."""
    rows = [
        {"person_id": one.person_id, "name": one.name.strip(), "correction_id": correction}
        for one, correction in zip(named.new, named.corrections, strict=True)
    ]
    same = [{"name": called, "people": people, "merged": merged.get(called)} for called, people in named.same_name]
    one = rows[0] if len(rows) == 1 else None
    first = (
        {"correction_id": one["correction_id"], "what": f"person {one['person_id']} is {one['name']}"} if one else {}
    )
    return first | {"named": rows, "unchanged": named.unchanged, "same_name": same}
