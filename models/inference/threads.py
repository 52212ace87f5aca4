"""Environment of the threads that models compute with. Imports no library: it takes effect before torch is loaded."""

from __future__ import annotations

import os


def set_wait_policy() -> None:
    """Make idle OpenMP threads sleep instead of spin, unless OMP_WAIT_POLICY is set.

    Decoding and reading need their cores: spinning made decoding four times slower on two busy cores. OpenMP reads the
    variable when torch is loaded, so every program calls this first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
