"""The bytes of a file in ranges, one frame as a picture, and the boxes of a stretch of time."""

from __future__ import annotations

import hashlib
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from worker.errors import MediaError, UsageError
from worker.visible import visible
from worker.web.forms import choice_of, decimal_of
from worker.web.pages.media.opening import find_source, open_submitted, sources_of
from worker.web.pages.media.ranges import ByteRange, OpenedBytes, RangeNotSatisfiable, read_range
from worker.web.pages.media.stills import STILLS, StillRequest
from worker.web.queries.media import read_facts, read_seen
from worker.web.queries.tracks import FrameSize, read_dropped, read_tracks
from worker.web.visits import page

if TYPE_CHECKING:
    from worker.web.queries.media import MediaFacts
    from worker.web.queries.tracks import BoxTrack, DroppedFace, FaceBox
    from worker.web.visits import Visit

MEDIA_TYPES = {
    "avif": "image/avif", "bmp": "image/bmp", "gif": "image/gif", "jpeg": "image/jpeg", "png": "image/png",
    "webp": "image/webp",
    "matroska": "video/x-matroska", "mov": "video/quicktime", "mp4": "video/mp4", "ogg": "video/ogg",
    "webm": "video/webm",
}  # fmt: skip
"""Of formats that browsers show; all others are sent as bytes. None of them can hold a script."""
BYTES = "application/octet-stream"
SIDES = ("480", "960", "1920")
"""Pixels of the longer side of a picture."""
_KEEP_SECONDS = 60  # before a browser asks again; short, since an erased file has to go
MAX_SPAN_SECONDS = 600.0  # of one answer with boxes
NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" font-family="sans-serif" font-size="16" '
    'text-anchor="middle" fill="#eee"><rect width="640" height="360" fill="#333"/>{}</svg>'
)
LINE_CHARACTERS, MAX_LINES = 64, 6  # of a reason in place of a picture


def content(visit: Visit) -> Response:
    """Return the bytes of a file, or a range of them."""
    source = find_source(visit)
    opened = open_submitted(sources_of(visit), source)
    body = OpenedBytes(opened.descriptor, ByteRange(0, opened.size))  # from here on the file is closed in any case
    tag = f'"{source.sha256[:32]}-{opened.size:x}-{opened.changed_ns:x}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    asked = visit.request.headers
    if tag in asked.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        wanted = asked.get("range") if asked.get("if-range", tag) == tag else None
        part = read_range(wanted, opened.size)
    except RangeNotSatisfiable:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{opened.size}"})
    whole = ByteRange(0, opened.size)
    headers |= {"Content-Length": str((part or whole).length), "Content-Security-Policy": "default-src 'none'; sandbox"}
    if part is not None:
        headers["Content-Range"] = part.header(opened.size)
    status, kind = 200 if part is None else 206, MEDIA_TYPES.get(source.format or "", BYTES)
    if visit.request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=kind)
    body.narrow(part or whole)
    return StreamingResponse(body, status, headers, kind)


def frame(visit: Visit) -> Response:
    """Return one frame as a picture."""
    query = visit.request.query_params
    source = find_source(visit)
    wanted = StillRequest(
        source=source,
        at_seconds=decimal_of(query, "at") or 0.0,
        max_side=int(choice_of(query, "side", SIDES) or SIDES[1]),
    )
    tag = f'"{hashlib.sha256(repr(wanted.key).encode()).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={_KEEP_SECONDS}"}
    if tag in visit.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        still = STILLS.read(wanted, sources_of(visit), visit.desk.settings)
    except MediaError as err:
        return _no_picture(str(err))
    headers["X-At-Seconds"] = f"{still.at_seconds:.6f}"
    return Response(still.data, media_type="image/jpeg", headers=headers)


def boxes(visit: Visit) -> Response:
    """Return the boxes of a stretch of time, for the player: appearances with their faces, and dropped faces."""
    query = visit.request.query_params
    start = decimal_of(query, "from") or 0.0
    end = decimal_of(query, "to", least=start) or start
    if end - start > MAX_SPAN_SECONDS:
        raise UsageError(f"to is {end:g}, expected at most {MAX_SPAN_SECONDS:g} s behind from; ask for less at once")
    media_id = visit.number("media_id")
    with visit.desk.reading() as connection:
        facts = read_facts(connection, media_id)
        if facts is None:
            raise HTTPException(404)
        size = frame_size(facts)
        tracks = read_tracks(connection, read_seen(connection, media_id), size, start, end)
        dropped = read_dropped(connection, media_id, size, start, end)
    return JSONResponse(
        {
            "from": start,
            "to": end,
            "tracks": [_track(one) for one in tracks],
            "dropped": [_drop(one) for one in dropped],
        }
    )


def frame_size(facts: MediaFacts) -> FrameSize:
    """Return the size of the first frame of a file."""
    return FrameSize(facts.width or 1, facts.height or 1)


def _track(track: BoxTrack) -> dict[str, object]:
    seen = track.appearance
    return {
        "appearance": seen.appearance_id,
        "person": seen.person_id,
        "label": seen.label,
        "facts": seen.facts,
        "at": [round(at, 4) for at in track.at_seconds],
        "boxes": [_rounded(box) for box in track.boxes],
    }


def _drop(face: DroppedFace) -> dict[str, object]:
    return {
        "reason": face.reason,
        "at": round(face.at_seconds, 4),
        "until": round(face.until_seconds, 4),
        "box": _rounded(face.box),
    }


def _rounded(box: FaceBox) -> list[float]:
    return [round(edge, 1) for edge in box]


def _no_picture(reason: str) -> Response:
    lines = wrap(visible(reason), LINE_CHARACTERS)[:MAX_LINES]
    top = 185 - 12 * (len(lines) - 1)
    words = "".join(f'<text x="320" y="{top + 24 * n}">{escape(line)}</text>' for n, line in enumerate(lines))
    return Response(NO_PICTURE.format(words), 404, media_type="image/svg+xml")


ROUTES = [
    page("/media/{media_id:int}/bytes", content),
    page("/media/{media_id:int}/frame", frame),
    page("/media/{media_id:int}/boxes.json", boxes),
]
