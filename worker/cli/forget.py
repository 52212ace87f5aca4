"""``facet forget``: erases files and people, and prints a receipt."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import echo, print_json, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home
from worker.visible import path_text

if TYPE_CHECKING:
    from worker.erasure.erase import Eraser
    from worker.erasure.receipt import Receipt


@dataclass(frozen=True, slots=True)
class _Targets:
    """The targets of an erasure: exactly one of three kinds."""

    media: list[str]
    person: str | None
    """Number or name."""
    due: bool

    def __post_init__(self) -> None:
        given = bool(self.media) + (self.person is not None) + self.due
        if given != 1:
            raise UsageError(f"got {given} of --media, --person and --due, expected one; name exactly one of them")


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet forget --media 12 --receipt erased-12.json")(forget)


def forget(
    media: Annotated[
        list[str] | None,
        typer.Option("--media", metavar="ID|SHA256|PATH", help="File to erase, as in the view media; may be repeated."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            "--person",
            help="Person to erase from all files, by number or name; other people are kept.",
            callback=utf8_or_none,
        ),
    ] = None,
    due: Annotated[bool, typer.Option("--due", help="Erase all files whose jobs' --keep-days are over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the receipt without erasing anything.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation; required where there is no terminal.")
    ] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="New file for the receipt; default: standard output.")
    ] = None,
) -> None:
    """Erase a file or a person from everything that is stored, and print a receipt (JSON).

    Your own files are kept: originals, contact sheets, annotated videos. docs/erasure.md lists the limits of erasure.

    Exit status: 0 when everything is erased, 1 when something could not be erased or removed (the next run tries
    again) or when you did not confirm, 2 for wrong use and for an unknown file or person.
    """
    targets = _Targets([path_text(one) for one in media or []], person, due)
    if receipt is not None and (receipt.exists() or not receipt.parent.is_dir()):
        raise UsageError(f"{receipt} exists or has no folder, expected the name of a new file in an existing folder")
    config = settings()
    make_home(config.home)
    from worker.cli.people.corrections import named_person
    from worker.deployment.scheduled.upkeep import answer_if_cut
    from worker.erasure.erase import Eraser
    from worker.erasure.files import FileStores
    from worker.storage.crops import CropStore  # wrong use is reported before numpy is imported

    with open_database(config) as database:
        if person is not None:
            targets = replace(targets, person=str(named_person(database, person)))
        stores = FileStores(CropStore(config.crops), config.staging.absolute())
        eraser = Eraser(database.sessions, stores, answer=answer_if_cut)
        trial = replace(eraser, dry_run=True)
        if dry_run:
            _write_receipt(_erase(trial, targets), receipt)
            return
        left = eraser.finish_files()
        if not yes and not _is_confirmed(_erase(trial, targets)):
            echo("nothing was erased", err=True)
            raise typer.Exit(1)
        done = _erase(eraser, targets)
        _write_receipt(done, receipt)
    if left or done.files.left:
        echo(f"{left + done.files.left} files could not be removed; run `facet forget --due` later", err=True)
        raise typer.Exit(1)


def _erase(eraser: Eraser, targets: _Targets) -> Receipt:
    from worker.erasure.receipt import join_receipts

    if targets.media:
        return eraser.erase_media(targets.media)
    if targets.person is not None:
        return eraser.erase_person(int(targets.person))
    return join_receipts([eraser.empty_receipt("due"), *eraser.erase_due()])


def _is_confirmed(plan: Receipt) -> bool:
    """Ask the user to confirm, unless nothing would be erased.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if not (plan.media or plan.sealed):
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"{plan.asked} would be erased for good, and there is no terminal to confirm on; pass --yes, or "
            "--dry-run to see the receipt"
        )
    rows = ", ".join(f"{count} {table}" for table, count in plan.rows.items()) or "no rows"
    files = plan.files
    echo(
        f"{plan.asked}: {len(plan.media)} files, {len(plan.people)} people; {rows}; {len(files.crops)} strips of crops "
        f"removed, {len(files.blanked)} changed, {len(files.staged)} staged copies removed",
        err=True,
    )
    return typer.confirm("Erase this for good?", err=True)


def _write_receipt(receipt: Receipt, path: Path | None) -> None:
    if path is None:
        print_json(receipt.as_dict())
        return
    path.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n", encoding="utf-8")
    echo(f"the receipt is in {path}")
