"""Reads result files: which service wrote them, and what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from worker.errors import UsageError
from worker.releases.foreign import azure, google, rekognition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.releases.foreign.results import ForeignResults, Service

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 512 * 1024 * 1024  # of a file, which is held in memory; a response of a service is far smaller
KEYS: dict[Service, tuple[str, ...]] = {
    "rekognition": ("FaceDetails", "Faces", "Persons"),
    "google": ("annotationResults", "annotation_results", "response"),
    "azure": ("videos",),
}
"""A file is a service's by one of these keys."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    raw: bytes
    content: dict[str, Any]


def read_results(paths: Sequence[Path], service: Service | None = None) -> ForeignResults:
    """Read the files that one service wrote about one image or video.

    Args:
        paths: of the files; several for the pages of one response.
        service: that wrote them; None finds it out.

    Raises:
        UsageError: a file cannot be read, is of another service, or does not have the documented shape.
    """
    files = [_read(path) for path in paths]
    services = {service or _service_of(file) for file in files}
    if len(services) != 1:
        raise UsageError(f"the files are of {', '.join(sorted(services))}, expected one service; import them apart")
    found = services.pop()
    if found == "rekognition":
        return rekognition.convert_rekognition([_parse(rekognition.ResponsePage, file) for file in files])
    if found == "google":
        return google.convert_google([_response(file) for file in files])
    return azure.convert_azure([_parse(azure.Index, file) for file in files])


def _read(path: Path) -> _File:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes, expected a response of a service; split it")
        raw = path.read_bytes()
    except OSError as err:
        raise UsageError(f"{path} cannot be read ({err.strerror}); name a file that you may read") from err
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path} is no JSON ({err}); name a file that a service wrote") from err
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} holds a {type(content).__name__}, expected an object; name a file that a service wrote"
        )
    return _File(path, raw, content)


def _service_of(file: _File) -> Service:
    found = [service for service, keys in KEYS.items() if any(key in file.content for key in keys)]
    if len(found) != 1:
        expected = ", ".join(f"{'/'.join(keys)} ({service})" for service, keys in KEYS.items())
        raise UsageError(
            f"{file.path} has the keys {', '.join(sorted(file.content)[:8]) or 'none'}, expected one of {expected}; "
            "name a file that a service wrote"
        )
    return found[0]


def _response(file: _File) -> google.Response:
    if "response" in file.content:
        return _parse(google.Operation, file).response
    return _parse(google.Response, file)


def _parse(model: type[Model], file: _File) -> Model:
    try:
        return model.model_validate_json(file.raw)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", found {str(first['input'])[:60]!r}"
        raise UsageError(
            f"{file.path}: {place}: {first['msg']}{found}; expected the documented response of the service, unchanged"
        ) from err
