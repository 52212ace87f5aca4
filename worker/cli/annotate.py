"""``facet annotate``: a film or photo with what was found drawn on it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import console, echo
from worker.config import Settings, settings
from worker.errors import FacetError, MediaError, UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.decode.client import DecodeStream
    from worker.pictures.annotate import Subject
    from worker.pictures.subjects import StoredMedia
    from worker.storage.database import Database
    from worker.types import DecodedFrame

FILMS = (".mp4", ".mov", ".mkv")
STILLS = (".png", ".jpg", ".jpeg", ".webp")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet annotate wedding.mp4 -o wedding-people.mp4")(annotate)


def annotate(
    clip: Annotated[str, typer.Argument(help="A film or photo that was analysed: its path, or its media_id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .mp4, .mov, .mkv; of a photo .png.")],
) -> None:
    """Draw boxes and who it is, with age, gender and emotion of each appearance, on the frames of a film or photo."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        media, subjects = _look_up(config, database, clip)
        _check_output(media, output)
        from worker.ledger.upkeep.staged_members import open_sources

        try:
            with open_sources(config, database.sessions).open_local(media.location, media.expected) as location:
                count = _draw(config, replace(media, location=location), subjects, output)
        except MediaError as err:
            raise UsageError(f"{media.uri} cannot be read: {err}; give the path where it lies now") from err
    drawn = sum(bool(subject.at_seconds[0] == 0.0) for subject in subjects) if _is_still(output) else len(subjects)
    later = len(subjects) - drawn
    others = f" ({later} in later pages or frames are not)" if later else ""
    echo(f"{drawn} appearance{'s' * (drawn != 1)} drawn on {count:,} frame{'s' * (count != 1)}{others}: {output}")


def _is_still(output: Path) -> bool:
    return output.suffix.lower() in STILLS


def _look_up(config: Settings, database: Database, clip: str) -> tuple[StoredMedia, list[Subject]]:
    from worker.ingest import FoundFile, IngestOptions, discover
    from worker.ledger.submission.prober import expected_of
    from worker.pictures.subjects import load_subjects, media_by_hash, media_by_id

    with database.sessions.begin() as session:
        if clip.isdecimal() and not Path(clip).exists():
            media = media_by_id(session, int(clip))
        else:
            found = list(discover([clip], IngestOptions(roots=config.media_roots), config.staging))
            if len(found) != 1 or not isinstance(found[0], FoundFile):
                raise UsageError(f"{clip} is not one film or photo, expected the path of one, or a media_id")
            media = media_by_hash(session, found[0].sha256, clip)
            media = replace(media, location=str(found[0].location), expected=expected_of(found[0]))
        return media, load_subjects(session, media.media_id)


def _check_output(media: StoredMedia, output: Path) -> None:
    # An animated picture may become a film; as a still it is drawn as it begins.
    endings = (*STILLS, *FILMS) if media.kind == "image" else FILMS
    if output.suffix.lower() not in endings:
        what = "photo" if media.kind == "image" else "film"
        raise UsageError(f"{output} ends in {output.suffix!r}, expected one of {', '.join(endings)} for a {what}")
    if output.exists() and Path(media.location).exists() and output.samefile(media.location):
        raise UsageError(f"{output} is the {media.kind} itself; give another name, it would be lost")


def _draw(config: Settings, media: StoredMedia, subjects: list[Subject], output: Path) -> int:
    from worker.decode.client import Decoder
    from worker.pictures.annotate import annotate_image, annotate_video
    from worker.types import DecodeLimits, DecodeRequest

    limits = DecodeLimits(
        memory_bytes=config.decode_memory_bytes, wall_seconds=config.decode_wall_seconds, total_seconds=math.inf
    )  # the whole film is one request
    request = DecodeRequest(location=media.location, kind=media.kind, frames_per_second=None, limits=limits)
    try:
        with Decoder(limits) as decoder, decoder.open(request) as stream:
            if _is_still(output):
                annotate_image(next(stream).pixels, subjects, output)
                return 1
            with console(stderr=True).status("drawing ...") as status:
                frames = _readable(stream, status.update)
                return annotate_video(frames, subjects, stream.info.frames_per_second, output)
    except MediaError as err:
        raise FacetError(f"{media.uri} cannot be drawn on: {err.reason}") from err
    except OSError as err:
        raise FacetError(f"{output} cannot be written: {err.strerror or err}") from err


def _readable(stream: DecodeStream, tell: Callable[[str], None]) -> Iterator[DecodedFrame]:
    """Yield frames as far as the film can be read; a film that breaks off is drawn on up to there.

    Raises:
        MediaError: not even the first frame can be decoded.
    """
    seconds = -1
    while True:
        try:
            frame = next(stream, None)
        except MediaError as err:
            if seconds < 0:
                raise
            echo(f"the film can be read up to second {seconds} only: {err.reason}", err=True)
            return
        if frame is None:
            return
        if int(frame.at_seconds) > seconds:
            seconds = int(frame.at_seconds)
            tell(f"drawing ... {seconds:,} s of film")
        yield frame
