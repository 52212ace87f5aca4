"""``facet releases diff``: what changes for the archive with another release."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, utf8
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.releases.diff.drift import Interval
    from worker.releases.diff.report import ReleaseDiff

SHOWN_GROUPS = 12  # of a head
SHOWN_MOVERS = 10
QUESTION_COLUMNS = ("question", "rows", "share", "for example")
GROUP_COLUMNS = ("head", "group", "faces", "changed (95 %)", "shift (95 %)")


def diff(
    before: Annotated[str, typer.Argument(help="The old release: number, name or alias.", callback=utf8)] = "active",
    after: Annotated[str, typer.Argument(help="The new one.", callback=utf8)] = "candidate",
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with all tables and the crops that moved most.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Report what changes with another release: faces, answers, groups of people, identities, and questions.

    Nothing is switched. Answers that the new release has not computed yet count as missing.
    """
    from worker.ledger.releases import find_release, read_ids
    from worker.releases.diff.report import ComparedRelease, read_diff

    config = settings()
    make_home(config.home)
    with open_database(config) as opened:
        with opened.sessions.begin() as session:
            both = [find_release(session, wanted) for wanted in (before, after)]
            ids = [read_ids(session, one.release_id) for one in both]
        if both[0].release_id == both[1].release_id:
            raise UsageError(f"{before} and {after} are the same release, {both[0]}; name two")
        named = [ComparedRelease(one.name, own) for one, own in zip(both, ids, strict=True)]
        found = read_diff(opened.sessions, *named)
        if html is not None:
            _write_page(found, html)
    if as_json:
        print_json(asdict(found) | {"covered": found.covered})
    else:
        _print(found)
    if html is not None:
        echo(f"wrote {html}", err=as_json)


def _write_page(found: ReleaseDiff, path: Path) -> None:
    """Write the page.

    Raises:
        UsageError: the file cannot be written.
    """
    from worker.releases.diff.page import page

    try:
        path.write_text(page(found, _sheet(found)), encoding="utf-8")
    except OSError as err:
        raise UsageError(f"{path} cannot be written ({err.strerror}); name a file in a folder that exists") from err


def _sheet(found: ReleaseDiff) -> NDArray[np.uint8] | None:
    """Draw the crops of the movers; None where none of them has a crop any more."""
    from worker.pictures.sheets import contact_sheet
    from worker.releases.diff.crops import mover_tiles
    from worker.storage.crops import CropStore

    tiles = mover_tiles(CropStore(settings().crops), found.movers)
    return contact_sheet(tiles, f"{found.before} → {found.after}: biggest movers") if tiles else None


def _print(found: ReleaseDiff) -> None:
    faces, out = found.faces, console()
    title = f"{found.before} → {found.after}: {found.covered:.2%} of {faces.before:,} faces covered"
    counts = ("kept before", "compared", "found by both", "vanished", "new", "lacking something")
    out.print(table(title, counts, [(*asdict(faces).values(), found.uncovered)]))
    columns = ("head", "unchanged", "changed", "new", "vanished", "missing", "mean shift")
    out.print(
        table(
            "Heads",
            columns,
            [
                (one.head + " (shared)" * one.is_shared, one.unchanged, one.changed, one.new, one.vanished, one.missing,
                 None if one.shift is None else round(one.shift.mean, 3))
                for one in found.heads
            ],
        )
    )  # fmt: skip
    groups = [
        (one.head, one.group, one.faces, _percent(one.changed), _interval(one.shift))
        for head in dict.fromkeys(one.head for one in found.drift)
        for one in [each for each in found.drift if each.head == head][:SHOWN_GROUPS]
    ]
    if groups:
        out.print(table("Groups", GROUP_COLUMNS, groups, prose=GROUP_COLUMNS[1:]))
    people = asdict(found.people)
    waiting = len(found.corrections.waiting)
    out.print(
        table(
            "People", (*people, "corrections found", "waiting"), [(*people.values(), found.corrections.found, waiting)]
        )
    )
    moved = [(one.question, one.moved, f"{one.share:.1%}", one.example) for one in found.questions if one.moved]
    if moved:
        out.print(table("Questions whose answers moved", QUESTION_COLUMNS, moved, prose=("question", "for example")))
    movers = [(one.head, one.face_id, one.uri, one.before, one.after) for one in found.movers[:SHOWN_MOVERS]]
    if movers:
        out.print(table("Biggest movers", ("head", "face", "file", "before", "after"), movers))


def _percent(value: Interval) -> str:
    return f"{value.value:.1%} ({value.low:.1%} to {value.high:.1%})"


def _interval(value: Interval | None) -> str:
    return "" if value is None else f"{value.value:+.2f} ({value.low:+.2f} to {value.high:+.2f})"
