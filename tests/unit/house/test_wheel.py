"""An installed Facet has every file that a checkout has, below `facet`, and puts no other name into site-packages."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {"facet": ("worker", "models", "db"), "facet-train": ("training",)}
PACKAGES = tuple(package for packages in PROGRAMS.values() for package in packages)
BUILD_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")


def tracked(*places: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--", *places]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves folders behind, which belong in no checkout
    for name in tracked("facet", *PACKAGES, *BUILD_FILES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", folder, source], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a function that runs a program of an environment where Facet is installed from the wheel."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    # A folder that a .pth file names has no .pth files obeyed: an editable installation is out of sight.
    (packages / "libraries.pth").write_text(str(Path(importlib.util.find_spec("torch").origin).parents[1]))
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", wheel], check=True)

    def run(program, *arguments, **environment):
        done = subprocess.run(
            [place / "bin" / program, *arguments],
            env={"PATH": os.environ["PATH"]} | environment,
            cwd=place,
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_every_file_of_the_packages_below_facet(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
        (top,) = (content.read(name).decode() for name in content.namelist() if name.endswith("top_level.txt"))
    below = {f"facet/{name}" for name in tracked(*PACKAGES)}
    assert names == below | set(tracked("facet"))
    assert top == "facet\n"


def test_modules_of_the_wheel_import_each_other_below_facet(wheel):
    own = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(PACKAGES)})\b.*", re.MULTILINE)
    with zipfile.ZipFile(wheel) as content:
        sources = {name: content.read(name).decode() for name in content.namelist() if name.endswith(".py")}
    assert {name: own.findall(source) for name, source in sources.items() if own.search(source)} == {}
    assert "from facet.db.engine import" in sources["facet/worker/storage/database.py"]


def test_no_module_names_another_one_in_a_string():
    # The build rewrites imports alone; `SomeClass.__module__` is right everywhere.
    named = re.compile(rf"""["'](?:{"|".join(PACKAGES)})(?:\.[a-z_]+)+(?::\w+)?["']""")
    found = {name: named.findall((ROOT / name).read_text()) for name in tracked(*PACKAGES) if name.endswith(".py")}
    assert {name: strings for name, strings in found.items() if strings} == {}


@pytest.mark.slow
def test_an_installation_has_no_package_of_a_common_name(installed):
    lines = [f"importlib.util.find_spec({name!r}) is None" for name in PACKAGES]
    program = f"import facet, importlib.util; print({', '.join(lines)}, facet.__file__)"
    *absent, path = installed("python", "-c", program).split()
    assert absent == ["True"] * len(PACKAGES)
    assert "site-packages" in path
    assert "facet-train" in installed("facet-train", "--help")


@pytest.mark.slow
def test_an_installation_analyses_a_photo(installed, tmp_path):
    from skimage import data

    from worker.pictures.sheets import write_image

    write_image(np.ascontiguousarray(data.astronaut()), tmp_path / "photo.png")
    home = {"FACET_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "FACET_DATABASE_KEEP_SECONDS": "0"}
    installed("facet", "analyze", tmp_path / "photo.png", **home)
    printed = installed("facet", "sql", "SELECT count(*) AS faces FROM faces", "--format", "csv", **home)
    assert printed.splitlines() == ["faces", "1"]


@pytest.mark.slow
def test_an_unpacked_wheel_decodes(wheel, tmp_path):
    """As `pip install --target` leaves it: found by PYTHONPATH, which the child of the decoder does not inherit."""
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path)
    program = (
        "from facet.worker.analysis.runner import decode_limits; from facet.worker.config import Settings\n"
        "from facet.worker.decode.client import Decoder\n"
        "with Decoder(decode_limits(Settings())) as decoder: print(decoder.protections())"
    )
    command = [sys.executable, "-P", "-c", program]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "FACET_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, cwd="/", check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_module_of_an_installation_can_be_imported(installed, program):
    files = tracked(*PROGRAMS[program])
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files
             if name.endswith(".py") and not name.endswith("__main__.py") and "/migrations/" not in name]  # fmt: skip
    imports = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module('facet.' + name)"
    installed("python", "-c", imports, *names)
