"""Whether reprocessing gives the rows that starting over gives: each way, on real clips and stills.

    nice .venv/bin/python benchmarks/same_as_fresh.py --data DATA [--stills 2000]

DATA is the folder with ``lfw/``, ``utkface/``, ``celeba10k/``, ``widerface_subset/`` and ``videos/``. Analyses the
archive afresh under three variants of the shipped release, each in a database of its own: one with retrained heads, one
with another trunk, one with another finder. Then analyses it under the base release, corrects people, fills in what
each variant lacks, and compares row by row. Prints the table of docs/measured/reprocessing.md, and rows beyond the
tolerance. With 2,000 stills it takes some half an hour on two cores.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from same_archive import Installation, build_archive, make_releases
from same_rows import (
    MAX_FILE_STEPS,
    compare,
    compare_answers,
    compare_appearances,
    compare_faces,
    count_unlike,
    pairs_together,
    people_at,
    take_snapshot,
)

from worker.config import Settings
from worker.identity.correct import NewName, merge_people, name_people, not_person, split_person
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.conflicts import find_violations
from worker.identity.corrections.name_assignment import people_of
from worker.identity.corrections.replay import replay
from worker.identity.proposals import regroup_people
from worker.identity.regroup import alarm_of
from worker.storage.crops import CropStore
from worker.storage.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from same_rows import Comparison, Rows, Snapshot

    from worker.ledger.releases import ReleaseIds

    Pair = tuple[tuple[object, ...], tuple[object, ...]]

NAMED = 40
CORRECTED = 3  # merges, splits and nots
MAX_SHOWN = 30
COLUMNS = ("label", "scores", "value", "low", "high", "confidence", "1 - cosine", "box", "quality")
VARIANTS = ("heads", "trunk", "finder")
WAYS = {"reading": ("gender",), "embedding": ("age",), "crops": ("emotion",), "nothing": ("ethnicity", "attributes")}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stills", type=int, default=2000)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    options = parser.parse_args()
    logging.getLogger("worker").setLevel(logging.ERROR)  # that each crop is gone is no news
    print("| way | what | rows | unlike the base release | equal to fresh ones | largest differences | beyond |")
    with TemporaryDirectory(prefix="facet-same-") as name:
        folder = Path(name)
        media = folder / "media"
        build_archive(options.data, media, options.stills)
        releases = make_releases(folder / "releases")
        fresh: dict[str, Fresh] = {}
        for variant in options.variants:
            with timed(f"fresh analysis: {variant}"), install(folder / "fresh") as installation:
                fresh[variant] = start_over(installation, releases[variant], media)
            shutil.rmtree(folder / "fresh")
        with install(folder / "again") as installation:
            with timed("analysis under the base release"):
                base = installation.analyse(releases["base"], media)
            Rehearsal(installation, base, releases, fresh).run()


@contextmanager
def install(home: Path) -> Iterator[Installation]:
    """Open a home with a database of its own."""
    home.mkdir()
    settings = Settings(home=home, device="cpu", decoders=1, threads=2, database_keep_seconds=0)
    with open_database(settings) as database:
        yield Installation(settings, database)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A fresh analysis under a release."""

    rows: Snapshot
    together: set[Pair]
    """Appearances of one person, once people are regrouped."""


def start_over(installation: Installation, release: Path, media: Path) -> Fresh:
    """Analyse the archive under a release, then regroup people, as reprocessing does at its end."""
    ids = installation.analyse(release, media)
    rows = take_snapshot(installation, ids)
    regroup_people(installation.database.sessions, ids.trunk_id, alarm_of(installation.settings), force=True)
    return Fresh(rows, pairs_together(take_snapshot(installation, ids).faces))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print the seconds that a step takes."""
    began = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


class Rehearsal:
    """Fills in each variant and compares it."""

    def __init__(
        self, installation: Installation, base: ReleaseIds, releases: dict[str, Path], fresh: dict[str, Fresh]
    ) -> None:
        self.installation, self.base, self.releases, self.fresh = installation, base, releases, fresh

    def run(self) -> None:
        """Print the comparison of each way."""
        kept, dropped = (
            self.installation.ask(f"SELECT count(*) FROM face WHERE dropped_reason IS {word}")[0][0]
            for word in ("NULL", "NOT NULL")
        )
        files = Counter(row.kind for row in self.installation.ask("SELECT kind FROM media_file"))
        print(f"{dict(files)}: {kept} faces kept, {dropped} dropped")
        correct(self.installation, self.base)
        self.before = take_snapshot(self.installation, self.base)
        if "heads" in self.fresh:
            found = self.fill_in("heads")
            for way, tasks in WAYS.items():
                self.show(way, found.of(*tasks), self.fresh["heads"].rows.of(*tasks))
        for variant in [one for one in ("trunk", "finder") if one in self.fresh]:
            found = self.fill_in(variant)
            self.show(variant, found, self.fresh[variant].rows)
            self.show_people(variant, found)
        if "heads" in self.fresh:
            self.cut_again()

    def fill_in(self, variant: str, tasks: tuple[str, ...] | None = None) -> Snapshot:
        """Fill in a variant; return its rows."""
        ids = self.installation.register(self.releases[variant])
        with timed(f"reprocessing: {variant}"):
            ways = self.installation.reprocess(ids, tasks)
        print(f"    {ways or 'files only'}")
        return take_snapshot(self.installation, ids)

    def show(self, way: str, new: Snapshot, fresh: Snapshot, steps: int | None = None) -> None:
        """Print a line of each table."""
        limits = {"steps": steps} if steps else {}
        answers, appearances = partial(compare_answers, **limits), partial(compare_appearances, **limits)
        for what, kind, compare_row in (
            ("answers of faces", "predictions", answers),
            ("faces and embeddings", "faces", compare_faces),
            ("answers of appearances", "appearances", appearances),
        ):
            mine: Rows = getattr(new, kind)
            if mine:
                found = compare(mine, getattr(fresh, kind), compare_row)
                print_line(f"{way} | {what}", found, count_unlike(mine, getattr(self.before, kind)))

    def show_people(self, variant: str, new: Snapshot) -> None:
        """Print whether people kept their places and corrections hold, and whether a fresh grouping is the same."""
        both = {place for place, row in new.faces.items() if row.person_id and place in self.before.faces}
        old, now = people_at(self.before.faces, both), people_at(new.faces, both)
        moved = {place: (old[place], now[place]) for place in old if old[place] != now[place]}
        names = [{row.name for row in faces.values() if row.name} for faces in (self.before.faces, new.faces)]
        made = self.installation.ask("SELECT kind, count(*) FROM correction GROUP BY kind ORDER BY kind")
        violated = self.count_violations(self.installation.ids(variant).trunk_id)
        print(f"    people: {len(old)} places, {len(old) - len(moved)} with the same person and name")
        print(f"    corrections: {dict(map(tuple, made))}; appearances against one: {violated}")
        print(f"    names: {len(names[0])}, lost: {sorted(names[0] - names[1])}")
        for place, (one, other) in list(moved.items())[:MAX_SHOWN]:
            print(f"        {place}: was {one}, is {other}")
        print_pairs(pairs_together(new.faces), self.fresh[variant].together, self.corrected(new))

    def count_violations(self, trunk_id: int) -> int:
        """Return how many appearances stand against a correction under a trunk."""
        with self.installation.database.sessions() as session:
            corrections = replay(read_corrections(session, trunk_id))
            return len(find_violations(corrections, people_of(session, corrections.appearance)))

    def corrected(self, new: Snapshot) -> set[tuple[object, ...]]:
        """Return the appearances of people who were merged or split, or of whom something was said not to be them."""
        found = self.installation.ask("SELECT unnest(people) AS person_id FROM correction WHERE kind <> 'name'")
        people = {row.person_id for row in found}
        return {
            (row.uri, row.ordinal)
            for faces in (self.before.faces, new.faces)
            for row in faces.values()
            if row.person_id in people
        }

    def cut_again(self) -> None:
        """Fill in the deep head once more, without its rows and the crop store: from the files."""
        ids = self.installation.ids("heads")
        reading = ids.readings["emotion"]
        for table in ("prediction", "appearance_prediction"):
            self.installation.ask(f"DELETE FROM {table} WHERE reading_id = :reading", reading=reading)
        crops = self.installation.settings.crops
        shutil.rmtree(self.installation.settings.home / "crops")
        CropStore(crops).write("aa/other.png", np.zeros((1, 112, 112, 3), np.uint8))  # the store is mounted
        found = self.fill_in("heads", ("emotion",))
        self.show("file", found.of("emotion"), self.fresh["heads"].rows.of("emotion"), MAX_FILE_STEPS)


def correct(installation: Installation, ids: ReleaseIds) -> None:
    """Name people as their files are called, and merge, split and send away where the grouping erred or as well as."""
    people: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for person, appearance, uri in installation.ask(
        """SELECT s.person_id, s.appearance_id, m.uri FROM appearance s JOIN media_file m USING (media_id)
           WHERE s.trunk_id = :trunk AND m.uri LIKE '%/lfw/%' ORDER BY 1, 2""",
        trunk=ids.trunk_id,
    ):
        people[person].append((appearance, Path(uri).stem.rsplit("_", 1)[0].replace("_", " ")))
    by_size = sorted((person for person in people if len(people[person]) > 1), key=lambda one: -len(people[one]))
    named, others = by_size[:NAMED], by_size[NAMED:]
    with installation.database.sessions.begin() as session:
        for person in named:
            name_people(session, [NewName(person, Counter(name for _, name in people[person]).most_common(1)[0][0])])
    parted: list[tuple[Callable[..., object], list[int]]] = [
        (split_person, others[:CORRECTED]),
        (not_person, others[CORRECTED : 2 * CORRECTED]),
    ]
    for function, subjects in parted:
        for person in subjects:
            with installation.database.sessions.begin() as session:
                function(session, person, [people[person][0][0]])
    rest = others[2 * CORRECTED :]
    for pair in zip(rest[:CORRECTED], rest[CORRECTED : 2 * CORRECTED], strict=False):
        with installation.database.sessions.begin() as session:
            merge_people(session, pair)


def print_line(title: str, found: Comparison, unlike: int) -> None:
    """Print a row of the table, and the rows beyond the tolerance below it."""
    columns = ", ".join(f"{name} {found.largest[name]:.2g}" for name in COLUMNS if name in found.largest)
    print(f"| {title} | {found.rows:,} | {unlike:,} | {found.equal:,} | {columns} | {len(found.beyond)} |", flush=True)
    for line in found.beyond[:MAX_SHOWN]:
        print(f"        {line}")


def print_pairs(new: set[Pair], fresh: set[Pair], corrected: set[tuple[object, ...]]) -> None:
    """Print how the groups differ, beside what corrections explain."""
    differing = new ^ fresh
    unexplained = [pair for pair in differing if not corrected.intersection(pair)]
    print(f"    pairs of one person: {len(new)} filled in, {len(fresh)} fresh, {len(new & fresh)} in both;")
    print(f"    {len(differing)} differ, {len(differing) - len(unexplained)} of them of people with corrections")
    for pair in unexplained[:MAX_SHOWN]:
        print(f"        {'together' if pair in new else 'apart'}, unlike fresh: {pair}")


if __name__ == "__main__":
    main()
