"""What a training run tells while it goes on: a line of CSV for each look at the held-out rows, and a bar."""

from __future__ import annotations

import csv
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_COLUMNS = ("time", "step", "task", "loss", "held_out", "best")


class Journal:
    """Appends to the file ``log.csv`` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.csv"

    def write(self, task: str, step: int, loss: float, held_out: float, best: float) -> None:
        """Note how a branch stands.

        Args:
            task: of the branch.
            step: steps of a joint run, epochs of a branch that is trained alone.
            loss: while training.
            held_out: score of the held-out rows.
            best: the best such score so far.
        """
        fresh = not self._path.is_file()
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(_COLUMNS)
            writer.writerow([f"{time.time():.0f}", step, task, f"{loss:.4f}", f"{held_out:.4f}", f"{best:.4f}"])


@contextmanager
def bar(name: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar on the error stream, where that is a terminal.

    Args:
        name: of what goes on.
        total: steps.
        done: steps that an earlier run took.

    Yields:
        What to call with the steps that are done, and with a word on them.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=done)

        def advance(now: int, said: str) -> None:
            progress.update(task, completed=now, description=f"{name} {said}")

        yield advance
