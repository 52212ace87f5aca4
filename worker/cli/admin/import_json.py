"""``facet import-json``: reads result files of cloud services as a foreign release."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, echo, print_json, utf8, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.ingest import FoundFile
    from worker.releases.foreign.results import ForeignResults, Service
    from worker.releases.foreign.store import Imported
    from worker.storage.database import Database
    from worker.types import MediaInfo


class ServiceName(StrEnum):
    """A service, or that the files show which."""

    auto = "auto"
    rekognition = "rekognition"
    google = "google"
    azure = "azure"


SERVICES: dict[ServiceName, Service] = {
    ServiceName.rekognition: "rekognition",
    ServiceName.google: "google",
    ServiceName.azure: "azure",
}


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import-json", epilog="Example: facet import-json page-1.json page-2.json --media video.mp4")(
        import_json
    )


def import_json(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Result files, all pages of one response.")],
    media: Annotated[str, typer.Option("--media", help="The image or video that they are of.", callback=utf8)],
    service: Annotated[
        ServiceName, typer.Option("--service", help="Service that wrote them; auto finds it out.")
    ] = ServiceName.auto,
    model_version: Annotated[
        str | None,
        typer.Option(
            "--model-version", help="Version of the service's model, where the files state none.", callback=utf8_or_none
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Import face results of Rekognition, Video Intelligence or Video Indexer, to compare them in SQL.

    They are stored as a foreign release, beside the results of Facet: nothing is computed under it, and it cannot be
    activated. The views release_predictions, release_faces and release_appearances show it.
    """
    from worker.releases.foreign.files import read_results

    results = read_results(files, SERVICES.get(service))
    if model_version is not None:
        results = results.with_version(model_version)
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        done = _import(config, database, results, media)
    if as_json:
        print_json(asdict(done))
        return
    echo(
        f"imported {done.faces:,} faces, {done.appearances:,} appearances and {done.predictions:,} predictions of "
        f"media {done.media_id} as release {done.release} ({done.release_id})"
    )
    if done.left_out:
        echo(f"{done.left_out:,} persons without a face were left out", err=True)


def _import(config: Settings, database: Database, results: ForeignResults, media: str) -> Imported:
    from worker.releases.folders import ReleaseFolders
    from worker.releases.foreign.store import store_results
    from worker.storage.transactions import run_transaction

    file, info = _probe(config, database, media)
    ReleaseFolders(config, database.sessions).register_own()  # an archive always has a release that the views show
    return run_transaction(database.sessions, "import", lambda session: store_results(session, results, file, info))


def _probe(config: Settings, database: Database, media: str) -> tuple[FoundFile, MediaInfo]:
    """Find the one file of media that the path names, and read its size.

    Raises:
        UsageError: it names no file that can be read, or several.
    """
    from worker.analysis.runner import decode_limits
    from worker.decode.client import Decoder
    from worker.errors import MediaError
    from worker.ingest import FoundFile, IngestOptions, check_arguments, discover
    from worker.ledger.submission.prober import FileProber
    from worker.ledger.upkeep.staged_members import open_sources

    check_arguments([media], config.media_roots)
    options = IngestOptions(roots=config.media_roots, cache_bytes=config.cache_bytes)
    with Decoder(decode_limits(config)) as decoder:
        prober = FileProber(decoder, open_sources(config, database.sessions))
        found = list(prober.remember(discover([media], options, config.staging)))
        if len(found) != 1:
            raise UsageError(f"--media {media} names {len(found)} files, expected one; name the file of the results")
        file = found[0]
        if not isinstance(file, FoundFile):
            raise UsageError(f"--media {media} cannot be read ({file.code}: {file.message}); name an image or video")
        try:
            return file, prober.probe(str(file.location), file.kind)
        except MediaError as err:
            raise UsageError(f"--media {media} cannot be read ({err.reason}); name an image or video") from err
