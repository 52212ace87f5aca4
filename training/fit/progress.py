"""Progress of a training run: a line of CSV for each evaluation on the held-out rows, and a progress bar."""

from __future__ import annotations

import csv
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0  # between two lines of progress where no bar is drawn
_COLUMNS = ("time", "step", "task", "loss", "held_out", "best")


class RunLog:
    """The file ``log.csv`` in the folder of a run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.csv"

    def write(self, task: str, step: int, loss: float, held_out: float, best: float) -> None:
        """Append the progress of a branch.

        Args:
            task: of the branch.
            step: steps of a joint run, epochs of a branch that is trained alone.
            loss: of the training rows.
            held_out: score of the held-out rows.
            best: best such score so far.
        """
        fresh = not self._path.is_file()
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(_COLUMNS)
            writer.writerow([f"{time.time():.0f}", step, task, f"{loss:.4f}", f"{held_out:.4f}", f"{best:.4f}"])
        facts = {
            "action": "train_evaluated",
            "task": task,
            "step": step,
            "loss": loss,
            "held_out": held_out,
            "best": best,
        }
        line = "%s: step %d, loss %.4f, held-out score %.4f, best %.4f"
        logger.info(line, task, step, loss, held_out, best, extra=facts)


@contextmanager
def timed(folder: Path, *, resumes: bool) -> Iterator[Callable[[], float]]:
    """Measure the seconds of a run and keep them in the file ``seconds`` of its folder.

    Args:
        folder: of the run.
        resumes: whether the run goes on where an earlier one stopped, whose seconds then count; those of a process that
            was killed are not known.

    Yields:
        A function that returns the seconds until now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "seconds"
    before = float(path.read_text()) if resumes and path.is_file() else 0.0
    started = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - started

    try:
        yield seconds
    finally:
        path.write_text(f"{seconds():.1f}\n")


@contextmanager
def progress_bar(name: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar on the error stream; where that is no terminal, log a line now and then.

    Args:
        name: shown before the bar.
        total: steps.
        done: steps that an earlier run took.

    Yields:
        A function to call with the number of steps that are done, and with a text that is shown after the name.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=done)

        log_at = time.monotonic() + LOG_SECONDS

        def advance(now: int, text: str) -> None:
            nonlocal log_at
            progress.update(task, completed=now, description=f"{name} {text}")
            if not console.is_terminal and time.monotonic() >= log_at:
                facts = {"action": "train_progress", "run": name, "step": now, "steps": total}
                logger.info("%s: %d of %d (%d %%) %s", name, now, total, 100 * now // max(total, 1), text, extra=facts)
                log_at = time.monotonic() + LOG_SECONDS

        yield advance
