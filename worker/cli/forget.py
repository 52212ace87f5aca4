"""``facet forget``: erases files and people, and gives a receipt."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import echo, print_json
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.visible import path_text

if TYPE_CHECKING:
    from worker.erasure.erase import Eraser
    from worker.erasure.receipt import Receipt


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What shall be erased: exactly one of three."""

    media: list[str]
    person: int | None
    due: bool

    def __post_init__(self) -> None:
        given = bool(self.media) + (self.person is not None) + self.due
        if given != 1:
            raise UsageError(f"got {given} of --media, --person and --due, expected one: what shall be erased?")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet forget --media 12 --receipt erased-12.json")(forget)


def forget(
    media: Annotated[
        list[str] | None,
        typer.Option("--media", metavar="ID|SHA256|PATH", help="A file, as the view media knows it; may be repeated."),
    ] = None,
    person: Annotated[int | None, typer.Option("--person", help="A person, in all files; other people stay.")] = None,
    due: Annotated[bool, typer.Option("--due", help="All files whose jobs' --keep-days are over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="New file for the receipt; default: standard output.")
    ] = None,
) -> None:
    """Erase a file or a person from everything that is stored, and print a receipt (JSON).

    Your own files stay: originals, contact sheets, annotated films. What cannot be promised is in docs/erasure.md.

    Exit status: 0 when all is gone, 1 when something could not be erased or removed (the next run tries again) or when
    the question was answered with no, 2 for wrong use and for what is not there.
    """
    wanted = _Wanted([path_text(one) for one in media or []], person, due)
    if receipt is not None and (receipt.exists() or not receipt.parent.is_dir()):
        raise UsageError(f"{receipt} exists or has no folder; expected a new file for the receipt")
    config = settings()
    make_home(config.home)
    from worker.erasure.erase import Eraser
    from worker.erasure.files import Stores
    from worker.storage.crops import CropStore  # wrong use is answered before numpy and the like are imported

    with open_database(config) as database:
        eraser = Eraser(database.sessions, Stores(CropStore(config.crops), config.staging.absolute()))
        trial = replace(eraser, dry_run=True)
        if dry_run:
            _tell(_erase(trial, wanted), receipt)
            return
        left = eraser.finish_files()
        if not yes and not _agreed(_erase(trial, wanted)):
            echo("nothing was erased", err=True)
            raise typer.Exit(1)
        done = _erase(eraser, wanted)
        _tell(done, receipt)
    if left or done.files.left:
        echo(f"{left + done.files.left} files could not be removed; run `facet forget --due` later", err=True)
        raise typer.Exit(1)


def _erase(eraser: Eraser, wanted: _Wanted) -> Receipt:
    from worker.erasure.receipt import join

    if wanted.media:
        return eraser.erase_media(wanted.media)
    if wanted.person is not None:
        return eraser.erase_person(wanted.person)
    return join([eraser.empty_receipt("due"), *eraser.erase_due()])


def _agreed(plan: Receipt) -> bool:
    """Let the user confirm, unless nothing would go.

    Raises:
        UsageError: there is nobody to ask.
    """
    if not (plan.media or plan.sealed):
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{plan.asked} would be erased for good; say --yes to do so without asking, or --dry-run")
    rows = ", ".join(f"{count} {table}" for table, count in plan.rows.items()) or "no rows"
    files = plan.files
    echo(
        f"{plan.asked}: {len(plan.media)} files, {len(plan.people)} people; {rows}; {len(files.crops)} strips of crops "
        f"removed, {len(files.blanked)} changed, {len(files.staged)} staged copies removed",
        err=True,
    )
    return typer.confirm("Erase this for good?", err=True)


def _tell(receipt: Receipt, path: Path | None) -> None:
    if path is None:
        print_json(receipt.as_dict())
        return
    path.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n", encoding="utf-8")
    echo(f"the receipt is in {path}")
