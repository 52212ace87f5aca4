"""An archive: the database with what was found in its files, and their crops."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from facet.faces import expanded, pixels_of
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from models.release import Release
    from worker.analysis.pipeline import Totals
    from worker.config import Settings
    from worker.identity.search.searcher import Searcher, SearchResult
    from worker.ledger.status.summary import Summary
    from worker.storage.database import Database

ADDRESSES = ("postgresql:", "postgres:", "postgresql+psycopg:")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedFace:
    """A face of a photo, with those of the archive that are most like it."""

    box: NDArray[np.float32]
    """(4,) x1, y1, x2, y2 in pixels of the photo."""
    crop: NDArray[np.uint8]
    """(S, S, 3) RGB, aligned."""
    result: SearchResult
    """The people and appearances that are most like it, each with the probability to be the same person."""


class Archive:
    """An open archive. Use `facet.open`, in a ``with`` statement or with `close`.

    Args:
        settings: of the deployment.
    """

    def __init__(self, settings: Settings) -> None:
        from worker.storage.database import open_database  # noqa: PLC0415 - `import facet` stays light
        from worker.storage.home import make_home  # noqa: PLC0415 - `import facet` stays light

        self._settings = settings
        self._embedder: Release | None = None
        make_home(settings.home)
        with ExitStack() as opened:
            self._database: Database = opened.enter_context(open_database(settings))
            self._opened = opened.pop_all()

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float = 300.0,
    ) -> pa.Table:
        """Run one read-only query over the views (docs/sql.md).

        Args:
            query: a SELECT; ``%s`` or ``%(name)s`` stand for parameters, and then ``%%`` for a percent sign.
            parameters: the values.
            timeout_seconds: longest time.

        Returns:
            The rows as an Arrow table: ``.to_pandas()``, ``.to_pylist()``, or ``polars.from_arrow(table)``. Columns of
            one name are numbered.

        Raises:
            QueryError: the query is refused, wrong or too slow.
            RetryableError: the database cannot be reached.
        """
        from db.reader.run_query import run_query  # noqa: PLC0415 - `import facet` stays light
        from worker.pictures.exports.row_formats import arrow_table  # noqa: PLC0415 - loads pyarrow

        with run_query(self._reader_url, query, parameters=parameters, timeout_seconds=timeout_seconds) as result:
            return arrow_table(result)

    def analyze(
        self,
        *paths: str | Path,
        frames_per_second: float | None = 2.0,
        name: str | None = None,
        show: Callable[[Totals], None] = lambda _: None,
    ) -> Summary:
        """Find, describe and identify every face in media files, in this process. What is known is not analysed again.

        Args:
            paths: files, folders, archives, quoted globs, or URLs of these.
            frames_per_second: that are analysed of a video; None for every frame.
            name: of the job; None for that of the first path.
            show: called from time to time with the frames, faces and units so far.

        Returns:
            The counts of the job, with what could not be analysed and why.

        Raises:
            UsageError: a path names nothing, or another analysis works in this home.
            FacetError: the release cannot be loaded, or the database failed; what is done stays done.
        """
        from worker.deployment.local import make_worker, submit_files, work_on  # noqa: PLC0415 - loads torch
        from worker.ingest import check_arguments  # noqa: PLC0415 - `import facet` stays light
        from worker.ledger.status.summary import summarise_job  # noqa: PLC0415 - loads SQLAlchemy
        from worker.ledger.submission.job import Submission  # noqa: PLC0415 - loads SQLAlchemy
        from worker.storage.home import hold_home  # noqa: PLC0415 - `import facet` stays light
        from worker.visible import path_text  # noqa: PLC0415 - `import facet` stays light

        config, database, never = self._settings, self._database, threading.Event()
        places = [path if isinstance(path, str) and "://" in path else expanded(path) for path in paths]
        if not places:
            raise UsageError("no path was given, expected at least one file, folder or URL")
        check_arguments(places, config.media_roots)
        with hold_home(config.home):
            worker = make_worker(config, database)
            submission = Submission(
                name=name or path_text(Path(places[0]).name or places[0]),
                release=worker.ids,
                frames_per_second=frames_per_second,
                unit_seconds=config.unit_seconds,
            )
            counts = submit_files(config, database, places, submission, lambda _counts: None, never.is_set)
            work_on(worker, database, counts.job_id, never, show)
            worker.identifier.finish()
        with database.sessions.begin() as session:
            return summarise_job(session, counts.job_id)

    def search(
        self,
        image: str | Path | NDArray[np.uint8],
        *,
        limit: int = 10,
        where: str | None = None,
        prior: float | None = None,
    ) -> tuple[MatchedFace, ...]:
        """Find the people and appearances that are most like each face of a photo.

        Args:
            image: its path, or (H, W, 3) uint8 RGB pixels, upright.
            limit: largest number of people, and of appearances.
            where: SQL condition over the columns of the views ``appearances`` and ``media``.
            prior: probability, before the search, that a given person of the archive is the one searched for; None for
                one divided by their number, at most 0.01.

        Returns:
            A value for each face that can be compared, the largest first.

        Raises:
            UsageError: it is no image, or the condition is wrong.
            FacetError: it cannot be decoded, has no face to compare, or nothing was analysed yet.
        """
        from worker.identity.search.photo import find_faces  # noqa: PLC0415 - loads torch
        from worker.identity.search.searcher import Searcher, SearchOptions  # noqa: PLC0415 - `import facet` stays light

        searcher = Searcher(self._reader_url)
        options = SearchOptions(limit=limit, where=where, prior=prior)
        faces = find_faces(pixels_of(image), self._load_embedder(searcher), self._settings.max_tiles)
        return tuple(
            MatchedFace(box=face.box, crop=face.crop, result=searcher.search(face.probe, options)) for face in faces
        )

    def close(self) -> None:
        """Leave the database; harmless when repeated."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _reader_url(self) -> str:
        return self._settings.reader_database_url or self._database.url

    def _load_embedder(self, searcher: Searcher) -> Release:
        """Return the model that made the archive's embeddings; it is loaded once."""
        from models.manifest import TRUNK_FILE  # noqa: PLC0415 - loads torch
        from worker.releases.folders import ReleaseFolders  # noqa: PLC0415 - loads torch

        trunk = searcher.trunk_sha256()
        if self._embedder is None or self._embedder.manifest.files[TRUNK_FILE] != trunk:
            self._embedder = ReleaseFolders(self._settings, self._database.sessions).load_embedder(trunk)
        return self._embedder


def open(place: str | Path | None = None) -> Archive:  # noqa: A001 - read as facet.open
    """Open an archive.

    Args:
        place: the home folder of an embedded database, made when missing; or the address of a PostgreSQL,
            ``postgresql://user:password@host/name``. None for what the environment says (``FACET_HOME``,
            ``FACET_DATABASE_URL``). Other settings are taken from the environment; crops and releases of a home folder
            lie below it.

    Raises:
        FacetError: the folder or the database cannot be used; the message says what to do.
    """
    from worker.config import settings  # noqa: PLC0415 - `import facet` stays light

    config = settings()
    if place is not None and str(place).startswith(ADDRESSES):
        config = config.model_copy(update={"database_url": str(place), "reader_database_url": None})
    elif place is not None:
        elsewhere = dict.fromkeys(("database_url", "reader_database_url", "crops_url", "releases_url"))
        config = config.model_copy(update={"home": Path(expanded(place)), **elsewhere})
    return Archive(config)
