"""Metadata of a file in one form, whatever the notation it was written in: times, places and text."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from worker.decode.wire import MAX_TEXT_CHARACTERS
from worker.types import MediaTags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# EXIF, IPTC and ISO 8601 write the same time with different signs; fractions of a second are left out.
_TIME = re.compile(
    r"\s*(\d{4})[-:]?(\d\d)[-:]?(\d\d)(?:[T\s]+(\d\d):?(\d\d)(?::?(\d\d))?(?:[.,]\d+)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?\s*"
)
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)?")
_ISO_6709 = re.compile(r"([+-]\d+(?:\.\d+)?)([+-]\d+(?:\.\d+)?)")
MIN_YEAR = 1800  # of photography; clocks that were never set state years before it, or the first day of an epoch
EPOCHS = frozenset({"1904-01-01", "1970-01-01"})


def parse_time(written: str | None, zone: str | None = None) -> tuple[str, str | None] | None:
    """Return a time as ISO 8601 without a zone, and its zone such as +02:00, None where that is not stated.

    Args:
        written: as EXIF, XMP, IPTC or a container has it.
        zone: stated beside it.
    """
    found = _TIME.fullmatch(written or "")
    if found is None:
        return None
    numbers = [int(group or 0) for group in found.groups()[:6]]
    try:
        time = datetime(*numbers)  # type: ignore[arg-type] # noqa: DTZ001 - the clock of a camera has no zone
    except ValueError:
        return None
    iso = time.isoformat()
    if time.year < MIN_YEAR or iso[:10] in EPOCHS:
        return None
    return iso, _zone(found[7] or zone)


def _zone(written: str | None) -> str | None:
    if written in {"Z", "UTC"}:
        return "+00:00"
    found = _ZONE.fullmatch((written or "").strip())
    return f"{found[1]}{found[2]}:{found[3] or '00'}" if found else None


def parse_iso_6709(written: str | None) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees of a place such as ``+48.8577+002.2950/``."""
    found = _ISO_6709.match((written or "").strip())
    return checked_place(float(found[1]), float(found[2])) if found else None


def checked_place(latitude: float, longitude: float) -> tuple[float, float] | None:
    """Return a place on Earth; None for another, and for the zeros of a receiver without reception."""
    is_one = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)
    return (latitude, longitude) if is_one else None


def camera_name(make: str | None, model: str | None) -> str | None:
    """Return the name of a camera; most models begin with their maker."""
    make, model = (make or "").strip(), (model or "").strip()
    if make and model.lower().startswith(make.lower()):
        return model
    return f"{make} {model}".strip() or None


def merge_tags(found: Iterable[MediaTags]) -> MediaTags:
    """Return each value from the first of several sources that states it, shortened to what the wire carries."""
    sources = list(found)
    timed = next((one for one in sources if one.taken_at), MediaTags())
    placed = next((one for one in sources if one.latitude is not None), MediaTags())
    keywords: tuple[str, ...] = next((one.keywords for one in sources if one.keywords), ())
    return MediaTags(
        taken_at=timed.taken_at,
        utc_offset=timed.utc_offset,
        latitude=placed.latitude,
        longitude=placed.longitude,
        camera=_first([one.camera for one in sources]),
        title=_first([one.title for one in sources]),
        description=_first([one.description for one in sources]),
        creator=_first([one.creator for one in sources]),
        copyright=_first([one.copyright for one in sources]),
        keywords=tuple(word[:MAX_TEXT_CHARACTERS] for word in keywords),
    )


def _first(values: Sequence[str | None]) -> str | None:
    return next((value.strip()[:MAX_TEXT_CHARACTERS] for value in values if value and value.strip()), None)
