"""Operations of scheduled reprocessing: find a release, reprocess it, compare it, switch to it through the gate."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import GateClosed, RetryableError, UsageError
from worker.ledger.releases import ALIASES, Switch, find_own_release, find_release, read_ids
from worker.reprocess.request import ReprocessRequest, write_job

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import NamedRelease
    from worker.schedules.reprocessing import ReprocessOptions, ScheduledRelease
    from worker.storage.crops import CropStore


@dataclass(frozen=True, slots=True)
class ReleaseWork:
    """The operations of a deployment with a database.

    Args:
        sessions: of the database.
        crops: the crop store.
        reports: folder of the reports.
    """

    sessions: sessionmaker[Session]
    crops: CropStore
    reports: Path

    def find_release(self, session: Session, wanted: str) -> NamedRelease | None:
        """Return the release of a name, a number or an alias; None where no release has the alias.

        Raises:
            UsageError: no release has the name or number, several have, it was retired, or it is foreign.
        """
        try:
            return find_own_release(session, wanted)
        except UsageError:
            if wanted in ALIASES:
                return None
            raise

    def start(self, session: Session, release: ScheduledRelease, options: ReprocessOptions, name: str) -> int:
        """Write a job that fills in what a release lacks, and return its number."""
        request = ReprocessRequest(
            release_id=release.release_id, tasks=options.heads, priority=options.priority, speed=options.speed
        )
        return write_job(session, request, name)

    def compare(self, release_id: int, job_id: int) -> str:
        """Write the report of what a release changes, and return a sentence with its place.

        Raises:
            RetryableError: the folder of the reports cannot be written.
        """
        # a worker loads what only reports need when it writes one
        from worker.pictures.sheets import contact_sheet  # noqa: PLC0415
        from worker.releases.diff.crops import mover_tiles  # noqa: PLC0415
        from worker.releases.diff.page import page  # noqa: PLC0415
        from worker.releases.diff.report import ComparedRelease, read_diff  # noqa: PLC0415

        with self.sessions() as session:
            both = [find_release(session, wanted) for wanted in ("active", str(release_id))]
            before, after = (ComparedRelease(one.name, read_ids(session, one.release_id)) for one in both)
        if before.ids.release_id == after.ids.release_id:
            return "it is the active release, so there is nothing to compare"
        found = read_diff(self.sessions, before, after)
        tiles = mover_tiles(self.crops, found.movers)
        sheet = contact_sheet(tiles, f"{found.before} → {found.after}: biggest movers") if tiles else None
        return self._write(page(found, sheet), f"release-{release_id}-job-{job_id}.html")

    def _write(self, content: str, name: str) -> str:
        path = self.reports / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        except OSError as err:
            raise RetryableError(f"{path} cannot be written: {err.strerror}; free space or fix permissions") from err
        return f"the report is {path} on {socket.gethostname()}"

    def switch(self, release_id: int, reason: str) -> str | None:
        """Activate a release if the gate lets it through; return its refusal, or None."""
        from worker.releases.switching import switch_release  # noqa: PLC0415 - see compare

        try:
            switch_release(self.sessions, str(release_id), Switch(reason=reason))
        except GateClosed as err:
            return str(err)
        return None
