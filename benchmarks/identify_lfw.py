"""How well appearances become people, on Labeled Faces in the Wild, with the release's detector, aligner and trunk.

    nice .venv/bin/python benchmarks/identify_lfw.py DATA [--cache FILE.npz] [--release FOLDER]

DATA is the folder that holds ``lfw/``. Its people are split as ``lfw/persons_split.csv`` says: thresholds are chosen on
train, val and test are held out. Prints the tables of docs/measured/identity.md. Embedding the 13,233 images and
their shrunken copies takes some minutes of CPU; ``--cache`` keeps the result.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from models import multi_task
from models.release import load_release
from worker.identity.grouping.assign import (
    AppearanceEmbeddings,
    GalleryPeople,
    IdentifyOptions,
    assign,
    inherit,
    regroup,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.release import Release

BATCH = 32
THRESHOLDS = (0.30, 0.363, 0.40, 0.44, 0.48, 0.52, 0.56, 0.60, 0.64)
MATCHED_AT = (0.363, 0.44, 0.52, 0.6)  # cosines of the table by quality
SHRINKS = (2, 3, 4, 5)  # factors; the faces of the images are 40 to 80 pixels wide
SHRUNKEN = 1000  # images of each split that are also looked at shrunken
ORDERS = 3  # random orders that the ways of coming are averaged over
JOBS = 100  # that all images come in
JOB_ORDERS = 5
POOR = (0.3, 0.45)  # qualities below which images are held for poor; the first is the shipped one


@dataclass(frozen=True, slots=True)
class Faces:
    """Embedded images."""

    appearances: AppearanceEmbeddings
    people: NDArray[np.int64]
    """(N,) number of the person."""

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, rows: NDArray[np.generic]) -> Faces:
        return Faces(self.appearances[rows], self.people[rows])

    @classmethod
    def cat(cls, parts: Sequence[Faces]) -> Faces:
        """Concatenate several."""
        appearances = AppearanceEmbeddings.cat([part.appearances for part in parts])
        return cls(appearances, np.concatenate([part.people for part in parts]))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--release", type=Path)
    options = parser.parse_args()
    root = options.data / "lfw"
    columns = load(root, options.cache, options.release)
    full, small = faces_of(root, columns, shrunken=False), faces_of(root, columns, shrunken=True)
    print_pairs(full)
    print_groups(full)
    print_halves(full)
    print_ways(full["held out"])
    print_quality(full, small)
    everyone = Faces.cat(list(full.values()))
    print_jobs(everyone, missing(root, columns))
    print_poor(Faces.cat([everyone, *small.values()]))


def load(root: Path, cache: Path | None, release: Path | None) -> dict[str, NDArray[np.generic]]:
    """Return columns name, shrink, embedding and quality of the images in which a face is found."""
    if cache is not None and cache.is_file():
        with np.load(cache) as kept:
            return dict(kept)
    torch.set_num_threads(2)
    loaded = load_release(release, heads=frozenset())
    multi_task.as_stored = lambda embeddings: embeddings  # what storing changes is measured here
    jobs = [(path, 1) for path in sorted((root / "images").glob("*/*.jpg"))]
    rng = np.random.default_rng(0)
    splits = np.array(split_of(root, [path.parent.name for path, _ in jobs]))
    for held_out in (False, True):
        rows = rng.permutation(np.flatnonzero((splits != "train") == held_out))[:SHRUNKEN]
        jobs += [(jobs[row][0], SHRINKS[place % len(SHRINKS)]) for place, row in enumerate(sorted(rows))]
    files, shrinks, embeddings, quality = zip(*embed(loaded, jobs), strict=True)
    columns = {
        "name": np.array(files),
        "shrink": np.array(shrinks),
        "embedding": np.stack(embeddings),
        "quality": np.array(quality, np.float32),
    }
    if cache is not None:
        np.savez(cache, **columns)
    return columns


def embed(release: Release, jobs: Sequence[tuple[Path, int]]) -> Iterator[tuple[str, int, np.ndarray, float]]:
    """Find the face nearest to the middle of each image, the one that the image is named after; no dropped faces."""
    for shrink in sorted({factor for _, factor in jobs}):
        paths = [path for path, factor in jobs if factor == shrink]
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            frames = torch.from_numpy(np.stack([read(path, shrink) for path in batch]))
            faces = release.detector.detect(frames)
            away = ((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - frames.shape[2] / 2).norm(dim=1)  # they are square
            rows = [(faces.frame == frame).nonzero().flatten() for frame in range(len(batch))]
            faces = faces[torch.tensor([int(r[away[r].argmin()]) for r in rows if len(r)], dtype=torch.int64)]
            crops = release.align(frames, faces)
            quality = release.quality(faces, crops, (frames.shape[2], frames.shape[3]))
            vectors = release.infer(crops).embeddings.numpy()
            for row, frame in enumerate(faces.frame.tolist()):
                if quality.dropped[row] is None:
                    name = f"{batch[frame].parent.name}/{batch[frame].name}"
                    yield name, shrink, vectors[row], float(quality.scores[row])


def read(path: Path, shrink: int) -> NDArray[np.uint8]:
    """Return (3, H, W) RGB."""
    pixels = cv2.imread(str(path))
    size = (pixels.shape[1] // shrink, pixels.shape[0] // shrink)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1))


def split_of(root: Path, people: Sequence[str]) -> list[str]:
    """Return the split of each person."""
    with (root / "persons_split.csv").open(newline="") as stream:
        splits = {row["person"]: row["split"] for row in csv.DictReader(stream)}
    return [splits[person] for person in people]


def faces_of(root: Path, columns: dict[str, NDArray[np.generic]], *, shrunken: bool) -> dict[str, Faces]:
    """Return the full-size or the shrunken images of the people to choose on and of those held out."""
    names = [file.split("/")[0] for file in columns["name"].tolist()]
    zeros = np.zeros(len(names))
    appearances = AppearanceEmbeddings(
        embeddings=columns["embedding"],
        quality=columns["quality"],
        media=np.unique(columns["name"], return_inverse=True)[1],
        start_seconds=zeros,
        end_seconds=zeros,
    )
    everyone = Faces(appearances, np.unique(names, return_inverse=True)[1])
    train, wanted = np.array(split_of(root, names)) == "train", (columns["shrink"] > 1) == shrunken
    return {"train": everyone[train & wanted], "held out": everyone[~train & wanted]}


def missing(root: Path, columns: dict[str, NDArray[np.generic]]) -> NDArray[np.int64]:
    """Return the people on images without a kept face, as in `faces_of`; -1 for people without other images."""
    found = set(columns["name"][columns["shrink"] == 1].tolist())
    people = np.unique([file.split("/")[0] for file in columns["name"].tolist()])
    paths = [path for path in (root / "images").glob("*/*.jpg") if f"{path.parent.name}/{path.name}" not in found]
    place = {person: number for number, person in enumerate(people.tolist())}
    return np.array([place.get(path.parent.name, -1) for path in paths], np.int64)


def bcubed(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[float, float, float]:
    """Return BCubed precision, recall and F: the mean purity of groups and completeness of people, over all images."""
    _, pair, count = np.unique(np.stack([labels, truth], axis=1), axis=0, return_inverse=True, return_counts=True)
    shared = count[pair.ravel()].astype(float)
    precision = float((shared / np.bincount(labels)[labels]).mean())
    recall = float((shared / np.bincount(truth)[truth]).mean())
    return precision, recall, 2 * precision * recall / (precision + recall)


def in_batches(faces: Faces, size: int, seed: int, options: IdentifyOptions) -> NDArray[np.int64]:
    """Return labels for images that come in batches in random order, each batch against the gallery so far."""
    labels = np.full(len(faces), -1, np.int64)
    order = np.random.default_rng(seed).permutation(len(faces))
    given = faces.appearances
    for start in range(0, len(faces), size):
        rows, seen = order[start : start + size], order[:start]
        known = GalleryPeople.of(labels[seen], given.embeddings[seen], given.quality[seen], options=options)
        found = assign(given[rows], [known], options=options)
        labels[rows] = np.where(found.person < 0, labels.max() + 1 + found.newcomer, found.person)
    return labels


def cosines(probes: Faces, gallery: Faces) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return counts of cosines in thousandths from -1 of pairs of one or two people; a person counts once an image."""
    same, other = np.zeros(2001), np.zeros(2001)
    for row in range(len(probes)):
        vector, person = probes.appearances.embeddings[row], probes.people[row]
        similarity = gallery.appearances.embeddings @ vector
        places = np.clip(np.round((similarity + 1) * 1000), 0, 2000).astype(np.int64)
        valid = gallery.appearances.media != probes.appearances.media[row]  # not itself, nor its copy of another size
        equal = gallery.people == person
        # A person with 500 images would otherwise be most of all pairs: the pairs of an image weigh 1 together.
        same += np.bincount(places[valid & equal], minlength=2001) / max((valid & equal).sum(), 1)
        other += np.bincount(places[valid & ~equal], minlength=2001)
    return same, other


def rates(same: NDArray[np.int64], other: NDArray[np.int64], threshold: float) -> str:
    """Return false matches and misses at a threshold."""
    edge = round((threshold + 1) * 1000)
    return f"{other[edge:].sum() / other.sum():.1e} | {100 * same[:edge].sum() / same.sum():.1f} %"


def print_pairs(sets: dict[str, Faces]) -> None:
    """Return the share of pairs of different people that pass the threshold, and of pairs of one person that do not."""
    print("\n| cosine | " + " | ".join(f"{name}: false matches | misses" for name in sets) + " |")
    print("|---|" + "---|---|" * len(sets))
    counts = [cosines(faces, faces) for faces in sets.values()]
    for threshold in THRESHOLDS:
        print(f"| {threshold:.3g} | " + " | ".join(rates(*pair, threshold) for pair in counts) + " |")


def print_groups(sets: dict[str, Faces]) -> None:
    """Print BCubed by threshold, all images at once, quality aside."""
    print("\n| threshold | " + " | ".join(f"{name}: precision | recall | F" for name in sets) + " |")
    print("|---|" + "---|---|---|" * len(sets))
    for threshold in THRESHOLDS:
        options = IdentifyOptions(threshold=threshold, low_quality=0.0)
        scores = [bcubed(regroup(f.appearances, options=options), f.people) for f in sets.values()]
        print(f"| {threshold:.3g} | " + " | ".join(f"{score:.3f}" for three in scores for score in three) + " |")


def print_halves(sets: dict[str, Faces]) -> None:
    """Print how embeddings in 16 bits a number, as they are stored, change cosines and groups."""
    print(
        "\n| threshold | "
        + " | ".join(f"{name}: F in 32 bits | in 16 | images in other groups" for name in sets)
        + " |"
    )
    print("|---|" + "---|---|---|" * len(sets))
    for threshold in (0.48, 0.52, 0.56):
        options, cells = IdentifyOptions(threshold=threshold), []
        for faces in sets.values():
            full = regroup(faces.appearances, options=options)
            half = regroup(in_halves(faces.appearances), options=options)
            moved = inherit(half, full)[half] != full
            cells += [f"{bcubed(labels, faces.people)[2]:.4f}" for labels in (full, half)] + [str(int(moved.sum()))]
        print(f"| {threshold:.3g} | " + " | ".join(cells) + " |")
    for name, faces in sets.items():
        exact, stored = faces.appearances.embeddings, in_halves(faces.appearances).embeddings
        away = max(float(np.abs(stored[row] @ stored.T - exact[row] @ exact.T).max()) for row in range(len(exact)))
        print(f"largest change of a cosine, {name}: {away:.6f}")


def in_halves(appearances: AppearanceEmbeddings) -> AppearanceEmbeddings:
    """Return appearances with their embeddings as they are stored."""
    return replace(appearances, embeddings=appearances.embeddings.astype(np.float16).astype(np.float32))


def print_ways(faces: Faces) -> None:
    """Print BCubed with the shipped options by the way in which the images come."""
    print("\n| images | way | people found / true | precision | recall | F |\n|---|---|---|---|---|---|")
    options = IdentifyOptions()
    recurring = faces[np.bincount(faces.people)[faces.people] > 1]
    for name, some in (("two or more each", recurring), ("all", faces)):
        ways = {"all again": [regroup(some.appearances, options=options)]}
        for size in (1, 50, 500):
            ways[f"in batches of {size}"] = [in_batches(some, size, seed, options) for seed in range(ORDERS)]
        for way, runs in ways.items():
            scores = np.array([bcubed(labels, some.people) for labels in runs])
            spread = (scores.max(axis=0) - scores.min(axis=0)) / 2
            cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(scores.mean(axis=0), spread, strict=True)]
            found = np.mean([len(np.unique(labels)) for labels in runs])
            true = len(np.unique(some.people))
            print(f"| {name}: {len(some):,} | {way} | {found:.0f} / {true} | " + " | ".join(cells) + " |")


def print_quality(full: dict[str, Faces], small: dict[str, Faces]) -> None:
    """Print false matches and misses of images, also shrunken ones, against good full-size ones, by quality."""
    for name, large in full.items():
        probes = Faces(
            AppearanceEmbeddings.cat([large.appearances, small[name].appearances]),
            np.concatenate([large.people, small[name].people]),
        )
        good = large[large.appearances.quality >= 0.5]
        heads = [f"from {t:.3g}: false matches | misses" for t in MATCHED_AT]
        print(f"\n| quality, {name} | images | " + " | ".join(heads) + " |\n|---|---|" + "---|---|" * len(heads))
        for low, high in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.7), (0.7, 1.0)):
            rows = np.flatnonzero((probes.appearances.quality >= low) & (probes.appearances.quality < high))[:1500]
            if len(rows) > 20:
                counts = cosines(probes[rows], good)
                cells = " | ".join(rates(*counts, threshold) for threshold in MATCHED_AT)
                print(f"| {low}-{high} | {len(rows)} | {cells} |")


def print_jobs(faces: Faces, absent: NDArray[np.int64]) -> None:
    """Identify all images in random order in many jobs, then regroup; images without a face are people of their own."""
    print(
        f"\n| order | {JOBS} jobs: precision | recall | F | then regrouped: precision | recall | F | difference of F |"
    )
    print("|---|" + "---|" * 7)
    absent = np.where(absent < 0, faces.people.max() + 1 + np.arange(len(absent)), absent)
    truth = np.concatenate([faces.people, absent])
    options = IdentifyOptions()
    for seed in range(JOB_ORDERS):
        order = np.random.default_rng(seed).permutation(len(faces))
        regrouped = np.empty(len(faces), np.int64)
        regrouped[order] = regroup(faces.appearances[order], options=options)
        labels = in_batches(faces, -(-len(faces) // JOBS), seed, options)
        one, two = (bcubed(np.append(found, alone(found, absent)), truth) for found in (labels, regrouped))
        cells = " | ".join(f"{score:.4f}" for score in (*one, *two))
        print(f"| {seed} | {cells} | {one[2] - two[2]:+.4f} |")


def alone(labels: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a label of its own for each of some images."""
    return labels.max() + 1 + np.arange(len(others))


def print_poor(faces: Faces) -> None:
    """Print the groups of good images that poor ones join, where the rule allows it and where it forbids it."""
    print("\n| poor below | images | rule | with their person | with another | groups of good ones that they join |")
    print("|---|---|---|---|---|---|")
    own = replace(faces.appearances, media=np.arange(len(faces)))  # a copy is not beside its original
    for low in POOR:
        poor = own.quality < low
        before = regroup(own[~poor], options=IdentifyOptions(low_quality=low))
        for rule, below in (("poor ones attach last", low), ("all alike", 0.0)):
            labels = regroup(own, options=IdentifyOptions(low_quality=below))
            right, wrong = attached(labels, faces.people, poor)
            now = labels[~poor]
            joined = np.unique(np.stack([now, before]), axis=1).shape[1] - len(np.unique(now))
            print(f"| {low} | {poor.sum()} | {rule} | {right} | {wrong} | {joined} |")


def attached(labels: NDArray[np.int64], people: NDArray[np.int64], poor: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the counts of poor images whose group is mostly their own person, and mostly another."""
    right = wrong = 0
    for row in np.flatnonzero(poor):
        beside = people[(labels == labels[row]) & ~poor]
        if len(beside):
            own = np.count_nonzero(beside == people[row]) * 2 > len(beside)
            right, wrong = right + own, wrong + (not own)
    return int(right), int(wrong)


if __name__ == "__main__":
    main()
