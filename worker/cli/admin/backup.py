"""``facet db dump`` and ``facet db restore``: backups of rows, crops and releases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json
from worker.config import Settings, settings
from worker.storage.database import database_address, open_database
from worker.storage.home import hold_home, make_home

if TYPE_CHECKING:
    from worker.ledger.upkeep.backup import BackupStores

SHOWN_MISSING = 3


def dump(
    folder: Annotated[Path, typer.Argument(help="New folder for the backup.")],
    as_json: JsonFlag = False,
) -> None:
    """Back up rows, crops and releases into a folder; other programs may go on meanwhile.

    All rows are of one moment, and the crops are those that they name. Media are not copied.
    """
    from dataclasses import asdict

    from worker.ledger.upkeep.backup import create_backup

    config = settings()
    make_home(config.home)
    with open_database(config) as opened, _progress("backing up") as progress:
        backup = create_backup(opened.engine, opened.url, _stores(config), folder, progress)
    if backup.missing:
        shown = ", ".join(backup.missing[:SHOWN_MISSING])
        echo(f"{len(backup.missing):,} files of crops are missing from {config.crops}: {shown}", err=True)
    if as_json:
        print_json(asdict(backup))
    else:
        echo(
            f"backed up to {folder}: the rows of {backup.created_at}, {backup.strips:,} files of crops, "
            f"{len(backup.releases)} releases"
        )


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of `facet db dump`.", exists=True, file_okay=False)],
) -> None:
    """Restore a backup into an empty database, with its crops and releases, and upgrade the tables to this program.

    Broken off, it can be repeated: the rows come last, in one transaction. On a server, run it as a user who may create
    a schema, while no worker runs.
    """
    from worker.ledger.upkeep.backup import restore_backup

    config = settings()
    make_home(config.home)
    with (
        hold_home(config.home) if config.database_url is None else nullcontext(),
        database_address(config) as url,
        _progress("restoring") as progress,
    ):
        backup = restore_backup(url, _stores(config), folder, progress)
    echo(
        f"restored the rows of {backup.created_at}, {backup.strips:,} files of crops, {len(backup.releases)} releases; "
        "run again the erasures that came later (docs/backup.md), then check with: facet db check"
    )


def _stores(config: Settings) -> BackupStores:
    from worker.ledger.upkeep.backup import BackupStores
    from worker.storage.crops import CropStore
    from worker.storage.release_store import ReleaseStore

    return BackupStores(CropStore(config.crops), ReleaseStore(config.releases))


@contextmanager
def _progress(act: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many strips are copied; it shows nothing where there is no terminal."""
    with console(stderr=True).status(f"{act} the rows ...") as status:
        yield lambda strips: status.update(f"{act}: {strips:,} files of crops ...")
