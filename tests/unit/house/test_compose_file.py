"""The files for docker-compose follow the specification and say only what the program and PostgreSQL understand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
FILES = ("docker-compose.yml", "docker-compose.worker.yml")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / FILES[0]).read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ELSEWHERE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / FILES[1]).read_text())["services"]
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
PROGRAMS = ("migrate", "worker-gpu", "worker-cpu", "beat", "flower", "web")
LOGINS = {"facet_migrator": "MIGRATOR", "facet_work": "WORKER", "facet_read": "READER"}


def with_defaults(text: str) -> str:
    """Return a text of the file as docker-compose reads it, with an empty .env; passwords stay as they are."""
    return VARIABLE.sub(lambda found: found[3] if found[2] == "-" else found[0], text)


def facet_commands() -> list[list[str]]:
    """Return every command of the files that calls facet, from services and health checks."""
    services = [*SERVICES.values(), *ELSEWHERE.values()]
    lines = [service.get("command", []) for service in services]
    lines += [service["healthcheck"]["test"][1:] for service in services]
    return [[with_defaults(word) for word in line] for line in lines if line[:1] == ["facet"]]


@pytest.mark.parametrize("file", FILES)
def test_it_follows_the_compose_specification(file: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", ROOT / file], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_the_services() -> None:
    assert set(SERVICES) == {"postgres", "redis", *PROGRAMS, "prometheus", "grafana"}
    assert [name for name, one in SERVICES.items() if one.get("profiles") == ["monitoring"]] == [
        "prometheus",
        "grafana",
    ]


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
    names = {mount.split(":")[0] for mount in mounts if mount[0] not in "$."}
    assert names == set(COMPOSE["volumes"])


def test_files_that_services_read_are_in_the_repository() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", []) if mount[0] == "."]
    assert len(mounts) == 5
    assert all((ROOT / mount.split(":")[0]).exists() and mount.endswith(":ro") for mount in mounts)


@pytest.mark.parametrize("service", [SERVICES[name] for name in PROGRAMS] + list(ELSEWHERE.values()))
def test_programs_see_archive_releases_and_outputs(service: dict[str, Any]) -> None:
    places = {target: options for _, target, *options in (m.rsplit("}", 1)[-1].split(":") for m in service["volumes"])}
    assert places["/media"] == places["/releases"] == ["ro"]
    assert places["/output"] == places["/var/lib/facet"] == []
    assert with_defaults(service["environment"]["FACET_RELEASE"]) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_limits(service: str) -> None:
    limit = with_defaults(SERVICES[service]["mem_limit"])
    assert re.fullmatch(r"\d+g", limit)
    if "build" in SERVICES[service] or service == "postgres":
        assert float(with_defaults(SERVICES[service]["cpus"])) == 0


def test_no_port_is_open_to_other_machines() -> None:
    """Unless FACET_LISTEN names an address for workers elsewhere, and then those alone that they need."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"postgres", "redis", "flower", "grafana", "web"}
    assert all(with_defaults(port).startswith("127.0.0.1:") for opened in ports.values() for port in opened)
    wider = {name for name, opened in ports.items() if any(port.startswith("${FACET_LISTEN") for port in opened)}
    assert wider == {"postgres", "redis"}


def test_workers_elsewhere_have_what_they_have_here() -> None:
    """The two files agree in all but addresses: a setting that is added to one is missing in the other."""
    addresses = {"FACET_DATABASE_URL", "FACET_READER_DATABASE_URL", "FACET_BROKER_URL"}
    stores = {"FACET_CROPS_URL", "FACET_RELEASES_URL"}
    assert set(ELSEWHERE) == {"worker-cpu", "worker-gpu"}
    for name, there in ELSEWHERE.items():
        here = SERVICES[name]
        differ = {key for key in here | there if here.get(key) != there.get(key)}
        assert differ == {"depends_on", "environment"}
        settings, own = here["environment"], there["environment"]
        assert {key for key in settings | own if settings.get(key) != own.get(key)} == addresses | stores
        assert all(own[key].startswith("${" + key + ":?") for key in stores)
        for key, port in zip(sorted(addresses), ("FACET_REDIS_PORT:-6379", *["FACET_DB_PORT:-5432"] * 2), strict=True):
            host, _, inside = settings[key].rpartition("@")[2].partition(":")
            outside = f"${{FACET_MAIN_HOST:?set it in the file .env}}:${{{port}}}"
            assert own[key] == settings[key].replace(f"@{host}:{inside.partition('/')[0]}", f"@{outside}")


def test_each_program_logs_in_as_what_it_may() -> None:
    """docs/access.md: the migrator makes tables, the worker changes rows, the reader reads views."""
    users = {
        name: re.match(r"postgresql://(\w+):", SERVICES[name]["environment"]["FACET_DATABASE_URL"])[1]
        for name in PROGRAMS
    }
    assert users == dict.fromkeys(PROGRAMS, "facet_work") | {"migrate": "facet_migrator"}
    readers = {SERVICES[name]["environment"]["FACET_READER_DATABASE_URL"].split(":")[1] for name in PROGRAMS}
    assert readers == {"//facet_read"}
    made = (ROOT / "deploy/postgres/logins.sql").read_text()
    for login, name in LOGINS.items():
        assert re.search(rf"^ALTER ROLE {login} LOGIN PASSWORD :'{name.lower()}_password';$", made, re.MULTILINE)
        assert f"FACET_{name}_PASSWORD" in SERVICES["postgres"]["environment"]


def test_readers_have_the_limits_of_the_program() -> None:
    from db.schema.roles import LIMITS

    made = (ROOT / "deploy/postgres/logins.sql").read_text()
    assert dict(re.findall(r"^    \('(\w+)', '([\w.]+)'\),?$", made, re.MULTILINE)) == LIMITS


def test_postgresql_understands_its_settings() -> None:
    """PostgreSQL itself reads each setting; a wrong name, value or unit is refused."""
    from db.server.pgwheel import PostgresWheel

    wheel = PostgresWheel.find(wait_seconds=30)
    with TemporaryDirectory(prefix="facet-settings-") as folder:  # not below pytest's folder: see tests/conftest.py
        data = Path(folder) / "data"
        wheel.init(data, superuser="postgres")
        settings = [with_defaults(word) for word in SERVICES["postgres"]["command"][1:]]
        assert len(settings) == 7
        for setting in settings:
            name = setting.removeprefix("--").partition("=")[0]
            done = subprocess.run(
                [wheel.programs / "postgres", "-D", data, "-C", name, setting],
                check=False, capture_output=True, text=True, user=wheel.user, cwd="/",
            )  # fmt: skip
            assert (done.returncode, done.stdout != "") == (0, True), done.stderr


SECRETS = {
    f"${{FACET_{name}_PASSWORD:?set it in the file .env}}"
    for name in ("DB", *LOGINS.values(), "REDIS", "FLOWER", "GRAFANA")
}


def test_it_holds_no_secret() -> None:
    environments = [service.get("environment", {}) for service in (*SERVICES.values(), *ELSEWHERE.values())]
    passwords = [
        value
        for environment in environments
        for name, value in environment.items()
        if re.search(r"PASSWORD$|REDISCLI_AUTH", name)
    ]
    passwords += [e["FLOWER_BASIC_AUTH"].partition(":")[2] for e in environments if "FLOWER_BASIC_AUTH" in e]
    urls = [value for environment in environments for value in environment.values() if "://" in value and "@" in value]
    passwords += [re.search(r"://\w*:(.+)@", url)[1] for url in urls]
    assert set(passwords) == SECRETS
    asked = re.search(r"for name in ([A-Z ]+); do", (ROOT / FILES[0]).read_text())[1].split()
    assert {f"${{FACET_{name}_PASSWORD:?set it in the file .env}}" for name in asked} == SECRETS


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
    programs = [SERVICES[name] for name in PROGRAMS] + list(ELSEWHERE.values())
    used = {name for service in programs for name in service["environment"] if name[:6] == "FACET_"}
    assert len(used) > 10
    assert used <= known


@pytest.mark.parametrize("words", facet_commands(), ids=" ".join)
def test_its_commands_are_commands_of_the_program(words: list[str], parse_command: Callable[[list[str]], None]) -> None:
    parse_command(words)


def test_the_image_is_built_from_files_that_are_sent() -> None:
    """The .dockerignore holds back nothing that the Dockerfile copies by name."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    named = {name for line in copies for name in line.split() if name != "."}
    assert named | {"facet", "db", "models", "training", "worker"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)
