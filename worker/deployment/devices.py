"""Assignment of GPUs to the processes of a worker."""

from __future__ import annotations

import torch


def device_of_process(name: str, number: int) -> str:
    """Return the device of a process: GPUs are shared out among a worker's processes.

    Args:
        name: the setting, see ``Settings.device``.
        number: of the process, from 0.

    Returns:
        The setting; where that is ``auto`` and there are several GPUs, one of them for each process in turn.
    """
    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if name == "auto" and count > 1 else name
