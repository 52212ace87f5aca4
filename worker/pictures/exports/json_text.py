"""JSON of values as a database gives them: strict, and safe to show on a terminal."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal

from worker.visible import visible_json

NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""How PostgreSQL's own JSON writes numbers that JSON does not know."""


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return the JSON of a value; text stays readable, and control characters are escaped."""
    document = json.dumps(json_value(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return visible_json(document)


def json_value(value: object) -> object:
    """Return a value as JSON knows it: times in ISO 8601, arrays as lists, numbers that JSON lacks as strings."""
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, float | Decimal):
        return NOT_FINITE.get(str(float(value))) or number(value)
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    for method in ("to_list", "tolist"):  # a vector of pgvector, an array of numpy
        if hasattr(value, method):
            return json_value(getattr(value, method)())
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def number(value: float | Decimal) -> int | float:
    """Return a number as a float, or whole where it is an exact decimal without a fraction."""
    whole = isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value()
    return int(value) if whole else float(value)
