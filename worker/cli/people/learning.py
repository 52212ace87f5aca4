"""``facet people learn``: names the people of the archive from reference photos."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table
from worker.cli.people.corrections import Reason, change
from worker.cli.people.naming import MergeFlag, merge_same_names, name_rows, named_document, report_named
from worker.config import Settings, settings
from worker.identity.correct import NewName
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.identity.search.learn import Match, Reference, SkippedPhoto
    from worker.identity.search.photo import PhotoFace

PROBABILITY = 0.95  # of being the same person, from which a name is given


def add_commands(app: typer.Typer) -> None:
    """Add the command to those on people."""
    app.command(epilog="Example: facet people learn references --dry-run")(learn)


def learn(  # noqa: PLR0913 - the options of a command are its arguments
    folder: Annotated[
        Path, typer.Argument(help="Folder of photos: a folder a person, or files called like the person they show.")
    ],
    *,
    min_probability: Annotated[
        float, typer.Option("--min-probability", help="Give a name from this probability on.", min=0.5, max=1.0)
    ] = PROBABILITY,
    rename: Annotated[bool, typer.Option("--rename", help="Also name people who have another name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show who would be named, and give no name.")] = False,
    merge: MergeFlag = False,
    reason: Reason = None,
    as_json: JsonFlag = False,
) -> None:
    """Name people of the archive from reference photos, such as Grace Hopper/1.jpg or Grace_Hopper_2.jpg.

    The photos are not stored, and name the people who are in the archive now: run it again after new files. A photo on
    which two faces are about as large is skipped. Exit status 1 when a photo or a name led to no person.
    """
    from worker.identity.search.learn import photos_by_name

    photos = photos_by_name(folder)
    config = settings()
    make_home(config.home)
    matches, skipped = _matches(config, photos, min_probability)
    results = [_result(one, rename=rename) for one in matches]
    if not as_json:
        _show(matches, results, skipped)
    new = [
        NewName(one.person_id, one.name, reason or "reference photos")
        for one, result in zip(matches, results, strict=True)
        if one.person_id is not None and result in {"named", "renamed"}
    ]
    if as_json:
        named = change(lambda session: name_rows(session, [] if dry_run else new))
        rows = [asdict(one) | {"result": result} for one, result in zip(matches, results, strict=True)]
        given = named_document(named, merge_same_names(named) if merge else {})
        print_json({"matches": rows, "skipped": [asdict(one) for one in skipped]} | given)
    elif dry_run:
        echo(f"{len(new)} people would be named; run it without --dry-run to name them")
    elif new:
        report_named(change(lambda session: name_rows(session, new)), merge=merge, may_ask=False, as_json=False)
    if skipped or any(one.person_id is None for one in matches):
        raise typer.Exit(1)


def _matches(
    config: Settings, photos: Mapping[str, Sequence[Path]], min_probability: float
) -> tuple[list[Match], list[SkippedPhoto]]:
    """Find the faces of all photos with the model that made the archive's embeddings, and search for them."""
    from worker.analysis.runner import decode_limits
    from worker.decode.client import Decoder
    from worker.identity.search.learn import match, read_references
    from worker.identity.search.photo import decode_photo, find_faces
    from worker.identity.search.searcher import Searcher
    from worker.ledger.upkeep.staged_members import open_sources
    from worker.releases.folders import ReleaseFolders

    with open_database(config) as database, Decoder(decode_limits(config)) as decoder:
        searcher = Searcher(config.reader_database_url or database.url)
        release = ReleaseFolders(config, database.sessions).load_embedder(searcher.trunk_sha256())
        sources, limits = open_sources(config), decode_limits(config)

        def read_faces(path: Path) -> Sequence[PhotoFace]:
            pixels = decode_photo(str(path), sources, config.staging, decoder, limits)
            return find_faces(pixels, release, config.max_tiles)

        with console(stderr=True).status("looking at photos ..."):
            references, skipped = read_references(photos, read_faces)
        return [*match(searcher, references, min_probability), *_without_face(photos, references)], skipped


def _without_face(photos: Mapping[str, Sequence[Path]], references: Sequence[Reference]) -> list[Match]:
    from worker.identity.search.learn import Match

    left = photos.keys() - {one.name for one in references}
    return [
        Match(name=name, photos=0, person_id=None, probability=None, others=(), present_name=None)
        for name in photos
        if name in left
    ]


def _result(found: Match, *, rename: bool) -> str:
    if found.person_id is None:
        return "no photo with a face" if not found.photos else "no person is probable enough"
    if found.present_name == found.name:
        return "has the name"
    if found.present_name is None:
        return "named"
    return "renamed" if rename else f"is called {found.present_name}; pass --rename"


def _show(matches: Sequence[Match], results: Sequence[str], skipped: Sequence[SkippedPhoto]) -> None:
    columns = ("name", "photos", "person", "probability", "result", "also like")
    rows = [
        (one.name, one.photos, one.person_id, one.probability, result, ", ".join(map(str, one.others)) or None)
        for one, result in zip(matches, results, strict=True)
    ]
    console().print(table("Names", columns, rows, prose=("result",)))
    for photo in skipped:
        echo(f"{photo.path} is skipped: {photo.reason}", err=True)
