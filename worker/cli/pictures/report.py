"""``facet report``: what was found in a job, a file or about a person, as one file for people without Facet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import echo, utf8_or_none
from worker.config import Settings, settings
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.web.desk import Desk
    from worker.web.queries.report.scope import ReportScope

_NEEDED = ("jinja2", "starlette")
_REPORT_SECONDS = 3600.0  # longest statement: a job may have a million files


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet report wedding.mp4 -o wedding.html")(report)


def report(
    media: Annotated[
        str | None, typer.Argument(help="A video or image that was analysed: its path, or its media_id.")
    ] = None,
    *,
    job: Annotated[int | None, typer.Option("--job", help="Report on all files of this job.", min=1)] = None,
    person: Annotated[
        str | None,
        typer.Option("--person", help="Report on this person: number or name.", callback=utf8_or_none),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .html.")],
) -> None:
    """Write a report as one HTML file: what was analysed, people, times in view, method, errors, limits.

    It has the faces of people in it. It opens in any browser without a network, and prints well (needs the extra
    called web).
    """
    given = sum(value is not None for value in (media, job, person))
    if given != 1:
        raise UsageError(f"got {given} of MEDIA, --job and --person, expected one; name exactly one of them")
    if output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"{output} ends in {output.suffix!r}, expected .html; give another name")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"a report needs {', '.join(missing)}; install it: pip install 'facet[web]'")
    from worker.web.desk import open_desk
    from worker.web.pages.report.reading import read_report
    from worker.web.pages.report.writing import write_report

    config = settings()
    with open_desk(config) as desk:
        scope = _scope(config, desk, media, job, person)
        with desk.reading(_REPORT_SECONDS) as connection:
            found = read_report(connection, scope)
            html = write_report(connection, found, desk.crops)
    try:
        output.write_text(html, encoding="utf-8")
    except OSError as err:
        raise UsageError(f"{output} cannot be written ({err.strerror}); name a file in a folder that exists") from err
    people = found.counts.people
    echo(f"{found.title}: {people:,} {'person' if people == 1 else 'people'}, written to {output}")


def _scope(config: Settings, desk: Desk, media: str | None, job: int | None, person: str | None) -> ReportScope:
    """Return what the report is about.

    Raises:
        UsageError: there is no such file or person.
    """
    from worker.cli.pictures.annotate import find_clip
    from worker.identity.listing import find_person
    from worker.web.queries.report.scope import ReportScope

    if job is not None:
        return ReportScope("job", job)
    with desk.database.sessions() as session:
        if person is not None:
            return ReportScope("person", find_person(session, person))
        return ReportScope("media", find_clip(config, session, str(media)).media_id)
