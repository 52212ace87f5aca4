"""How long identification takes, how much memory, and how well it does, for archives of any size.

    nice .venv/bin/python benchmarks/identify_scale.py CACHE.npz regroup 100000 [--recall]
    nice .venv/bin/python benchmarks/identify_scale.py CACHE.npz assign 1000000 --new 1000

CACHE is what ``identify_lfw.py --cache`` wrote: the made people of ``synthetic_people.py`` are drawn from it. Prints
rows of the tables in docs/measured/identity.md. One size a process, since the peak of memory is that of the process.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from identify_lfw import bcubed
from synthetic_people import Archive, Source

from worker.identity.grouping.agglomerate import EDGE_MARGIN
from worker.identity.grouping.assign import AppearanceEmbeddings, GalleryPeople, IdentifyOptions, assign, regroup
from worker.identity.grouping.neighbours import EXACT_PRODUCTS, compare, near_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKED = 2_000  # appearances that are compared with all others
BLOCK = 50_000
REPEATS = 5  # times that adding is timed; the first one also warms up


@dataclass(slots=True)
class Clock:
    """Seconds since its creation."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def __str__(self) -> str:
        return f"{time.perf_counter() - self.wall:.1f} s | {time.process_time() - self.cpu:.1f} s"


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("what", choices=("regroup", "assign"))
    parser.add_argument("count", type=int, help="appearances to regroup, or known people to add to")
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--recall", action="store_true", help="also say how many neighbours are found")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    source = read(arguments.cache)
    if arguments.what == "assign":
        print_assign(source, arguments.count, arguments.new, arguments.seed)
        return
    archive = source.draw(arguments.count, arguments.seed)
    print_regroup(archive)
    if arguments.recall:
        print_recall(archive)


def read(cache: Path) -> Source:
    """Take the full-size images apart."""
    with np.load(cache) as columns:
        full = columns["shrink"] == 1
        names = [name.split("/")[0] for name in columns["name"][full].tolist()]
        person = np.unique(names, return_inverse=True)[1]
        return Source.of(columns["embedding"][full], columns["quality"][full], person)


def gigabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def print_regroup(archive: Archive) -> None:
    """Regroup from scratch."""
    before, clock = gigabytes(), Clock()
    groups = regroup(archive.appearances)
    took = str(clock)
    precision, recall, both = bcubed(groups, archive.person)
    people, true = groups.max() + 1, len(np.unique(archive.person))
    print("| appearances | wall | CPU | peak memory | of it before | people found / true | precision | recall | F |")
    print(f"| {len(archive):,} | {took} | {gigabytes():.2f} GB | {before:.2f} GB | {people:,} / {true:,} | ", end="")
    print(f"{precision:.4f} | {recall:.4f} | {both:.4f} |", flush=True)


def print_recall(archive: Archive) -> None:
    """Return which of the nearest appearances the graph of neighbours holds."""
    options = IdentifyOptions()
    embeddings = archive.appearances.embeddings
    asked = EXACT_PRODUCTS // len(archive) + 1  # too many to be compared with all others
    queries = np.random.default_rng(0).permutation(len(archive))[:asked]
    clock = Clock()
    pairs = near_pairs(embeddings, np.sort(queries), count=options.neighbours, minimum=options.threshold - EDGE_MARGIN)
    took = str(clock)
    keys = pairs[:, 0] << 32 | pairs[:, 1]
    first, second = exact_pairs(embeddings, queries[:CHECKED], options)
    found = np.isin(np.minimum(first, second) << 32 | np.maximum(first, second), keys)
    same = archive.person[first] == archive.person[second]
    print("| appearances | queries | wall | CPU | pairs found | of one person |\n|---|---|---|---|---|---|")
    print(f"| {len(archive):,} | {len(queries):,} | {took} | {found.mean():.3f} | {found[same].mean():.3f} |")


def exact_pairs(
    embeddings: NDArray[np.float32], rows: NDArray[np.int64], options: IdentifyOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each row and its nearest ones that reach the threshold."""
    first, second, similarity = [], [], []
    for start in range(0, len(embeddings), BLOCK):
        block = embeddings[start : start + BLOCK]
        hits = compare(embeddings[rows], block, count=options.neighbours + 1, minimum=options.threshold)
        first.append(hits.query)
        second.append(hits.found + start)
        similarity.append(hits.similarity)
    queries, found = np.concatenate(first), np.concatenate(second)
    order = np.lexsort((-np.concatenate(similarity), queries))
    queries, found = queries[order], found[order]
    begin = np.searchsorted(queries, queries)
    kept = np.arange(len(queries)) - begin <= options.neighbours  # itself comes first
    kept &= rows[queries] != found
    return rows[queries[kept]], found[kept]


def print_assign(source: Source, people: int, new: int, seed: int) -> None:
    """Add new appearances to the gallery."""
    archive = source.draw(round(people * source.counts.mean()) + new, seed)
    late = np.arange(len(archive)) >= len(archive) - new
    known = summed(archive, ~late)
    appearances = archive.appearances[late]
    truth = np.where(np.isin(archive.person[late], known.person), archive.person[late], -1)
    print("| known people | new | wall | CPU | known found right | newcomers found right |\n|---|---|---|---|---|---|")
    for _ in range(REPEATS):
        clock = Clock()
        found = assign(appearances, [known])
        took, right = str(clock), found.person == truth
        shares = f"{right[truth >= 0].mean():.3f} | {right[truth < 0].mean():.3f}"
        print(f"| {len(known):,} | {new:,} | {took} | {shares} |", flush=True)


def summed(archive: Archive, rows: NDArray[np.bool_]) -> GalleryPeople:
    """Return the true people of some rows as if identification had found them."""
    given: AppearanceEmbeddings = archive.appearances
    return GalleryPeople.of(archive.person[rows], given.embeddings[rows], given.quality[rows])


if __name__ == "__main__":
    main()
