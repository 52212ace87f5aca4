"""Reads and writes weights: safetensors only, and no byte is used before its SHA-256 is checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import safetensors.torch
from safetensors import SafetensorError

from models.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def check_sha256(data: bytes, expected: str, name: str) -> None:
    """Refuse bytes whose SHA-256 is not the expected one.

    Raises:
        WeightsError: the hashes differ.
    """
    found = sha256_of(data)
    if found != expected:
        message = f"{name} has SHA-256 {found}, expected {expected}: it is damaged or another file; fetch it again"
        raise WeightsError(message)


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file into memory once, so that the checked bytes are the used ones.

    Args:
        path: the file.
        sha256: expected hash; None reads the file unchecked, as a conversion or a test may.

    Raises:
        WeightsError: the file is missing, is no safetensors file or is another one than ``sha256`` names.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        message = f"{path} cannot be read ({err.strerror}): restore the release folder"
        raise WeightsError(message) from err
    if sha256 is not None:
        check_sha256(data, sha256, str(path))
    try:
        return safetensors.torch.load(data)
    except SafetensorError as err:
        message = f"{path} is no safetensors file ({err}): restore the release folder"
        raise WeightsError(message) from err


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, the same bytes for the same tensors, and return their SHA-256."""
    data = safetensors.torch.save({name: tensors[name].contiguous() for name in sorted(tensors)})
    path.write_bytes(data)
    return sha256_of(data)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load weights into a module, converted to its precision; the names must match exactly.

    Raises:
        WeightsError: a tensor is missing, unknown or of another shape.
    """
    wanted = module.state_dict()
    for problem, names in (("lacks", wanted.keys() - tensors.keys()), ("has unknown", tensors.keys() - wanted.keys())):
        if names:
            message = f"{name} {problem} {', '.join(sorted(names))}: these weights are for another model"
            raise WeightsError(message)
    for key, slot in wanted.items():
        if slot.shape != tensors[key].shape:
            message = f"{name}: {key} has shape {tuple(tensors[key].shape)}, expected {tuple(slot.shape)}"
            raise WeightsError(message)
    module.load_state_dict(dict(tensors))
