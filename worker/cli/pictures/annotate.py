"""``facet annotate``: draws results on a video or image."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.images import IMAGE_SUFFIXES
from worker.cli.output.terminal import console, echo
from worker.config import Settings, settings
from worker.errors import FacetError, MediaError, UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from worker.decode.client import DecodeStream
    from worker.pictures.annotate import Sound, Subject
    from worker.pictures.subjects import StoredMedia
    from worker.storage.database import Database
    from worker.types import DecodedFrame, DecodeRequest, SoundBlock

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet annotate wedding.mp4 -o wedding-people.mp4")(annotate)


def annotate(
    clip: Annotated[str, typer.Argument(help="A video or image that was analysed: its path, or its media_id.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .mp4, .mov, .mkv; for an image .png, .jpg, .webp.")
    ],
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate/--no-interpolate",
            help="Move boxes between two sampled frames; else each stays where its face was found last.",
        ),
    ] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Keep the sound of a video.")] = True,
) -> None:
    """Draw box, person, age, gender and emotion of each appearance on the frames of a video or on an image."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        media, subjects = _look_up(config, database, clip)
        subjects = [replace(subject, is_interpolated=interpolate) for subject in subjects]
        _check_output(media, output)
        from worker.ledger.upkeep.staged_members import open_sources

        try:
            with open_sources(config, database.sessions).open_local(media.location, media.expected) as location:
                count = _draw(config, replace(media, location=location), subjects, output, with_sound=sound)
        except MediaError as err:
            raise UsageError(f"{media.uri} cannot be read: {err}; give its present path") from err
    drawn = sum(bool(subject.at_seconds[0] == 0.0) for subject in subjects) if _is_image(output) else len(subjects)
    later = len(subjects) - drawn
    others = f" ({later} in later pages or frames are not)" if later else ""
    echo(f"{drawn} appearance{'s' * (drawn != 1)} drawn on {count:,} frame{'s' * (count != 1)}{others}: {output}")


def _is_image(output: Path) -> bool:
    return output.suffix.lower() in IMAGE_SUFFIXES


def find_clip(config: Settings, session: Session, clip: str) -> StoredMedia:
    """Find a file that was analysed, by its bytes, or by its number where no file has that name.

    Raises:
        UsageError: it is not one video or image, or was not analysed.
    """
    from worker.ingest import FoundFile, IngestOptions, discover
    from worker.ledger.submission.prober import expected_of
    from worker.pictures.subjects import media_by_hash, media_by_id

    if clip.isdecimal() and not Path(clip).exists():
        return media_by_id(session, int(clip))
    found = list(discover([clip], IngestOptions(roots=config.media_roots), config.staging))
    if len(found) != 1 or not isinstance(found[0], FoundFile):
        raise UsageError(f"{clip} is not one video or image, expected the path of one, or a media_id")
    media = media_by_hash(session, found[0].sha256, clip)
    return replace(media, location=str(found[0].location), expected=expected_of(found[0]))


def _look_up(config: Settings, database: Database, clip: str) -> tuple[StoredMedia, list[Subject]]:
    from worker.pictures.subjects import load_subjects

    with database.sessions.begin() as session:
        media = find_clip(config, session, clip)
        return media, load_subjects(session, media.media_id)


def _check_output(media: StoredMedia, output: Path) -> None:
    # An animated image may become a video; of an image file the first frame is drawn.
    endings = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if media.kind == "image" else VIDEO_SUFFIXES
    if output.suffix.lower() not in endings:
        what = "an image" if media.kind == "image" else "a video"
        raise UsageError(f"{output} ends in {output.suffix!r}, expected one of {', '.join(endings)} for {what}")
    if output.exists() and Path(media.location).exists() and output.samefile(media.location):
        raise UsageError(f"{output} is the {media.kind} itself, which would be overwritten; give another name")


def _draw(config: Settings, media: StoredMedia, subjects: list[Subject], output: Path, *, with_sound: bool) -> int:
    from worker.decode.client import Decoder
    from worker.pictures.annotate import annotate_image, annotate_video
    from worker.types import DecodeLimits, DecodeRequest

    limits = DecodeLimits(
        memory_bytes=config.decode_memory_bytes, wall_seconds=config.decode_wall_seconds, total_seconds=math.inf
    )  # the whole video is one request
    request = DecodeRequest(location=media.location, kind=media.kind, frames_per_second=None, limits=limits)
    try:
        with Decoder(limits) as decoder, decoder.open(request) as stream:
            if _is_image(output):
                annotate_image(next(stream).pixels, subjects, output)
                return 1
            has_sound = with_sound and media.kind == "video"
            with console(stderr=True).status("drawing ...") as status, _sound(request, has_sound=has_sound) as sound:
                frames = _readable(stream, status.update)
                return annotate_video(frames, subjects, stream.info.frames_per_second, output, sound)
    except MediaError as err:
        raise FacetError(f"{media.uri} cannot be drawn on: {err.reason}") from err
    except OSError as err:
        raise FacetError(f"{output} cannot be written: {err.strerror or err}") from err


@contextmanager
def _sound(request: DecodeRequest, *, has_sound: bool) -> Iterator[Sound | None]:
    """Read the sound of a video in a child of its own, beside its frames."""
    from worker.decode.client import Decoder
    from worker.pictures.annotate import Sound

    if not has_sound:
        yield None
        return
    with Decoder(request.limits) as decoder:
        try:
            stream = decoder.open_sound(request)
        except MediaError as err:
            echo(f"the sound cannot be read: {err.reason}", err=True)
            yield None
            return
        with stream:
            yield Sound(stream.tracks, _audible(stream))


def _audible(stream: DecodeStream) -> Iterator[SoundBlock]:
    """Yield sound up to the first that cannot be decoded."""
    try:
        yield from stream.sound()
    except MediaError as err:
        echo(f"the rest of the sound cannot be read: {err.reason}", err=True)


def _readable(stream: DecodeStream, update: Callable[[str], None]) -> Iterator[DecodedFrame]:
    """Yield frames up to the first that cannot be decoded.

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
            echo(f"the video can be read up to second {seconds} only: {err.reason}", err=True)
            return
        if frame is None:
            return
        if int(frame.at_seconds) > seconds:
            seconds = int(frame.at_seconds)
            update(f"drawing ... {seconds:,} s of video")
        yield frame
