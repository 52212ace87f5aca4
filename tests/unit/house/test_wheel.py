"""An installed Facet has every file that a checkout has: migrations, SQL and the shipped release too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("worker", "models", "training", "db")
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


def tracked(*places: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--", *places]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a build leaves folders behind, which belong in no checkout
    for name in tracked(*PACKAGES, *BUILD_FILES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        installed = {name for name in content.namelist() if ".dist-info/" not in name}
    assert installed == set(tracked(*PACKAGES))
