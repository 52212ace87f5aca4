"""Values and names of columns as short text for people: in tables of the terminal and of pages."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from worker.pictures.exports.json_text import json_value, to_json

MAX_LISTED = 4  # numbers of a list that are shown one by one: a box has four


def cell(value: object) -> str:
    """Return a value's text: short for numbers and vectors, times in UTC, empty for NULL."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:g}"
    if isinstance(value, datetime):
        zone = "" if value.tzinfo is None else " UTC"
        return (value.astimezone(UTC) if zone else value).strftime("%Y-%m-%d %H:%M:%S") + zone
    plain = value if isinstance(value, Decimal | str) else json_value(value)
    if isinstance(plain, list) and len(plain) > MAX_LISTED and all(isinstance(one, int | float) for one in plain):
        return f"[{len(plain)}]"
    if isinstance(plain, list) and all(isinstance(one, int | float) for one in plain):
        return f"[{', '.join(cell(one) for one in plain)}]"
    return to_json(plain) if isinstance(plain, dict | list) else str(value)


def heading(name: str) -> str:
    """Return a field's name as a short heading: ``person_id`` is ``person``, ``start_seconds`` is ``start s``."""
    if name.endswith("_count"):
        noun = name.removesuffix("_count")
        return noun if noun == "media" else f"{noun}s"
    for ending, short in (("_id", ""), ("_seconds", " s"), ("_at", "")):
        if name.endswith(ending):
            name = name.removesuffix(ending) + short
    return name.replace("_", " ")
