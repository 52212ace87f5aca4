"""Settings: environment variables with the prefix ``FACET_``, read here and nowhere else.

Unset, everything lives under ``FACET_HOME`` with an embedded PostgreSQL, and no broker is needed.
"""

from __future__ import annotations

import logging
import os
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import UsageError
from worker.types import VideoReader  # noqa: TC001 - pydantic reads it

logger = logging.getLogger(__name__)

GIB = 1 << 30
BETWEEN_ROOTS = re.compile(r":(?!//|\d+(?:[:/]|$))")
"""A colon that belongs to no URL: neither to its scheme nor to its port."""


class Settings(BaseSettings):
    """The settings of a deployment."""

    model_config = SettingsConfigDict(env_prefix="FACET_", frozen=True, env_ignore_empty=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".facet")
    """Folder of everything that has no address of its own: embedded database, crops, staging; unset: ``~/.facet``."""
    database_url: str | None = None
    """PostgreSQL with pgvector, ``postgresql://user:password@host/name``; unset: embedded under home."""
    database_keep_seconds: float = Field(default=300.0, ge=0)
    """How long the embedded PostgreSQL runs on after its last use, for the next command; 0 stops it with each one."""
    reader_database_url: str | None = None
    """The same database for a role that may only read the views; unset: the role ``facet_reader`` is assumed."""
    broker_url: str | None = None
    """Redis for ``facet submit`` and ``facet worker``, ``redis://host:6379/0``."""
    crops_url: str | None = None
    """Folder or object storage (fsspec URL) for aligned crops; unset: ``crops`` under home."""
    releases_url: str | None = None
    """Folder or object storage (fsspec URL) of registered releases, for all hosts; unset: ``releases`` under home."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` shares several GPUs out among a worker's processes."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads of detection and model together; unset: all cores, shared by a worker's processes."""
    release: Path | None = None
    """Folder of the one model release to serve and to submit under; unset: all that have work, and the active one."""
    heads: Annotated[frozenset[str] | None, NoDecode] = None
    """Comma-separated tasks that may be computed (``gender,age``; ``none`` for identity only); unset: all."""
    media_roots: Annotated[tuple[str, ...], NoDecode] = ()
    """Folders and URLs (separated by ``:``) outside of which no file is opened; unset: no restriction."""
    cache_bytes: int = Field(default=20 * GIB, ge=1 << 20)
    """Room under home for files fetched from object storage while they are analysed, and the largest of them."""
    decoders: int = Field(default=min(8, max(1, (os.cpu_count() or 2) // 2)), ge=1, le=64)
    """Decode child processes per worker process."""
    decode_memory_bytes: int = Field(default=2 * GIB, ge=GIB // 4)
    """Address space that one decode child may use for a file."""
    decode_wall_seconds: float = Field(default=60.0, gt=0)
    """Longest silence of a decode child before it is killed."""
    decode_unit_seconds: float = Field(default=1800.0, gt=0)
    """Longest time that a decode child may take for one unit, signs of life or not, before it is killed."""
    video_reader: VideoReader = "pyav"
    """``pyav``, or ``decord``: decord first for the videos that it can read exactly, PyAV wherever it fails."""
    max_tiles: int = Field(default=64, ge=0, le=4096)
    """Tiles of up to 1600 pixels a side in which a larger image is searched, at most; 0 reduces it to 1600 pixels."""
    queue_bytes: int = Field(default=GIB // 4, ge=1 << 20)
    """Decoded frames that may wait between decode and detect."""
    unit_seconds: float = Field(default=60.0, gt=0)
    """Length of the ranges into which a video of 25 frames a second is cut; others are cut into as many frames."""
    lease_seconds: float = Field(default=90.0, gt=0)
    """How long a worker holds a unit without a heartbeat."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts after which a unit is quarantined."""
    worker_memory_bytes: int = Field(default=8 * GIB, ge=GIB // 4)
    """Memory after which a process of `facet worker` is replaced, once it has ended what it is at."""
    watch_seconds: float = Field(default=60.0, gt=0)
    """How long an idle worker may leave messages waiting before it counts as stalled and ends with an error."""
    regroup_hours: float | None = Field(default=None, ge=0)
    """Hours between two full regroupings of people, which ``facet beat`` writes to the default schedule; 0 for none."""
    regroup_alarm_share: float = Field(default=0.1, ge=0, le=1)
    """Share of appearances that may change their person, or of people that may vanish, before a user has to decide."""
    regroup_alarm_floor: int = Field(default=20, ge=0)
    """Appearances or people of whom so many always may: in a small archive they are a large share."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port where `facet worker`, `facet beat` and `facet analyze` serve figures to Prometheus; unset: none."""
    metrics_address: str = "127.0.0.1"
    """Address of that port; ``0.0.0.0`` for other hosts."""

    web_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks (separated by commas) of the proxies that `facet web` believes; unset: none."""
    web_user_header: str | None = None
    """Header in which these proxies name the user: ``X-Forwarded-User``."""
    web_groups_header: str | None = None
    """Header in which they list the user's groups, with commas between."""
    web_roles: Annotated[tuple[str, ...], NoDecode] = ()
    """Role by group, ``archivists=reviewer,admins=operator,*=reader``; unset: every user is a reader."""

    @field_validator("web_proxies", "web_roles", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("heads", mode="before")
    @classmethod
    def _split_heads(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = frozenset(name.strip() for name in value.split(",") if name.strip())
        return frozenset() if names == {"none"} else names

    @field_validator("media_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        roots = tuple(part for part in BETWEEN_ROOTS.split(value) if part)
        return tuple(part.removeprefix("file://") for part in roots)

    @property
    def crops(self) -> str:
        """Address of the crop store."""
        return self.crops_url or str(self.home / "crops")

    @property
    def releases(self) -> str:
        """Address of the release store."""
        return self.releases_url or str(self.home / "releases")

    @property
    def release_cache(self) -> Path:
        """Folder of releases that were fetched from the release store."""
        return self.home / "release-cache"

    @property
    def staging(self) -> Path:
        """Folder where members of archives are unpacked."""
        return self.home / "staging"


OF_COMPOSE = frozenset(
    {"FACET_CONCURRENCY", "FACET_DB_PASSWORD", "FACET_DB_PORT", "FACET_FLOWER_PASSWORD", "FACET_FLOWER_PORT",
     "FACET_GPUS", "FACET_GRAFANA_PASSWORD", "FACET_GRAFANA_PORT", "FACET_LISTEN", "FACET_MAIN_HOST",
     "FACET_MEDIA", "FACET_METRICS_KEEP", "FACET_MIGRATOR_PASSWORD", "FACET_OUTPUT", "FACET_POSTGRES_CACHE_SIZE",
     "FACET_POSTGRES_CONNECTIONS", "FACET_POSTGRES_CPUS", "FACET_POSTGRES_MAINTENANCE_WORK_MEM",
     "FACET_POSTGRES_MEMORY", "FACET_POSTGRES_SHARED_BUFFERS", "FACET_POSTGRES_WORK_MEM", "FACET_READER_PASSWORD",
     "FACET_REDIS_PASSWORD", "FACET_REDIS_PORT", "FACET_RELEASES", "FACET_SERVICE_CPUS", "FACET_SERVICE_MEMORY",
     "FACET_UID", "FACET_VERSION", "FACET_WEB_PORT",
     "FACET_WORKER_CPUS", "FACET_WORKER_MEMORY", "FACET_WORKER_PASSWORD"}
)  # fmt: skip
"""Variables that docker-compose.yml and docker-compose.worker.yml alone read."""
OF_TESTS = ("FACET_TEST_", "FACET_REWRITE_")


def unknown_settings() -> list[str]:
    """Return in a sentence each variable that begins like a setting and is none, with the one that was meant."""
    known = {f"FACET_{name.upper()}" for name in Settings.model_fields}
    names = [name for name in os.environ if name.startswith("FACET_") and not name.startswith(OF_TESTS)]
    unknown = sorted(set(names) - known - OF_COMPOSE)
    near = {name: get_close_matches(name, known, n=1) for name in unknown}
    return [f"{name} is no setting{f'; did you mean {near[name][0]}?' if near[name] else ''}" for name in unknown]


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Read the settings once per process, and name variables that are none.

    Raises:
        UsageError: a variable has a value that cannot be used.
    """
    for sentence in unknown_settings():
        logger.warning("%s", sentence, extra={"action": "unknown_setting"})
    try:
        return Settings()
    except ValidationError as err:
        first = err.errors()[0]
        name = "FACET_" + str(first["loc"][0]).upper()
        raise UsageError(f"{name}={first['input']!r} cannot be used: {first['msg']}") from err
