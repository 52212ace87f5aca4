"""``facet people regroup|proposals|alike``: regroups all people, decides proposals and lists merge candidates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.images import check_image, write_sheets
from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table, utf8_or_none
from worker.cli.people.corrections import change, transaction
from worker.config import settings
from worker.errors import UsageError
from worker.identity.merge_candidates import read_merge_candidates
from worker.identity.proposals import (
    OpenProposal,
    Regrouped,
    apply_proposal,
    discard_proposal,
    read_proposals,
    regroup_people,
)
from worker.identity.regroup import alarm_of
from worker.ledger.identify_attempts import retry_skipped
from worker.ledger.releases import active_release, find_own_release, read_ids
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from worker.identity.merge_candidates import MergeCandidate


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those on people."""
    app.command(epilog="Example: facet people regroup")(regroup)
    app.command(epilog="Example: facet people proposals")(proposals)
    app.command(epilog="Example: facet people alike --limit 10")(alike)


def regroup(
    yes: Annotated[bool, typer.Option("--yes", help="Apply the result however much it changes.")] = False,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            help="Group what this release shows: its name, number or alias; default: active.",
            callback=utf8_or_none,
        ),
    ] = None,
    apply: Annotated[int | None, typer.Option(metavar="N", help="Apply proposal N instead of a new one.")] = None,
    discard: Annotated[int | None, typer.Option(metavar="N", help="Discard proposal N.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Group all appearances from scratch; people keep their numbers and names, and corrections hold.

    If more would change than the settings allow, nothing is changed: the result waits as a proposal, and the exit
    status is 1. Files whose people could not be identified before are tried again.
    """
    if sum((yes, apply is not None, discard is not None)) > 1:
        raise UsageError("got several of --yes, --apply and --discard, expected at most one")
    if release is not None and (apply is not None or discard is not None):
        raise UsageError("got --release with --apply or --discard, expected the proposal's number alone")
    if apply is not None:
        _apply(apply, as_json=as_json)
    elif discard is not None:
        _discard(discard, as_json=as_json)
    else:
        _regroup(release, force=yes, as_json=as_json)


def _regroup(release: str | None, *, force: bool, as_json: bool) -> None:
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            trunk_id = _trunk_of(session, release)
            retry_skipped(session, trunk_id)
        done = regroup_people(database.sessions, trunk_id, alarm_of(config), force=force)
    if as_json:
        print_json(asdict(done))
    else:
        _report(done)
    if done.proposal_id is not None:
        raise typer.Exit(1)


def _trunk_of(session: Session, release: str | None) -> int:
    if release is None:
        return active_release(session)[0].trunk_id
    return read_ids(session, find_own_release(session, release).release_id).trunk_id


def _report(done: Regrouped) -> None:
    people = f"{done.people_before} people before, {done.people_after} after"
    changed = f"{done.changed} of {done.appearances} appearances"
    if done.proposal_id is None:
        echo(f"{changed} changed their person; {people} ({done.seconds:.1f} s)")
        return
    number = done.proposal_id
    echo(
        f"nothing was changed: {done.reason}, more than allowed; {people}. It waits as proposal {number}: "
        f"`facet people proposals` shows it, `facet people regroup --apply {number}` or `--discard {number}` decides"
    )


def _apply(number: int, *, as_json: bool) -> None:
    proposal = change(lambda session: apply_proposal(session, number))
    if as_json:
        print_json(asdict(proposal))
    else:
        echo(f"proposal {number} is applied: {proposal.changed_count} appearances changed their person")


def _discard(number: int, *, as_json: bool) -> None:
    change(lambda session: discard_proposal(session, number))
    if as_json:
        print_json({"discarded": number})
    else:
        echo(f"proposal {number} is discarded")


def proposals(as_json: JsonFlag = False) -> None:
    """Show the regroupings that wait because they would change much, with their largest changes."""
    with transaction() as session:
        found = read_proposals(session)
    if as_json:
        print_json([asdict(proposal) for proposal in found])
        return
    if not found:
        echo("no proposal waits")
    for proposal in found:
        _show(proposal)


def _show(proposal: OpenProposal) -> None:
    columns = ("from", "name", "to", "name", "appearances")
    rows = [(s.from_person_id, s.from_name, s.to_person_id or "new", s.to_name, s.appearances) for s in proposal.shifts]
    made = f"{proposal.created_at:%Y-%m-%d %H:%M} UTC, release {proposal.release}"
    echo(f"proposal {proposal.proposal_id} of {made}: {proposal.reason}")
    echo(f"{proposal.people_before} people before, {proposal.people_after} after")
    console().print(table("Largest changes", columns, rows))


def alike(
    limit: Annotated[int, typer.Option(help="Maximum number of pairs, the most similar first.", min=1)] = 20,
    as_json: JsonFlag = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Contact sheet of the pairs: .png, .jpg or .webp.")
    ] = None,
) -> None:
    """List merge candidates: pairs of people who look like one person; `facet people merge` merges them."""
    if output is not None:
        check_image(output)
    with transaction() as session:
        found = read_merge_candidates(session, limit=limit)
        if output is not None and found:
            _draw(session, found, output)
    if as_json:
        print_json([asdict(pair) for pair in found])
        return
    columns = ("person", "name", "appearances", "person", "name", "appearances", "similarity")
    rows = [
        (p.first.person_id, p.first.name, p.first.appearances, p.second.person_id, p.second.name,
         p.second.appearances, p.similarity)
        for p in found
    ]  # fmt: skip
    console().print(table("People who look alike", columns, rows))


def _draw(session: Session, pairs: Sequence[MergeCandidate], output: Path) -> None:
    """Draw the best faces of each pair side by side."""
    from worker.pictures.tiles import TileReader
    from worker.storage.crops import CropStore

    tiles = TileReader(session, CropStore(settings().crops)).of_pairs(pairs)
    write_sheets(tiles, "Facet: people who look alike", output, err=True)
