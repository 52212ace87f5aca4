"""A report as one file: pictures and style are inside it, so that it opens anywhere and without a network."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from worker.errors import FacetError
from worker.pictures.tiles import CROP_SIZE
from worker.web.pages.crops import crop_address
from worker.web.queries.crops import crop_of_face
from worker.web.rendering import ENVIRONMENT, FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from worker.storage.crops import CropStore
    from worker.web.pages.report.reading import Report
    from worker.web.queries.report.people import Moment

REPORT_STYLES = ("facet.css", "media.css", "report.css")
WEB_ADDRESSES = ("http://", "https://")


def write_report(connection: Connection, report: Report, crops: CropStore) -> str:
    """Return a report as HTML.

    Args:
        connection: of the reader; crops are looked up with it.
        report: what is shown.
        crops: the crop store of the same archive.
    """
    style = "\n".join((FOLDER / "static" / name).read_text(encoding="utf-8") for name in REPORT_STYLES)
    return ENVIRONMENT.get_template("report/file.html").render(
        report=report,
        style=Markup(style),  # noqa: S704 - files of this program
        face=_Pictures(connection, crops).of_face,
        link=link_to_file,
    )


def link_to_file(moment: Moment) -> str | None:
    """Return the address of a moment in its file; None where a browser cannot open the file."""
    second = "" if moment.kind == "image" else f"#t={moment.start_seconds:.2f}"
    if moment.uri.startswith(WEB_ADDRESSES):
        return moment.uri + second
    if not moment.uri.startswith("/") or "!/" in moment.uri:
        return None
    return f"file://{quote(moment.uri.encode('utf-8', 'surrogateescape'))}{second}"


class _Pictures:
    """Crops as data URLs.

    Args:
        connection: of the reader.
        crops: the crop store.
    """

    def __init__(self, connection: Connection, crops: CropStore) -> None:
        self._connection = connection
        self._strip: Callable[[str], NDArray[np.uint8]] = lru_cache(maxsize=8)(partial(crops.read, size=CROP_SIZE))

    def of_face(self, face_id: int | None) -> str | None:
        """Return the crop of a face; None where there is none any more."""
        place = None if face_id is None else crop_of_face(self._connection, face_id)
        if place is None:
            return None
        try:
            return crop_address(self._strip(place.strip)[place.index])
        except FacetError:  # the store lost it, or is not mounted: the report is of use without it
            return None
