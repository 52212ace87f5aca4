"""Pages from templates: everything is escaped, and control characters in names are shown as escapes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from worker.pictures.exports.cells import cell
from worker.visible import counted, visible
from worker.web.access.visitor import Role
from worker.web.forms import local_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from worker.web.visits import Visit

FOLDER = Path(__file__).parent
NAVIGATION = (
    ("/people", "People"),
    ("/same", "Same person?"),
    ("/media", "Videos and images"),
    ("/jobs", "Jobs"),
    ("/releases", "Releases"),
    ("/deployment", "Deployment"),
    ("/ask", "Ask"),
)
"""Areas in the order of the menu; one without a page is left out."""
NOTE = "facet_note"
MAX_NOTE = 3000  # characters of a note in its cookie


@dataclass(frozen=True, slots=True)
class Note:
    """Sentence about what was just done, shown once on the next page, with the way to take it back."""

    text: str
    undo: str | None = None
    """Path of the action that takes it back."""
    fields: Mapping[str, str] | None = None
    """Fields of that action."""


def page(visit: Visit, template: str, *, status: int = 200, **values: Any) -> Response:
    """Render a page for a visitor.

    Args:
        visit: the request.
        template: file below ``templates/``; it extends ``base.html`` and sets the blocks ``title`` and ``main``.
        status: of the response.
        values: of the template.
    """
    note = _read_note(visit)
    context = values | {"visit": visit, "visitor": visit.visitor, "form_token": visit.form_token, "note": note}
    response = HTMLResponse(_render(visit.request, template, context), status)
    if visit.request.cookies.get(NOTE):
        response.delete_cookie(NOTE, path="/", httponly=True, samesite="lax")
    return response


def part(visit: Visit, template: str, block: str, *, status: int = 200, **values: Any) -> Response:
    """Render one block of a page's template, which htmx puts in the place of the old one."""
    context = values | {"visit": visit, "visitor": visit.visitor, "form_token": visit.form_token, "note": None}
    found = ENVIRONMENT.get_template(template)
    inner = found.new_context(_common(visit.request) | context)
    return HTMLResponse("".join(found.blocks[block](inner)), status)


def error_page(request: Request, status: int, message: str) -> Response:
    """Render an error: one sentence, and the way back."""
    title = _TITLES.get(status, "This did not work")
    context = {"title": title, "message": message, "status": status, "note": None}
    return HTMLResponse(_render(request, "error.html", context), status)


def done(visit: Visit, note: Note, *, default: str = "/people") -> Response:
    """Return to the page that a form was on (its field ``back``), which shows the note."""
    back = visit.form.get("back")
    response = RedirectResponse(local_address(back if isinstance(back, str) else None, default), 303)
    data = base64.urlsafe_b64encode(json.dumps(asdict(note)).encode()).decode()
    if len(data) <= MAX_NOTE:
        response.set_cookie(NOTE, f"{data}.{_signature(visit, data)}", max_age=60, httponly=True, samesite="lax")
    return response


_TITLES = {
    400: "Something in this request is wrong",
    401: "Who are you?",
    403: "You may not do this",
    404: "There is no such page",
    409: "This cannot be done now",
    413: "That is too large",
    429: "Too many at once",
    500: "Something went wrong",
    503: "The archive cannot be reached",
}


def with_query(path: str, query: Mapping[str, object], **changes: object) -> str:
    """Return an address with the parameters of a query and some changes; None takes a parameter out."""
    values = {name: value for name, value in (dict(query) | changes).items() if value not in (None, "")}
    return f"{path}?{urlencode(values)}" if values else path


def clock(seconds: float | None) -> str:
    """Return a time in a video as a player shows it: ``0:03``, ``1:02:03``."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float | None) -> str:
    """Return a length of time in words: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def probable(probability: float) -> str:
    """Return a probability in words; none is certain."""
    if probability >= 0.995:
        return "more than 99 % probable"
    return "less than 1 % probable" if probability < 0.005 else f"{100 * probability:.0f} % probable"


def file_name(uri: str) -> str:
    """Return the last part of a path or URL, made visible."""
    return visible(uri.rstrip("/").rpartition("/")[2] or uri)


def visible_text(text: str) -> str:
    """Return a text of several lines with all other control characters as escapes."""
    return "\n".join(map(visible, text.split("\n")))


def person_name(name: str | None, person_id: int) -> str:
    """Return what a person is called on a page: the name, or the number."""
    return visible(name) if name else f"person {person_id}"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (cell, clock, counted, duration, file_name, person_name, probable, visible, visible_text, with_query)
    environment.filters |= {one.__name__: one for one in filters}
    environment.globals["Role"] = Role
    return environment


ENVIRONMENT = _environment()


def _versions() -> dict[str, str]:
    """Return a hash of each static file, which is part of its address: browsers keep it until it changes."""
    files = sorted(path for path in (FOLDER / "static").iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files}


VERSIONS = _versions()


def _common(request: Request) -> dict[str, Any]:
    paths = {getattr(route, "path", "") for route in request.app.routes}
    here = request.url.path
    return {
        "navigation": [(path, title) for path, title in NAVIGATION if path in paths],
        "here": here,
        "address": f"{here}?{request.url.query}" if request.url.query else here,
        "static": lambda name: f"/static/{name}?v={VERSIONS[name]}",
        "visitor": None,
        "form_token": None,
    }


def _render(request: Request, template: str, context: dict[str, Any]) -> str:
    return ENVIRONMENT.get_template(template).render(_common(request) | context)


def _signature(visit: Visit, data: str) -> str:
    key = visit.door.key + visit.visitor.session.encode()
    return hmac.new(key, b"note " + data.encode(), hashlib.sha256).hexdigest()


def _read_note(visit: Visit) -> Note | None:
    data, _, signature = visit.request.cookies.get(NOTE, "").partition(".")
    if not data or not hmac.compare_digest(signature.encode(), _signature(visit, data).encode()):
        return None
    return Note(**json.loads(base64.urlsafe_b64decode(data)))
