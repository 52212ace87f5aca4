"""Device and number format of the models."""

from __future__ import annotations

import torch

from models.errors import ReleaseError


def resolve_device(name: str = "auto") -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device; "auto" is the first GPU where there is one.

    Raises:
        ReleaseError: the device is unknown or missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as err:
        message = f"unknown device {name!r}: use auto, cpu, cuda or cuda:N"
        raise ReleaseError(message) from err
    if device.type == "cuda" and not torch.cuda.is_available():
        message = f"device {name!r} was asked for, but this machine has no working GPU: use auto or cpu"
        raise ReleaseError(message)
    return device


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it faster than float32, else float32.

    A CPU is faster with AMX tiles or AVX-512 bf16 instructions; others emulate bfloat16 and are slower with it. A torch
    without `torch.cpu.get_capabilities` gets float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)
    return torch.bfloat16 if fast else torch.float32
