"""Thousands of damaged files and some bombs through ingest and decoder: each must end as frames or as a reason.

    .venv/bin/python benchmarks/fuzz.py [--files 5000] [--seeds FOLDER] [--keep FOLDER]

Seeds are made in every format that is read (images, videos, archives), and taken from FOLDER besides. A damaged file
has flipped bits, lies in its header, a lost end, a lost or doubled middle, or continues as another file. Each goes the
way of a real one: ``worker.ingest`` tells what it is, a decode child under its limits reads it at two frames a second.
Prints a row for each format, the bombs, and what is wrong: a file without an outcome, one over its time, a child over
its memory, an error that is not one of a file's. Ends with status 1 if anything is. ``--keep`` keeps what killed a
child.
"""

from __future__ import annotations

import argparse
import gzip
import io
import random
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import pillow_heif
from PIL import Image

from worker.decode.client import Decoder
from worker.errors import AttemptFailed, MediaRejected
from worker.ingest import FoundFile, IngestOptions, discover
from worker.types import DecodeLimits, DecodeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.video.stream import VideoStream

pillow_heif.register_heif_opener()

LIMITS = DecodeLimits(memory_bytes=1 << 30, wall_seconds=10)
SLACK_SECONDS = 5.0  # beyond the watchdog's silence: a child is restarted, a machine is busy
BOMB_SECONDS = 2.0
HARMLESS = "MP4 that says 65,535 x 65,535 and is small"  # may be read, in a small child
BATCH = 50  # files that one process takes at a time
STILLS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
FILMS = {
    "mp4": ("mp4", "libx264"), "mov": ("mov", "mpeg4"), "mkv": ("matroska", "libx264"), "avi": ("avi", "mpeg4"),
    "webm": ("webm", "libvpx"), "mpg": ("mpeg", "mpeg2video"), "ts": ("mpegts", "libx264"),
}  # fmt: skip
PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one file ended."""

    number: int
    seed: str
    said: tuple[str, ...]
    """``frames`` or the code of the reason, for each thing in the file; never empty."""
    seconds: float
    child_bytes: int
    """Peak memory of the child."""
    wrong: str = ""
    crashed: bool = False


@dataclass(slots=True)
class Tally:
    """The outcomes of one seed's files."""

    files: int = 0
    said: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one file."""
        self.files += 1
        self.said.update(set(outcome.said))
        self.slowest = max(self.slowest, outcome.seconds)


def picture(size: tuple[int, int] = (96, 72), seed: int = 0) -> Image.Image:
    """Make an image with edges, gradients and noise, so that every part of a codec has work."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    base = np.stack([x * 255 // width, y * 255 // height, ((x // 8 + y // 8 + seed) % 2) * 200], axis=2)
    return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))


def still(name: str) -> bytes:
    """Encode one image in a format; GIF, WebP, TIFF and PNG hold several frames."""
    buffer = io.BytesIO()
    more = {}
    if name in {"GIF", "WEBP", "TIFF", "PNG"}:
        more = {"save_all": True, "append_images": [picture(seed=1), picture(seed=2)]}
    picture().save(buffer, name, **more)
    return buffer.getvalue()


def film(container: str, codec: str, frames: int = 48) -> bytes:
    """Encode two seconds of video."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as target:
        stream = cast("VideoStream", target.add_stream(codec, rate=24))
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for number in range(frames):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture(seed=number)), "rgb24")))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def zipped(contents: dict[str, bytes]) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(contents: dict[str, bytes], mode: str) -> bytes:
    """Return a tar archive: mode w, w:gz or w:xz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=cast("str", mode)) as archive:  # type: ignore[call-overload]
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def seeds(folder: Path | None) -> dict[str, bytes]:
    """Return one intact file of each kind, by name, and every file of a folder."""
    found = {name.lower(): still(name) for name in STILLS}
    found |= {name: film(container, codec) for name, (container, codec) in FILMS.items()}
    inside = {"a/one.jpg": found["jpeg"], "two.png": found["png"], "three.mp4": found["mp4"]}
    found |= {"zip": zipped(inside), "zip in zip": zipped({"inner.zip": zipped(inside), "four.gif": found["gif"]})}
    found |= {f"tar {mode}": tarred(inside, mode) for mode in ("w", "w:gz", "w:xz")}
    if folder is not None:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
        found |= {f"given: {path.suffix.lower()} {path.name}": path.read_bytes() for path in paths}
    return found


def damaged(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change a file in one to three of the ways of disks, networks and attackers."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        data = chance.choice((flipped, lying, cut, without_middle, doubled, continued))(data, other, chance) or b"\0"
    return data


def flipped(data: bytes, _: bytes, chance: random.Random) -> bytes:
    """Flip bits anywhere."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 4, 16, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def lying(data: bytes, _: bytes, chance: random.Random) -> bytes:
    """Put extreme or random numbers in the place of sizes, counts and offsets."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 8))):
        place = chance.randrange(min(len(changed), chance.choice((64, 512, 4096))))
        lie = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01", chance.randbytes(4)))
        changed[place : place + 4] = lie
    return bytes(changed)


def cut(data: bytes, _: bytes, chance: random.Random) -> bytes:
    """Cut off the end."""
    return data[: chance.randrange(len(data) + 1)]


def without_middle(data: bytes, _: bytes, chance: random.Random) -> bytes:
    """Cut out a part."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.randrange(1, 4096) :]


def doubled(data: bytes, _: bytes, chance: random.Random) -> bytes:
    """Repeat a part."""
    start = chance.randrange(len(data))
    part = data[start : start + chance.randrange(1, 4096)]
    return data[:start] + part + data[start:]


def continued(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Continue with another file."""
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other)) :]


def look(decoder: Decoder, path: Path, staging: Path) -> Iterator[str]:
    """Return the outcome of each item in a file: ``frames``, or the code of its reason."""
    for item in discover([str(path)], IngestOptions(), staging):
        if not isinstance(item, FoundFile):
            yield item.code
            continue
        try:
            with decoder.open(DecodeRequest(location=str(item.location), kind=item.kind, limits=LIMITS)) as stream:
                count = sum(1 for _ in stream)
            yield "frames" if count else "no frame in range"
        except MediaRejected as err:
            yield err.code
        except AttemptFailed as err:
            yield f"crash: {err.code}"


def peak(pid: int) -> int:
    """Return the peak memory of a process in bytes; 0 where it has ended or the system does not report it."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
    return 0


def judge(decoder: Decoder, path: Path, number: int, seed: str) -> Outcome:
    """Send one file through; errors are returned, never raised."""
    started, said, wrong = time.perf_counter(), [], ""
    with TemporaryDirectory() as staging:
        try:
            said = list(look(decoder, path, Path(staging)))
        except Exception as err:  # noqa: BLE001 - every error is a finding
            wrong = f"{type(err).__name__}: {err}"
    seconds = time.perf_counter() - started
    most = peak(decoder.pid) if decoder.pid else 0
    if not wrong and not said:
        wrong = "nothing was said of it"
    if not wrong and seconds > max(1, len(said)) * (LIMITS.wall_seconds + SLACK_SECONDS):
        wrong = f"took {seconds:.1f} s"
    if not wrong and most > LIMITS.memory_bytes:
        wrong = f"the child held {most >> 20} MB"
    crashed = any(word.startswith("crash") for word in said)
    return Outcome(number, seed, tuple(said), seconds, most, wrong, crashed)


def campaign(numbers: range, folder: Path | None, keep: Path | None) -> list[Outcome]:
    """Check some of the damaged files; their numbers alone determine them."""
    sources = seeds(folder)
    names = list(sources)
    outcomes = []
    with TemporaryDirectory() as work, Decoder(LIMITS) as decoder:
        path = Path(work) / "file"
        for number in numbers:
            chance = random.Random(number)
            name = names[number % len(names)]
            data = damaged(sources[name], sources[chance.choice(names)], chance)
            path.write_bytes(data)
            outcome = judge(decoder, path, number, name)
            if keep is not None and (outcome.wrong or outcome.crashed):
                (keep / f"{number}").write_bytes(data)
            outcomes.append(outcome)
    return outcomes


def bombs() -> dict[str, Callable[[], bytes]]:
    """Return small files that claim or become huge ones."""
    zeros = bytes(1 << 30)
    return {
        "zip of 1 GB of zeros": lambda: zipped({"bomb.jpg": zeros}),
        "gzip of 1 GB of zeros": lambda: gzip.compress(zeros, 6),
        "tar.gz of 1 GB of zeros": lambda: tarred({"bomb.jpg": zeros}, "w:gz"),
        "zip in zip in zip": lambda: zipped({"a.zip": zipped({"b.zip": zipped({"c.jpg": still("JPEG")})})}),
        "PNG of 50,000 x 50,000": lambda: huge_png(50_000),
        "GIF of 65,535 x 65,535": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + huge_gif_frame(),
        "MOV of 50,000 x 50,000": huge_film,
        HARMLESS: lying_film,
    }


def huge_png(side: int) -> bytes:
    """Return a PNG whose pixels are all black and pack well."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def huge_gif_frame() -> bytes:
    """Return one frame as large as the screen, with hardly any data."""
    return b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\x02\x4c\x01\x00;"


def huge_film() -> bytes:
    """Return a video of images that are far larger than its header claims."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mov") as target:
        stream = cast("VideoStream", target.add_stream("png", rate=24))
        stream.width, stream.height, stream.pix_fmt = 96, 72, "rgb24"
        for number in range(24):
            packet = av.Packet(huge_png(50_000))
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, number, number, True
            target.mux(packet)
    return buffer.getvalue()


def lying_film() -> bytes:
    """Return a video whose header claims the largest possible size, with small images that state theirs."""
    data = bytearray(film("mp4", "mpeg4", 8))
    place = data.find(struct.pack(">HH", 96, 72), data.find(b"mp4v"))
    data[place : place + 4] = struct.pack(">HH", 65535, 65535)
    track = data.find(struct.pack(">II", 96 << 16, 72 << 16))
    data[track : track + 8] = struct.pack(">II", 65535 << 16, 65535 << 16)
    return bytes(data)


def print_bombs() -> bool:
    """Send the bombs through; returns False where one was not refused in time."""
    print("\n| bomb | bytes | said | seconds |\n|---|---|---|---|")
    fine = True
    with TemporaryDirectory() as work, Decoder(LIMITS) as decoder:
        path = Path(work) / "bomb"
        for name, make in bombs().items():
            path.write_bytes(make())
            outcome = judge(decoder, path, 0, name)
            refused = "frames" not in outcome.said or name == HARMLESS
            right = refused and not outcome.wrong and not outcome.crashed and outcome.seconds <= BOMB_SECONDS
            fine &= right
            said = (", ".join(outcome.said) or outcome.wrong) + ("" if right else " WRONG")
            print(f"| {name} | {path.stat().st_size:,} | {said} | {outcome.seconds:.2f} |")
    return fine


def print_outcomes(outcomes: list[Outcome]) -> None:
    """Print a row for each seed; given files share one row."""
    tallies: dict[str, Tally] = {}
    for outcome in outcomes:
        name = "given files" if outcome.seed.startswith("given") else outcome.seed
        tallies.setdefault(name, Tally()).add(outcome)
    print("| seed | files | slowest | said |\n|---|---|---|---|")
    for name, tally in tallies.items():
        said = ", ".join(f"{word} {count}" for word, count in tally.said.most_common())
        print(f"| {name} | {tally.files} | {tally.slowest:.2f} s | {said} |")
    slowest, most = max(o.seconds for o in outcomes), max(o.child_bytes for o in outcomes) >> 20
    killed = sum(o.crashed for o in outcomes)
    print(f"| all | {len(outcomes)} | {slowest:.2f} s | children killed {killed}, most memory of a child {most} MB |")


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to go on or to repeat one")
    parser.add_argument("--seeds", type=Path, help="a folder of more files to damage")
    parser.add_argument("--keep", type=Path, help="a folder for files that killed a child or went wrong")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    last = arguments.first + arguments.files
    batches = [range(start, min(start + BATCH, last)) for start in range(arguments.first, last, BATCH)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        parts = pool.map(campaign, batches, [arguments.seeds] * len(batches), [arguments.keep] * len(batches))
        outcomes = [outcome for part in parts for outcome in part]
    print_outcomes(outcomes)
    fine = print_bombs()
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    for outcome in wrong:
        print(f"file {outcome.number} ({outcome.seed}): {outcome.wrong}")
    print(f"\n{len(outcomes)} files, {len(wrong)} wrong; bombs {'all refused in time' if fine else 'NOT all refused'}")
    sys.exit(bool(wrong) or not fine)


if __name__ == "__main__":
    main()
