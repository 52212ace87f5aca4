"""``facet people import-xmp``: takes over the names that photo programs gave to faces."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, typed
from worker.cli.people.corrections import Reason, change
from worker.cli.people.naming import MergeFlag
from worker.config import Settings, settings
from worker.identity.correct import NewName, merge_people, name_people
from worker.identity.listing import named_people_of
from worker.ledger.releases import user_name
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pictures.regions.naming import NamedPlace, ReadNames

MAX_REGION_LINES = 20  # of regions that were left out
REASON = "face region"


@dataclass(slots=True)
class MarkedName:
    """A name, and what became of it."""

    name: str
    faces: int
    """Faces of the archive that are marked with it."""
    new: list[int]
    """Appearances that get it."""
    differing: int
    """Faces that are left to the name that they have."""
    people: tuple[int, ...] = ()
    """People of the appearances, the one that bears the name first."""
    correction_id: int | None = None


def add_commands(app: typer.Typer) -> None:
    """Add the command to those on people."""
    app.command("import-xmp", epilog="Example: facet people import-xmp /photos --dry-run")(import_xmp)


def import_xmp(
    paths: Annotated[list[Path], typer.Argument(help="Folders, images and sidecars whose face regions are read.")],
    *,
    override: Annotated[
        bool, typer.Option("--override", help="Also name faces of people who have another name; they leave it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the names, and give none.")] = False,
    merge: MergeFlag = False,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Name people from the face regions that digiKam, Lightroom, Windows and others wrote (XMP: MWG and Microsoft).

    A region names the face that lies there, as a correction that can be undone. Images are recognised by their
    bytes, or else by their path. Exit status 1 when a named region led to no face.
    """
    config = settings()
    make_home(config.home)
    found = _read(config, paths)
    names = _names(found.places, override=override)
    if not dry_run:
        _store(names, found.places, reason or REASON, merge=merge)
    if as_json:
        print_json(
            {
                "names": [asdict(one) for one in names],
                "left_out": [asdict(one) for one in found.left_out],
                "without_name": found.without_name,
            }
        )
    else:
        _show(names, found, dry_run=dry_run)
    if found.left_out:
        raise typer.Exit(1)


def _read(config: Settings, paths: Sequence[Path]) -> ReadNames:
    from worker.decode.client import Decoder
    from worker.ledger.upkeep.staged_members import open_sources
    from worker.pictures.regions.images import ArchiveImages
    from worker.pictures.regions.naming import read_region_names
    from worker.types import DecodeLimits

    limits = DecodeLimits(memory_bytes=config.decode_memory_bytes, wall_seconds=config.decode_wall_seconds)
    with open_database(config) as database, Decoder(limits) as decoder:
        images = ArchiveImages(database.sessions, open_sources(config, database.sessions), decoder)
        with console(stderr=True).status("reading regions ..."):
            return read_region_names(paths, database.sessions, images)


def _names(places: Sequence[NamedPlace], *, override: bool) -> list[MarkedName]:
    """Group faces by name, in order of the names; a face of a person who has the name already needs none."""
    from worker.pictures.regions.naming import key_of

    groups: dict[str, dict[int, NamedPlace]] = defaultdict(dict)
    for place in places:
        groups[key_of(place.name)].setdefault(place.appearance_id, place)
    names = []
    for key, faces in sorted(groups.items()):
        others = [one for one in faces.values() if one.present_name is None or key_of(one.present_name) != key]
        new = [one.appearance_id for one in others if override or one.present_name is None]
        called = next((one.present_name for one in faces.values() if one not in others), None)
        first = next(iter(faces.values())).name
        names.append(MarkedName(called or first, len(faces), new, len(others) - len(new)))
    return names


def _store(names: Sequence[MarkedName], places: Sequence[NamedPlace], reason: str, *, merge: bool) -> None:
    given = [one for one in names if one.new]
    if not given:
        return
    statements = [NewName(_most(one, places), one.name, reason, tuple(one.new)) for one in given]
    corrections = change(lambda session: name_people(session, statements, made_by=user_name()))
    for one, correction in zip(given, corrections, strict=True):
        one.correction_id = correction
        one.people = tuple(change(partial(named_people_of, appearance_ids=one.new, name=one.name)))
        if merge and len(one.people) > 1:
            change(partial(merge_people, person_ids=one.people, reason=reason, made_by=user_name()))
            one.people = one.people[:1]


def _most(name: MarkedName, places: Sequence[NamedPlace]) -> int:
    """Return the person who has most of the appearances that get a name."""
    people = {place.appearance_id: place.person_id for place in places}
    return Counter(people[appearance] for appearance in name.new).most_common(1)[0][0]


def _show(names: Sequence[MarkedName], found: ReadNames, *, dry_run: bool) -> None:
    rows = [
        (one.name, one.faces, one.people[0] if one.people else None, _result(one, dry_run=dry_run)) for one in names
    ]
    console().print(table("Names", ("name", "faces", "person", "result"), rows, prose=("result",)))
    for one in names:
        if len(one.people) > 1:
            numbers, command = ", ".join(map(str, one.people)), typed("people", "merge", *map(str, one.people))
            echo(f"faces of people {numbers} are all called {one.name}; if they are one person: {command}", err=True)
    for left in found.left_out[:MAX_REGION_LINES]:
        which = f"{left.source}: {left.name}" if left.name else left.source
        echo(f"{which} is left out: {left.reason}", err=True)
    if len(found.left_out) > MAX_REGION_LINES:
        echo(f"{len(found.left_out) - MAX_REGION_LINES:,} more regions are left out; --json lists all", err=True)
    if dry_run:
        count = sum(len(one.new) for one in names)
        echo(f"{count:,} faces would be named; run it without --dry-run to name them")


def _result(one: MarkedName, *, dry_run: bool) -> str:
    words = []
    if one.new:
        correction = "" if one.correction_id is None else f" (correction {one.correction_id})"
        words.append(f"{len(one.new)} {'would be ' * dry_run}named{correction}")
    if same := one.faces - len(one.new) - one.differing:
        words.append(f"{same} had the name")
    if one.differing:
        words.append(f"{one.differing} have another name; pass --override")
    return ", ".join(words)
