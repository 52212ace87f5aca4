"""Probability that two faces are one person: fit on LFW's train people, check on those held out.

    nice .venv/bin/python benchmarks/likeness_lfw.py DATA --cache FILE.npz

DATA is the folder that holds ``lfw/``; the cache is that of ``identify_lfw.py``. Prints the constants of
worker/identity/search/likeness.py and the tables of docs/measured/search.md: every image, shrunken copies too, is
compared with every person, who is the mean of one to ten other images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from identify_lfw import load, split_of

from worker.identity.search.likeness import SFACE, Comparisons, features, probability

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

FIT_PRIOR = 0.01  # the prior under which the fit's loss is taken: where a search decides
PRIORS = (0.01, 0.001, 0.0001)
IMAGES_OF_A_PERSON = (1, 1, 2, 3, 5, 10)  # drawn for each template; half of people have a single image anyway
UNLIKE = 0.3  # cosine below which only a share of the pairs of two people is kept
SHARE = 0.002
QUERIES = 1000  # per block
QUALITIES = (0.25, 0.85)  # 1 % and 98 % of the images, shrunken ones included, lie outside
EDGES = np.array([0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0001])


@dataclass(frozen=True, slots=True)
class Images:
    """Embedded images."""

    embeddings: NDArray[np.float32]
    quality: NDArray[np.float32]
    person: NDArray[np.int64]
    file: NDArray[np.int64]
    """Equal for an image and its shrunken copy."""

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, rows: NDArray[np.generic]) -> Images:
        return Images(self.embeddings[rows], self.quality[rows], self.person[rows], self.file[rows])


@dataclass(frozen=True, slots=True)
class Trials:
    """Pairs of an image and a person."""

    pairs: Comparisons
    same: NDArray[np.bool_]
    weight: NDArray[np.float64]
    """Count of pairs that each stands for; a person weighs as the root of its number of images."""

    def weights(self, prior: float) -> NDArray[np.float64]:
        """Return weights under which a share of ``prior`` is one person."""
        totals = [self.weight[~self.same].sum(), self.weight[self.same].sum()]
        return self.weight * np.where(self.same, prior / totals[1], (1 - prior) / totals[0])


def main() -> None:
    """Print constants and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--release", type=Path)
    options = parser.parse_args()
    root = options.data / "lfw"
    columns = load(root, options.cache, options.release)
    names = [file.split("/")[0] for file in columns["name"].tolist()]
    everyone = Images(
        columns["embedding"],
        columns["quality"],
        np.unique(names, return_inverse=True)[1],
        np.unique(columns["name"], return_inverse=True)[1],
    )
    train = np.array(split_of(root, names)) == "train"
    seen, held_out = draw(everyone[train], rounds=5, seed=0), draw(everyone[~train], rounds=6, seed=1)
    for name, trials in (("train", seen), ("held out", held_out)):
        print(f"{name}: {trials.same.sum():,} trials of one person, {trials.weight[~trials.same].sum():,.0f} of two")
    print_fits(seen, held_out)
    print_reliability(held_out)
    print_examples()


def draw(images: Images, rounds: int, seed: int) -> Trials:
    """Compare every image with every person, made of other images, several times over."""
    rng = np.random.default_rng(seed)
    order = np.argsort(images.person, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(images.person[order])) + 1)
    people = np.unique(images.person, return_inverse=True)[1]
    blocks = []
    for _ in range(rounds):
        counts = np.minimum(rng.choice(IMAGES_OF_A_PERSON, len(members)), [max(1, len(rows) - 1) for rows in members])
        chosen = [rng.choice(rows, count, replace=False) for rows, count in zip(members, counts, strict=True)]
        blocks += list(compare(images, people, chosen, rng))
    cosine, quality, agreement, same, weight = np.concatenate(blocks, axis=1)
    return Trials(Comparisons(cosine=cosine, quality=quality, agreement=agreement), same > 0, weight)


def compare(
    images: Images, people: NDArray[np.int64], chosen: Sequence[NDArray[np.int64]], rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Yield (5, K) cosine, quality, agreement, same and weight of the pairs of a block of images with all templates."""
    sums = np.stack([(images.embeddings[rows] * images.quality[rows, None]).sum(0) for rows in chosen])
    lengths = np.linalg.norm(sums, axis=1)
    agreement = lengths / np.array([images.quality[rows].sum() for rows in chosen])
    best = np.array([images.quality[rows].max() for rows in chosen])
    files = [set(images.file[rows].tolist()) for rows in chosen]
    counts = np.bincount(people)
    for start in range(0, len(images), QUERIES):
        rows = np.arange(start, min(start + QUERIES, len(images)))
        cosine = images.embeddings[rows] @ (sums / lengths[:, None]).T
        weight = np.where(cosine > UNLIKE, 1.0, (rng.random(cosine.shape) < SHARE) / SHARE)
        own = people[rows]
        known = np.array([file in files[person] for file, person in zip(images.file[rows], own, strict=True)])
        weight[np.arange(len(rows)), own] = np.where(known, 0.0, counts[own] ** -0.5)
        row, person = np.nonzero(weight)
        quality = np.minimum(images.quality[rows][row], best[person])
        same = own[row] == person
        yield np.stack([cosine[row, person], quality, agreement[person], same, weight[row, person]])


def fit(columns: NDArray[np.float64], trials: Trials, prior: float) -> NDArray[np.float64]:
    """Fit a logistic regression by Newton's method, and remove the prior from the constant."""
    weight, weights = trials.weights(prior), np.zeros(columns.shape[1])
    for _ in range(50):
        guess = 1 / (1 + np.exp(-columns @ weights))
        gradient = columns.T @ (weight * (trials.same - guess))
        curvature = (columns * (weight * guess * (1 - guess))[:, None]).T @ columns
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), gradient)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    weights[0] -= np.log(prior / (1 - prior))
    return weights


def judge(guess: NDArray[np.float64], trials: Trials, prior: float) -> tuple[float, float]:
    """Return the log loss as a share of that of the prior alone, and the expected calibration error."""
    weight, clipped = trials.weights(prior), np.clip(guess, 1e-12, 1 - 1e-12)
    loss = -(weight * np.where(trials.same, np.log(clipped), np.log1p(-clipped))).sum()
    ignorance = -(prior * np.log(prior) + (1 - prior) * np.log1p(-prior))
    place = np.digitize(guess, EDGES)
    gaps = np.bincount(place, weight * (guess - trials.same))
    return float(loss / ignorance), float(np.abs(gaps).sum())


def print_fits(seen: Trials, held_out: Trials) -> None:
    """Print the gain of each column, on held-out people."""
    head = " | ".join(f"prior {prior:g}: loss | ECE" for prior in PRIORS)
    print(f"\n| log-ratio linear in | {head} | weights |\n|---|" + "---|---|" * len(PRIORS) + "---|")
    columns, other = features(seen.pairs, *QUALITIES), features(held_out.pairs, *QUALITIES)
    kinds = {"cosine": [0, 1], "and quality": [0, 1, 2, 3], "and agreement": [0, 1, 4], "all": [0, 1, 2, 3, 4]}
    for name, used in kinds.items():
        weights = fit(columns[:, used], seen, FIT_PRIOR)
        ratio = other[:, used] @ weights
        cells = []
        for prior in PRIORS:
            guess = 1 / (1 + np.exp(-(ratio + np.log(prior / (1 - prior)))))
            cells.append("{:.4f} | {:.1e}".format(*judge(guess, held_out, prior)))
        print(f"| {name} | {' | '.join(cells)} | {np.round(weights, 2).tolist()} |")


def print_reliability(trials: Trials) -> None:
    """Print the stated probability beside the share that is one person, with the shipped constants."""
    for prior in PRIORS:
        guess, weight = probability(trials.pairs, prior), trials.weights(prior)
        place = np.digitize(guess, EDGES) - 1
        loss, error = judge(guess, trials, prior)
        print(f"\nprior {prior:g}: loss {loss:.4f} of the prior's, expected calibration error {error:.1e}")
        print("\n| stated | mean stated | observed | trials of one person | of two |\n|---|---|---|---|---|")
        for number in range(len(EDGES) - 1):
            rows = place == number
            if trials.same[rows].any():
                stated, observed = (np.average(v[rows], weights=weight[rows]) for v in (guess, trials.same))
                same, two = trials.same[rows].sum(), trials.weight[rows & ~trials.same].sum()
                low, high = EDGES[number], min(EDGES[number + 1], 1)
                print(f"| {low:g} to {high:g} | {stated:.3f} | {observed:.3f} | {same:,} | {two:,.0f} |")


def print_examples() -> None:
    """Print the probabilities of some cosines, as examples."""
    cosines = np.array([0.3, 0.36, 0.4, 0.44, 0.48, 0.52, 0.6])
    print("\n| quality | prior | " + " | ".join(f"{c:g}" for c in cosines) + " |\n|---|---|" + "---|" * len(cosines))
    for quality in (0.3, 0.7):
        for prior in PRIORS:
            same = np.ones_like(cosines)
            guess = probability(Comparisons(cosine=cosines, quality=same * quality, agreement=same), prior, SFACE)
            print(f"| {quality} | {prior:g} | " + " | ".join(f"{p:.3f}" for p in guess) + " |")


if __name__ == "__main__":
    main()
