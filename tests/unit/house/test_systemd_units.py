"""systemd understands its units; they start commands of the program, and leave decode children their confinement."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
DROP_IN = FOLDER / "facet-worker@gpu.service.d" / "nvidia.conf"
INSTALLED = "/opt/facet/bin/facet"
MAX_EXPOSURE = 30  # tenths; an unconfined service has 96
EXAMPLE = (FOLDER / "facet.env.example").read_text()


def settings_of(path: Path) -> dict[str, list[str]]:
    """Return all values of each setting of a unit."""
    found = defaultdict(list)
    for name, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found[name].append(value)
    return found


def example_settings() -> dict[str, str]:
    """Return the variables of the example, those in comments included."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


def environment_of(path: Path) -> dict[str, str]:
    words = [word for line in settings_of(path)["Environment"] for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture
def unit_folder(tmp_path: Path) -> Path:
    """Return a copy of the units that start this installation, since systemd looks for the program."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    shutil.copytree(FOLDER, tmp_path / "units")
    for unit in (tmp_path / "units").glob("*.service"):
        unit.write_text(unit.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("facet"))))
    return tmp_path / "units"


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--man=no", *words],
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin"},
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def instances(folder: Path) -> list[str]:
    """Return the units as they are started: a worker with and without a drop-in."""
    names = {unit.name for unit in folder.glob("*.service")}
    return sorted(names - {"facet-worker@.service"} | {"facet-worker@cpu.service", "facet-worker@gpu.service"})


def test_systemd_understands_every_line(unit_folder: Path) -> None:
    done = analyze(unit_folder, "verify", *(str(unit_folder / name) for name in instances(unit_folder)))
    said = [line for line in done.stderr.splitlines() if str(unit_folder) in line or "facet" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_a_wrong_line_is_noticed(unit_folder: Path) -> None:
    unit = unit_folder / "facet-beat.service"
    unit.write_text(unit.read_text().replace("RestrictRealtime=yes", "RestrictRealtme=yes"))
    assert "RestrictRealtme" in analyze(unit_folder, "verify", str(unit)).stderr


def test_services_are_confined(unit_folder: Path) -> None:
    for unit in UNITS:
        done = analyze(
            unit_folder, "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(unit_folder / unit.name)
        )
        assert done.returncode == 0, f"{unit.name}: {done.stdout[-300:]}{done.stderr}"


@pytest.mark.parametrize("path", [*UNITS, DROP_IN], ids=lambda path: path.name)
def test_units_start_commands_of_the_program(path: Path, parse_command: Callable[[list[str]], None]) -> None:
    unit = FOLDER / "facet-worker@.service" if path == DROP_IN else path
    (line,) = settings_of(unit)["ExecStart"]
    options = [environment_of(path).get("WORKER_OPTIONS", ""), example_settings()["WORKER_OPTIONS"]]
    for chosen in options if "$WORKER_OPTIONS" in line else [""]:
        words = line.replace("$WORKER_OPTIONS", chosen).split()
        assert words[0] == INSTALLED
        assert not any("$" in word for word in words)
        parse_command(words)


def test_settings_are_settings_of_the_program() -> None:
    from worker.config import Settings

    known = {f"FACET_{name.upper()}" for name in Settings.model_fields} | {"WORKER_OPTIONS"}
    used = set(example_settings()).union(*(environment_of(path) for path in (*UNITS, DROP_IN)))
    assert len(used) > 8
    assert used <= known


def test_the_example_logs_in_as_the_page_of_access_demands() -> None:
    users = {name: re.search(r"//(\w*):", url)[1] for name, url in example_settings().items() if "@" in url}
    assert users == {
        "FACET_DATABASE_URL": "facet_work",
        "FACET_READER_DATABASE_URL": "facet_read",
        "FACET_BROKER_URL": "",
    }


FILTERED = """
import ctypes, json, os, sys
from worker.decode.client import Decoder
from worker.types import DecodeLimits
allowed, namespaces = json.loads(sys.argv[1]), json.loads(sys.argv[2])
ALLOW, REFUSE, MASKED_EQUAL = 0x7FFF0000, 0x00050000, 7
class Compare(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("how", ctypes.c_int),
                ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64)]
libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
libc.prctl(38, 1, 0, 0, 0)  # as NoNewPrivileges
header = (ctypes.c_uint * 2)(0x20080522, 0)
assert libc.capset(header, bytes(24)) == 0  # as CapabilityBoundingSet
if allowed:
    context = ctypes.c_void_p(seccomp.seccomp_init(REFUSE | 1))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0 or name == "clone3":
            continue
        if name == "unshare":
            unasked = Compare(0, MASKED_EQUAL, namespaces, 0)
            assert seccomp.seccomp_rule_add_array(context, ALLOW, number, 1, ctypes.byref(unasked)) == 0
        else:
            assert seccomp.seccomp_rule_add_array(context, ALLOW, number, 0, None) == 0
    clone3 = seccomp.seccomp_syscall_resolve_name(b"clone3")
    assert seccomp.seccomp_rule_add_array(context, REFUSE | 38, clone3, 0, None) == 0
    assert seccomp.seccomp_load(context) == 0
with Decoder(DecodeLimits()) as decoder:
    print(json.dumps(sorted(decoder.protections())))
"""
NAMESPACES = {"cgroup": 0x02000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": 0x00020000,
              "pid": 0x20000000, "user": 0x10000000, "uts": 0x04000000}  # fmt: skip


def named_calls(words: str) -> list[str]:
    """Return the system calls of a filter, its sets resolved by systemd."""
    found = []
    for word in words.split():
        if word.startswith("@"):
            listing = subprocess.run(
                ["systemd-analyze", "syscall-filter", word], check=True, capture_output=True, text=True
            ).stdout
            lines = [line.strip() for line in listing.splitlines()[1:]]
            found += named_calls(" ".join(line for line in lines if line and not line.startswith("#")))
        else:
            found.append(word)
    return found


def protections(allowed: list[str], refused_namespaces: int) -> list[str]:
    words = [json.dumps(allowed), json.dumps(refused_namespaces)]
    done = subprocess.run(
        [sys.executable, "-c", FILTERED, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    if "libseccomp.so.2" in done.stderr:
        pytest.skip("this machine has no libseccomp")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_decode_children_are_as_confined_under_the_unit_as_without(unit_folder: Path) -> None:
    """The unit's filter of calls and namespaces, held by the kernel, takes no protection from a decode child."""
    from worker.decode.child.confine import LANDLOCK, NETWORK, PROTECTIONS

    settings = settings_of(FOLDER / "facet-worker@.service")
    (calls,), (namespaces,) = settings["SystemCallFilter"], settings["RestrictNamespaces"]
    refused = sum(flag for name, flag in NAMESPACES.items() if name not in namespaces.split())
    free = protections([], 0)
    assert protections(named_calls(f"@default {calls}"), refused) == free
    assert set(free) <= set(PROTECTIONS)
    if NETWORK in free:
        assert NETWORK not in protections(named_calls(f"@default {calls}"), sum(NAMESPACES.values()))
    if LANDLOCK in free:
        assert LANDLOCK not in protections(named_calls("@default @system-service"), refused)
