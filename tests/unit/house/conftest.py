"""Reading of files for service managers, by which tests compare them with the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def parse_command() -> Callable[[list[str]], None]:
    """Return a function that parses a line as the program would, without running it; a wrong one raises."""
    import typer

    from worker.cli.main import app

    def parse(words: list[str]) -> None:
        command, rest = typer.main.get_command(app), words[1:]
        assert words[0].rpartition("/")[2] == "facet", words
        while hasattr(command, "commands"):
            name, *rest = rest
            command = command.commands[name]
            command = command.load() if hasattr(command, "load") else command
        command.make_context(name, rest)

    return parse
