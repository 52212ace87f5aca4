"""Pictures of faces, from the crop store: ``/faces/ID.jpg`` and ``/appearances/ID.jpg``."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image
from starlette.responses import Response

from worker.errors import FacetError
from worker.pictures.tiles import CROP_SIZE
from worker.storage.crops import CropStore
from worker.web.forms import choice_of
from worker.web.queries.crops import crop_of_appearance, crop_of_face
from worker.web.visits import page

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.web.queries.crops import CropPlace
    from worker.web.visits import Visit

_SIZES = ("56", "112", "224")
ENCODING = "jpeg 88"  # part of the ETag: another encoding gives other bytes
_QUALITY = 88
KEPT_STRIPS = 8  # in memory, 10 MB each at most
_KEEP_SECONDS = 60  # before a browser asks again; short, since an erased face has to go
NO_CROP = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 112 112"><rect width="112" height="112" fill="#8884"/>'
    '<circle cx="56" cy="44" r="18" fill="#8886"/><path d="M20 104a36 36 0 0 1 72 0z" fill="#8886"/></svg>'
)
"""Picture of a face whose crop is gone."""


def face(visit: Visit) -> Response:
    """Return the crop of a face."""
    with visit.desk.reading() as connection:
        place = crop_of_face(connection, visit.number("face_id"))
    return _picture(visit, place)


def appearance(visit: Visit) -> Response:
    """Return the crop of the best face of an appearance."""
    with visit.desk.reading() as connection:
        place = crop_of_appearance(connection, visit.number("appearance_id"))
    return _picture(visit, place)


def _picture(visit: Visit, place: CropPlace | None) -> Response:
    if place is None:
        return _no_picture()
    return crop_picture(visit, place.strip, place.index)


def crop_picture(visit: Visit, strip: str, index: int) -> Response:
    """Return a crop of the store as a picture of the size that a request asks for."""
    size = int(choice_of(visit.request.query_params, "size", _SIZES) or CROP_SIZE)
    tag = hashlib.sha256(f"{strip} {index} {size} {ENCODING}".encode()).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": f"private, max-age={_KEEP_SECONDS}"}
    if f'"{tag}"' in visit.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        crops = _strip(visit.desk.settings.crops, strip)
    except FacetError:  # the store lost it, or is not mounted: the page is of use without it
        return _no_picture()
    return Response(encode_crop(crops[index], size), media_type="image/jpeg", headers=headers)


def _no_picture() -> Response:
    return Response(NO_CROP, 404, media_type="image/svg+xml")


@lru_cache(maxsize=KEPT_STRIPS)
def _strip(url: str, name: str) -> NDArray[np.uint8]:
    return CropStore(url).read(name, CROP_SIZE)


def encode_crop(crop: NDArray[np.uint8], size: int = CROP_SIZE) -> bytes:
    """Return a crop as a JPEG of a size."""
    image = Image.fromarray(crop)
    if size != CROP_SIZE:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()


def crop_address(crop: NDArray[np.uint8]) -> str:
    """Return a crop as an address that holds the picture itself."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode_crop(crop)).decode('ascii')}"


ROUTES = [
    page("/faces/{face_id:int}.jpg", face),
    page("/appearances/{appearance_id:int}.jpg", appearance),
]
