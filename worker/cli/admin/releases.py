"""``facet releases``: register model releases, list them, and choose the one that the views show."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.admin.release_diff import diff
from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, utf8, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.releases.catalogue import LayerCost, ReleaseCost
    from worker.releases.folders import ReleaseFolders

MB = 1e6

app = typer.Typer(
    help="Model releases: register and list them, choose the one that the views show.", no_args_is_help=True
)


app.command(epilog="Example: facet releases diff active candidate --html diff.html")(diff)


class AliasChoice(StrEnum):
    """An alias that can be given."""

    candidate = "candidate"


Wanted = Annotated[
    str,
    typer.Argument(
        help="Number or name of a release, as in `facet releases list`; or active, candidate, previous.", callback=utf8
    ),
]
SwitchReason = Annotated[
    str | None, typer.Option("--reason", help="Why; the history of releases keeps it.", callback=utf8_or_none)
]


LIMITS_HELP = "Limits of the gate, such as coverage=0.99,changed=0.2,shift=3,faces=50."


@contextmanager
def _open() -> Iterator[ReleaseFolders]:
    from worker.releases.folders import ReleaseFolders

    config = settings()
    make_home(config.home)
    with open_database(config) as opened:
        yield ReleaseFolders(config, opened.sessions)


@app.command(epilog="Example: facet releases register releases/mine --as candidate")
def register(
    folder: Annotated[Path, typer.Argument(help="Folder of the release.", exists=True, file_okay=False)],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name by which it is known here; default: its own.", callback=utf8_or_none),
    ] = None,
    alias: Annotated[
        AliasChoice | None,
        typer.Option("--as", help="Make it the candidate: the release that is prepared to be activated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a release, copy it to the release store, and register it; all workers can serve it from then on.

    Every byte is checked, and the models run once. Nothing is computed for the archive, and the views stay as they are.
    """
    from worker.releases.registering import register_folder

    with _open() as folders:
        done = register_folder(folders, folder, name=name, alias=None if alias is None else alias.value)
        number, known = done.release.release_id, done.release.name
        if as_json:
            print_json({"release_id": number, "release": known, "is_new": done.is_new, "store": folders.store.url})
        else:
            echo(
                f"release {done.release} is {'registered' if done.is_new else 'known; its description was replaced'}"
                f"{'' if alias is None else f', as {alias.value}'}"
            )


@app.command("list", epilog="Example: facet releases list")
def list_releases(as_json: JsonFlag = False) -> None:
    """List the releases: how much of the archive each covers, and the room that it takes.

    Own room is freed when the release is retired; shared room belongs to layers that other releases have, too. Of a
    large archive, both and the coverage are estimates.
    """
    from worker.releases.catalogue import read_costs

    with _open() as folders:
        with folders.sessions.begin() as session:
            costs = read_costs(session, folders.store)
        if as_json:
            print_json([asdict(one) for one in costs])
            return
        columns = ("number", "release", "state", "created", "covered", "own MB", "shared MB", "store MB")
        console().print(table("Releases", columns, [_row(one) for one in costs]))
        if any(one.is_estimate for one in costs):
            echo("coverage, own and shared room are estimates from a sample of the rows")


@app.command(epilog="Example: facet releases show candidate")
def show(name: Wanted, as_json: JsonFlag = False) -> None:
    """Show a release: its layers with the room of their rows, the releases that share them, and its history."""
    from worker.ledger.releases import find_release
    from worker.releases.catalogue import read_costs, read_layers
    from worker.releases.records import read_release_history

    with _open() as folders, folders.sessions.begin() as session:
        found = find_release(session, name, or_retired=True)
        cost = next(one for one in read_costs(session, folders.store) if one.release_id == found.release_id)
        layers, history = read_layers(session, found.release_id), read_release_history(session, found.release_id)
    if as_json:
        print_json(asdict(cost) | {"layers": [asdict(one) for one in layers], "history": [asdict(h) for h in history]})
        return
    facts: list[tuple[str, object]] = [(key, _fact(value)) for key, value in asdict(cost).items()]
    console().print(table(f"Release {found}", ("", ""), facts))
    console().print(table("Layers", ("layer", "task", "rows MB", "shared with", "fingerprint"), map(_layer, layers)))
    rows = [(one.at, one.action, one.who, one.from_release, one.reason, one.forced) for one in history]
    console().print(table("History", ("at", "action", "who", "before", "reason", "forced"), rows, prose=("reason",)))


@app.command(epilog="Example: facet releases activate candidate --reason 'ages are 0.4 years better'")
def activate(
    name: Wanted,
    reason: SwitchReason = None,
    force: Annotated[bool, typer.Option("--force", help="Switch although the gate holds it; needs --reason.")] = False,
    limits: Annotated[str | None, typer.Option("--limits", help=LIMITS_HELP, callback=utf8_or_none)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Switch all views to a release at once, if the gate is open; results of other releases are kept.

    The gate holds a release that covers too few faces, loses a correction, drifts beyond the limits in a group, or has
    no good verdict of `facet-train`.
    """
    from worker.ledger.releases import Switch
    from worker.releases.gate import parse_limits
    from worker.releases.switching import switch_release as switch

    if force and not reason:
        raise UsageError("--force needs --reason: the history of releases keeps why the gate was passed over")
    with _open() as folders:
        found = switch(folders.sessions, name, Switch(reason=reason, forced=force), parse_limits(limits))
    _report_shown(found, as_json=as_json, again=False)


@app.command(epilog="Example: facet releases rollback --reason 'ages of children are wrong'")
def rollback(reason: SwitchReason = None, as_json: JsonFlag = False) -> None:
    """Switch all views back to the release that was active before."""
    from worker.releases.switching import roll_back

    with _open() as folders:
        found = roll_back(folders.sessions, reason)
    _report_shown(found, as_json=as_json, again=True)


def _report_shown(found: str, *, as_json: bool, again: bool) -> None:
    if as_json:
        print_json({"release": found})
    else:
        echo(f"the views show release {found}{' again' * again}")


@app.command(epilog="Example: facet releases retire previous --keep-days 30")
def retire(
    name: Wanted,
    keep_days: Annotated[
        int | None,
        typer.Option(
            "--keep-days",
            help="Days after which upkeep retires it, unless it is activated before; default: now.",
            min=1,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Cancel its open units.")] = False,
    reason: SwitchReason = None,
    as_json: JsonFlag = False,
) -> None:
    """Free what only a release uses: rows of layers that no other one has, their crops, and its folder in the store.

    It cannot be taken back: its rows have to be computed again, under a new release. Broken off, the same command, or
    upkeep, goes on where it stopped. Analyses and jobs stay, as the accounting.
    """
    from worker.releases.retiring import Retirement, RetireOptions
    from worker.releases.retiring import retire as free

    with _open() as folders, console(stderr=True).status("retiring ...") as status:

        def show_progress(now: Retirement) -> None:
            status.update(f"retiring {now.release}: {sum(now.rows.values()):,} rows deleted ...")

        options = RetireOptions(reason=reason, keep_days=keep_days, force=force)
        done = free(folders, name, options, show_progress)
    if as_json:
        print_json(asdict(done))
    elif done.retire_at is not None:
        at = f"{done.retire_at:%Y-%m-%d %H:%M %Z}"
        echo(f"release {done.release} will be retired at {at}, unless it is activated before")
    else:
        rows = ", ".join(f"{count:,} of {table}" for table, count in done.rows.items()) or "none"
        echo(
            f"release {done.release} is retired; rows deleted: {rows}; {done.store_bytes / MB:,.1f} MB of the release "
            f"store; {done.crops:,} strips of crops; {done.cancelled:,} units cancelled"
        )


def _row(one: ReleaseCost) -> tuple[object, ...]:
    covered = "" if one.covered is None else f"{100 * one.covered:.4g} %"
    sizes = tuple(f"{size / MB:,.1f}" for size in (one.own_bytes, one.shared_bytes, one.store_bytes))
    state = ", ".join(one.aliases) or ("" if one.retire_at is None else f"retires {one.retire_at:%Y-%m-%d}")
    return one.release_id, one.release, state, one.created_at, covered, *sizes


def _layer(one: LayerCost) -> tuple[object, ...]:
    shared = ", ".join(map(str, one.shared_with))
    return one.kind, one.task, f"{one.byte_size / MB:,.1f}", shared, one.fingerprint[:12]


def _fact(value: Any) -> object:
    return ", ".join(value) if isinstance(value, tuple) else value
