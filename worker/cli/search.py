"""``facet search``: finds the people and appearances of the archive that resemble a face."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, utf8_or_none
from worker.config import Settings, settings
from worker.errors import UsageError
from worker.pictures.exports.cells import heading
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.visible import visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.identity.search.photo import PhotoFace
    from worker.identity.search.searcher import Probe, Searcher, SearchOptions, SearchResult
    from worker.storage.database import Database

PERSON_FIELDS = ("person_id", "name", "similarity", "probability", "appearance_count", "media_count")
APPEARANCE_FIELDS = (
    "appearance_id", "person_id", "name", "similarity", "probability", "uri", "start_seconds", "end_seconds", "quality",
)  # fmt: skip
CSV_COLUMNS = (
    "face", "hit", "person_id", "name", "appearance_id", "media_id", "uri", "start_seconds", "end_seconds", "quality",
    "similarity", "probability",
)  # fmt: skip


class HitFormat(StrEnum):
    """Format of the hits."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class _Answer:
    """The hits of one face."""

    face: int
    """Number of the face in the photo, 1 for a person or an appearance."""
    crop: NDArray[np.uint8] | None
    """(S, S, 3) RGB of the face that was searched for; None where the store no longer has it."""
    found: SearchResult


@dataclass(frozen=True, slots=True)
class _Query:
    """The face to search for: one of photo, person and appearance."""

    photo: str | None
    person: str | None
    """Number or name."""
    appearance: int | None
    face: int | None
    every: bool

    def __post_init__(self) -> None:
        given = sum(value is not None for value in (self.photo, self.person, self.appearance))
        if given != 1:
            raise UsageError(f"got {given} of PHOTO, --person and --appearance, expected one; name exactly one of them")
        if self.photo is None and (self.face is not None or self.every):
            raise UsageError("--face and --all choose among the faces of a photo; name a PHOTO, or leave them out")
        if self.face is not None and self.every:
            raise UsageError("got --face and --all, expected one of them")


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet search grandmother.jpg --where \"kind = 'video'\" -o found.png")(search)


def search(  # noqa: PLR0913 - the options of a command are its arguments
    photo: Annotated[str | None, typer.Argument(help="A photo with the face to search for; it is not stored.")] = None,
    *,
    person: Annotated[
        str | None,
        typer.Option("--person", help="Search for a person of the archive: number or name.", callback=utf8_or_none),
    ] = None,
    appearance: Annotated[int | None, typer.Option("--appearance", help="Search for an appearance.")] = None,
    face: Annotated[
        int | None, typer.Option("--face", help="Number of the face in the photo; 1 is the largest.", min=1)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Search for every face of the photo.")] = False,
    where: Annotated[
        str | None,
        typer.Option("--where", help="SQL condition over the views appearances and media.", callback=utf8_or_none),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Maximum number of people, and of appearances.", min=1, max=1000)
    ] = 10,
    prior: Annotated[
        float | None,
        typer.Option(
            "--prior",
            help="Probability, before the search, that a given person of the archive is the one searched for; "
            "default: one divided by their number, at most 0.01.",
            min=1e-12,
            max=0.999,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with all people, even where there is an index.")
    ] = False,
    form: Annotated[HitFormat, typer.Option("--format", help="Format of the hits.")] = HitFormat.TABLE,
    as_json: JsonFlag = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Contact sheet of the hits: .png, .jpg or .webp.")
    ] = None,
) -> None:
    """Find the people and appearances most similar to a face, each with the probability of being the same person."""
    from worker.cli.output.images import check_image
    from worker.identity.search.searcher import SearchOptions

    query = _Query(photo, person, appearance, face, every)
    if output is not None:
        check_image(output)
    options = SearchOptions(limit=limit, where=where, prior=prior, exact=exact)
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        answers = _answer(config, database, query, options)
        if output is not None:
            _draw(config, database, answers, output)
    if as_json or form is HitFormat.JSON:
        print_json([_document(answer) for answer in answers])
    elif form is HitFormat.CSV:
        _write_csv(answers)
    else:
        _show(answers)


def _answer(config: Settings, database: Database, query: _Query, options: SearchOptions) -> list[_Answer]:
    from worker.identity.search.searcher import Searcher

    searcher = Searcher(config.reader_database_url or database.url)
    if query.photo is not None:
        faces = _faces(config, database, searcher, query.photo)
        chosen = faces if query.every else [_chosen(faces, query.face or 1)]
        return [_Answer(one.number, one.crop, searcher.search(one.probe, options)) for one in chosen]
    probe = _known(database, searcher, query)
    return [_Answer(1, _crop(config, database, probe), searcher.search(probe, options))]


def _known(database: Database, searcher: Searcher, query: _Query) -> Probe:
    if query.person is not None:
        from worker.cli.people.corrections import named_person

        return searcher.person(named_person(database, query.person))
    return searcher.appearance(query.appearance or 0)


def _faces(config: Settings, database: Database, searcher: Searcher, photo: str) -> list[PhotoFace]:
    """Find the faces of a photo with the model that made the archive's embeddings."""
    trunk = searcher.trunk_sha256()
    from worker.analysis.runner import decode_limits
    from worker.identity.search.photo import find_faces, read_photo
    from worker.ledger.upkeep.staged_members import open_sources
    from worker.releases.folders import ReleaseFolders

    pixels = read_photo(photo, open_sources(config), config.staging, decode_limits(config))
    release = ReleaseFolders(config, database.sessions).load_embedder(trunk)
    return list(find_faces(pixels, release, config.max_tiles))


def _chosen(faces: list[PhotoFace], number: int) -> PhotoFace:
    if number > len(faces):
        raise UsageError(f"the photo has {len(faces)} faces that can be compared, expected --face 1 to {len(faces)}")
    return faces[number - 1]


def _crop(config: Settings, database: Database, probe: Probe) -> NDArray[np.uint8] | None:
    from worker.pictures.tiles import TileReader
    from worker.storage.crops import CropStore

    with database.sessions.begin() as session:
        reader = TileReader(session, CropStore(config.crops))
        if probe.person_id is not None:
            return reader.best_of_person(probe.person_id)
        return reader.best_of_appearance(probe.appearance_id or 0)


def _draw(config: Settings, database: Database, answers: list[_Answer], output: Path) -> None:
    from worker.cli.output.images import write_sheets
    from worker.pictures.sheets import Tile
    from worker.pictures.tiles import TileReader
    from worker.storage.crops import CropStore

    tiles = []
    with database.sessions.begin() as session:
        reader = TileReader(session, CropStore(config.crops))
        for answer in answers:
            if answer.crop is not None:
                tiles.append(Tile(pixels=answer.crop, captions=(f"face {answer.face}",), group="looked for"))
            tiles += reader.of_search(answer.found)
    write_sheets(tiles, "Facet: who looks like this", output, err=True)


def _document(answer: _Answer) -> dict[str, Any]:
    return {"face": answer.face, **asdict(answer.found)}


def _write_csv(answers: list[_Answer]) -> None:
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()
    shown = visible if sys.stdout.isatty() else str
    for answer in answers:
        hits = [asdict(hit) | {"hit": "person"} for hit in answer.found.people]
        hits += [asdict(seen) | {"hit": "appearance"} for seen in answer.found.appearances]
        for hit in hits:
            cells = {column: shown(value) if isinstance(value, str) else value for column, value in hit.items()}
            writer.writerow(cells | {"face": answer.face})


def _show(answers: list[_Answer]) -> None:
    out = console()
    for answer in answers:
        found, of_face = answer.found, f" like face {answer.face}" if len(answers) > 1 else ""
        people = [[getattr(hit, column) for column in PERSON_FIELDS] for hit in found.people]
        seen = [[getattr(hit, column) for column in APPEARANCE_FIELDS] for hit in found.appearances]
        out.print(table(f"People{of_face}", list(map(heading, PERSON_FIELDS)), people))
        out.print(table(f"Appearances{of_face}", list(map(heading, APPEARANCE_FIELDS)), seen))
        echo(
            f"(compared with {found.people_searched:,} people, {'one by one' if found.exact else 'through the index'}; "
            f"probability: prior {found.prior:.2g} for each, calibrated on photographs)"
        )
