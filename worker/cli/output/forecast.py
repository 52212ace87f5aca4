"""``--dry-run``: what an analysis would read, and an estimate of its time and room from earlier jobs here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from worker.analysis.runner import decode_limits
from worker.cli.output.terminal import console, echo, print_json, table
from worker.decode.client import Decoder
from worker.errors import MediaError
from worker.ingest import IngestOptions
from worker.ingest.survey import Survey, survey
from worker.ledger.status.rates import Rates, read_rates
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.types import ASSUMED_FPS

if TYPE_CHECKING:
    from worker.cli.output.rows import Rows
    from worker.config import Settings
    from worker.ingest.selection import FileSelection

IMAGE_CROP_BYTES = 25_000  # of the aligned crop of a face in an image; in a video it takes 15 to 19 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The files that an analysis would read, and the time and room that it would take."""

    images: int
    videos: int
    video_hours: float
    archives: int
    not_media: int
    sidecars: int
    left_out: int
    """By --include and --exclude."""
    byte_size: int
    frames: int
    """To analyse, without the members of archives."""
    seconds: float | None
    """None without an earlier job to take a rate from."""
    room_bytes: float | None


def print_forecast(
    config: Settings, paths: list[str], selection: FileSelection, fps: float | None, *, as_json: bool
) -> None:
    """Count the files, estimate, and print both."""
    make_home(config.home)
    with console(stderr=True).status("counting files ..."):
        found = survey(paths, IngestOptions(roots=config.media_roots, selection=selection))
        video_seconds = _seconds_of(found, config)
    with open_database(config) as database, database.sessions.begin() as session:
        rates = read_rates(session)
    forecast = make_forecast(found, video_seconds, selection.left_out, fps or ASSUMED_FPS, rates)
    if as_json:
        print_json({name: getattr(forecast, name) for name in forecast.__slots__})
        return
    console().print(draw_forecast(forecast))
    if forecast.seconds is None:
        echo("no time and room are estimated: nothing was analysed here yet to take a rate from")
    else:
        echo("files that were analysed before are counted as new ones; none is analysed twice")
    if forecast.archives:
        echo("members of archives are not counted")


def _seconds_of(found: Survey, config: Settings) -> float:
    """Return the length of all videos together; one that cannot be opened, or states none, counts as nothing."""
    total = 0.0
    with Decoder(decode_limits(config)) as decoder:
        for path in found.videos:
            try:
                total += decoder.probe(path, "video").duration_seconds or 0.0
            except MediaError:
                continue
    return total


def make_forecast(found: Survey, video_seconds: float, left_out: int, fps: float, rates: Rates | None) -> Forecast:
    """Estimate time and room at the rates of earlier jobs."""
    frames = found.images + round(video_seconds * fps)
    faces = None if rates is None else frames * rates.faces_per_frame
    return Forecast(
        images=found.images,
        videos=len(found.videos),
        video_hours=video_seconds / 3600,
        archives=found.archives,
        not_media=found.others,
        sidecars=found.sidecars,
        left_out=left_out,
        byte_size=found.byte_size,
        frames=frames,
        seconds=None if rates is None else frames / rates.frames_per_second,
        room_bytes=None if rates is None or faces is None else faces * (rates.bytes_per_face + IMAGE_CROP_BYTES),
    )


def draw_forecast(forecast: Forecast) -> Rows:
    """Lay out the forecast."""
    seconds, room = forecast.seconds, forecast.room_bytes
    rows = [
        ("images", f"{forecast.images:,}"),
        ("videos", f"{forecast.videos:,} ({forecast.video_hours:,.1f} hours)"),
        ("archives", f"{forecast.archives:,}"),
        ("no media", f"{forecast.not_media:,}"),
        ("sidecars", f"{forecast.sidecars:,}"),
        ("left out", f"{forecast.left_out:,}"),
        ("to read", f"{forecast.byte_size / 1e9:,.2f} GB"),
        ("frames to analyse", f"{forecast.frames:,}"),
        ("time, about", "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))),
        ("room, about", "unknown" if room is None else f"{room / 1e9:,.2f} GB"),
    ]
    return table("Dry run: nothing was submitted", ("", "count"), rows)
