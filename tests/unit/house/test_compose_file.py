"""docker-compose.yml follows the specification and says only what the program understands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def facet_commands() -> list[list[str]]:
    """Return every command of the file that calls facet, from services and health checks."""
    lines = [service.get("command", []) for service in SERVICES.values()]
    lines += [service["healthcheck"]["test"][1:] for service in SERVICES.values()]
    return [line for line in lines if line[:1] == ["facet"]]


def test_it_follows_the_compose_specification() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", FILE], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_the_services() -> None:
    assert set(SERVICES) == {"postgres", "redis", "migrate", "worker-gpu", "worker-cpu", "beat", "flower"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_health_check(service: str) -> None:
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("service", ["worker-gpu", "worker-cpu", "beat", "flower"])
def test_workers_wait_for_what_they_need(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_redis_keeps_its_messages_and_drops_none() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_only_the_gpu_profile_asks_for_a_gpu() -> None:
    with_gpu = [name for name, service in SERVICES.items() if "devices" in str(service.get("deploy", ""))]
    assert with_gpu == ["worker-gpu"]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]


def test_what_is_kept_lies_in_named_volumes() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    names = {mount.split(":")[0] for mount in mounts if not mount.startswith("$")}
    assert names == set(COMPOSE["volumes"])


def test_no_port_is_open_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


SECRETS = {f"${{FACET_{name}_PASSWORD:?set it in the file .env}}" for name in ("DB", "REDIS", "FLOWER")}


def test_it_holds_no_secret() -> None:
    environments = [service.get("environment", {}) for service in SERVICES.values()]
    names = {"POSTGRES_PASSWORD", "REDISCLI_AUTH"}
    passwords = [value for environment in environments for name, value in environment.items() if name in names]
    passwords += [e["FLOWER_BASIC_AUTH"].partition(":")[2] for e in environments if "FLOWER_BASIC_AUTH" in e]
    urls = [value for environment in environments for value in environment.values() if "://" in value and "@" in value]
    passwords += [re.search(r"://\w*:(.+)@", url)[1] for url in urls]
    assert set(passwords) == SECRETS


def test_every_door_has_a_password() -> None:
    redis, flower = SERVICES["redis"], SERVICES["flower"]
    assert redis["command"][redis["command"].index("--requirepass") + 1] in SECRETS
    assert redis["environment"]["REDISCLI_AUTH"] in SECRETS  # its health check logs in
    assert flower["environment"]["FLOWER_BASIC_AUTH"].partition(":")[2] in SECRETS
    brokers = {
        e["FACET_BROKER_URL"] for s in SERVICES.values() if "FACET_BROKER_URL" in (e := s.get("environment", {}))
    }
    assert all(re.search(r"redis://:\$\{FACET_REDIS_PASSWORD\b.+\}@", url) for url in brokers)
    assert brokers


def test_its_settings_are_settings_of_the_program() -> None:
    from worker.config import Settings

    known = {f"FACET_{name.upper()}" for name in Settings.model_fields}
    used = {name for service in SERVICES.values() for name in service.get("environment", {}) if name[:6] == "FACET_"}
    assert used
    assert used <= known


@pytest.mark.parametrize("words", facet_commands(), ids=" ".join)
def test_its_commands_are_commands_of_the_program(words: list[str]) -> None:
    """Parse the line as the program would, without running it."""
    import typer

    from worker.cli.main import app

    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands"):
        name, *rest = rest
        command = command.commands[name]
        command = command.load() if hasattr(command, "load") else command
    command.make_context(name, rest)


def test_the_image_is_built_from_files_that_are_sent() -> None:
    """The .dockerignore holds back nothing that the Dockerfile copies by name."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    named = {name for line in copies for name in line.split() if name != "."}
    assert named | {"facet", "db", "models", "training", "worker"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)
