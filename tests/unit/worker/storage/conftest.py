"""A small release that can be copied, checked and damaged, but not loaded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from models import manifest as manifests
from models.branches import BranchSpec
from models.manifest import DETECTOR_FILE, TRUNK_FILE, Manifest, branch_file
from models.weights import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GENDER = BranchSpec(task="gender", kind="softmax", labels=("female", "male"), depths=("embedding",))
SIZES = {DETECTOR_FILE: 2003, TRUNK_FILE: 70001, branch_file("gender"): 307}


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a release folder: other seeds have other weights."""

    def make(seed: int = 1, name: str = "made") -> Path:
        folder = tmp_path / f"made-{seed}-{name}"
        folder.mkdir()
        rng = random.Random(seed)
        for file, size in SIZES.items():
            (folder / file).write_bytes(rng.randbytes(size))
        hashes = {file: sha256_of((folder / file).read_bytes()) for file in SIZES}
        manifest = Manifest(name=name, branches=(GENDER,)).with_files(hashes)
        (folder / manifests.FILE).write_text(manifest.to_json())
        return folder

    return make
