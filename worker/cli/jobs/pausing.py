"""``facet jobs``: pauses jobs and resumes them."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.output.terminal import JsonFlag, echo, print_json
from worker.config import settings
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.submission.shelving import shelve
from worker.storage.database import open_database
from worker.storage.home import make_home

app = typer.Typer(help="Jobs: pause them, let them go on.", no_args_is_help=True)

Job = Annotated[int, typer.Argument(help="Number of the job, as in `facet status`.")]


@app.command(epilog="Example: facet jobs pause 12")
def pause(job: Job, as_json: JsonFlag = False) -> None:
    """Pause a job: no worker begins a unit of it until it is resumed; units in flight end.

    Files that another job waits for go on for that one. Exit status: 0 also when the job was paused before, 2 when
    there is no such job or it has ended.
    """
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            changed = pause_job(session, job)
        shelve(database.sessions, job)
    if as_json:
        print_json({"job": job, "paused": True, "changed": changed})
        return
    echo(f"job {job} {'is' if changed else 'was already'} paused; let it go on with: facet jobs resume {job}")


@app.command(epilog="Example: facet jobs resume 12")
def resume(job: Job, as_json: JsonFlag = False) -> None:
    """Resume a paused job.

    Exit status: 0 also when the job was not paused, 2 when there is no such job.
    """
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            changed = resume_job(session, job)
        shelve(database.sessions, job)
    if as_json:
        print_json({"job": job, "paused": False, "changed": changed})
        return
    echo(f"job {job} goes on; see it with: facet status {job}" if changed else f"job {job} was not paused")
