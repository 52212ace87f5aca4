"""``/search``: find people by a photo, which is decoded in the confined child and not kept.

The page that answers holds the searched faces itself; no address has them, so nothing is left when it is closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.web.access.guard import POLICY_WITH_PICTURES
from worker.web.access.limits import RateLimit
from worker.web.access.visitor import Role
from worker.web.edits.photo_search import search_photo
from worker.web.forms import file_of
from worker.web.pages.crops import crop_address
from worker.web.rendering import page as rendered
from worker.web.visits import action, page

if TYPE_CHECKING:
    from starlette.responses import Response

    from worker.web.visits import Visit

MAX_PHOTO_BYTES = 32 << 20
UPLOADS = RateLimit(acts=20, seconds=60.0)


def form(visit: Visit) -> Response:
    """Show the form that takes a photo."""
    return rendered(visit, "people/search.html", found=None)


def search(visit: Visit) -> Response:
    """Show the people who resemble the faces of a photo."""
    UPLOADS.count(visit.visitor.session)
    photo = file_of(visit.form, "photo")
    if photo is None:
        raise UsageError("no photo was sent; choose one")
    found = search_photo(visit.desk, photo.file)
    pictures = {face.number: crop_address(face.crop) for face in found}
    response = rendered(visit, "people/search.html", found=found, pictures=pictures)
    response.headers["Content-Security-Policy"] = POLICY_WITH_PICTURES
    return response


ROUTES = [page("/search", form), action("/search", search, Role.READER, max_bytes=MAX_PHOTO_BYTES)]
