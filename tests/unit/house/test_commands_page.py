"""docs/commands.md says what the programs say of themselves; ``make docs`` writes it anew from them."""

from __future__ import annotations

import ast
import itertools
import os
import re
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/commands.md"
PROGRAMS = {"facet": "worker.cli.main", "facet-train": "training.cli.main"}
SETTINGS = ROOT / "worker/config.py"

OPENING = """\
# Commands and settings

Written from the programs by `make docs`; change the text there. Each command says the same with `--help`.

Exit status: 0 when all went well, 1 when something failed or a file was not analysed, 2 for wrong use, 130 when
interrupted. Results go to standard output, messages and progress bars to standard error; bars are drawn only in a
terminal.
"""

SETTINGS_OPENING = """\
## Settings

Environment variables; one that is unset or empty has its default.

| variable | default | meaning |
|---|---|---|
"""


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command below a program with its full name, in the order of the help."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from commands(f"{name} {word}", child.load() if hasattr(child, "load") else child)


def all_commands() -> list[tuple[str, Any]]:
    apps = {name: import_module(module).app for name, module in PROGRAMS.items()}
    return [found for name, app in apps.items() for found in commands(name, typer.main.get_command(app))]


def options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden and p.name != "help"]


def arguments(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "argument"]


def placeholder(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    name += "..." if argument.nargs == -1 else ""
    return name if argument.required else f"[{name}]"


def default(option: Any) -> str:
    if option.required:
        return " Required."
    if isinstance(option.default, Enum):
        choices = ", ".join(choice.value for choice in type(option.default))
        return f" One of {choices}; default: {option.default.value}."
    if isinstance(option.default, Path) and option.default.is_relative_to(ROOT):
        return f" Default: {option.default.relative_to(ROOT)} of this program."
    return "" if option.default is None or option.default is False else f" Default: {option.default}."


def section(name: str, command: Any) -> str:
    words = [name, *(placeholder(a) for a in arguments(command)), *(["[OPTIONS]"] if options(command) else [])]
    rows = [(placeholder(a).strip("[]"), a.help) for a in arguments(command)]
    rows += [(", ".join(o.opts), f"{o.help}{default(o)}") for o in options(command)]
    table = "".join(f"| `{left}` | {right} |\n" for left, right in rows)
    example = re.sub(r"^Example: ", "", command.epilog or "")
    return (
        f"## {name}\n\n```\n{' '.join(words)}\n```\n\n{command.help}\n"
        + (f"\n| | |\n|---|---|\n{table}" if table else "")
        + (f"\nExample: `{example}`\n" if example else "")
    )


def settings() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning; a default that depends on the machine is told by the meaning."""
    body = next(
        node.body
        for node in ast.parse(SETTINGS.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            meaning = " ".join(ast.literal_eval(text.value).split()).replace("``", "`")
            yield f"FACET_{field.target.id.upper()}", literal_default(field.value), meaning


def literal_default(value: ast.expr) -> str:
    if isinstance(value, ast.Call):
        value = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), value)
    try:
        found = ast.literal_eval(value)
    except ValueError:
        return ""
    return "" if found in (None, ()) else str(found)


def render() -> str:
    sections = [section(name, command) for name, command in all_commands()]
    rows = "".join(f"| `{name}` | {value} | {meaning} |\n" for name, value, meaning in settings())
    return "\n".join([OPENING, *sections, SETTINGS_OPENING + rows])


def test_the_page_is_what_the_programs_say() -> None:
    if os.environ.get("FACET_REWRITE_DOCS"):
        PAGE.write_text(render(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == render(), "docs/commands.md is out of date: run `make docs`"


def test_there_are_commands_and_settings() -> None:
    assert {"facet analyze", "facet people list", "facet db upgrade"} <= {name for name, _ in all_commands()}
    assert {"FACET_HOME", "FACET_DATABASE_URL"} <= {name for name, _, _ in settings()}


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_explains_itself(name: str, command: Any) -> None:
    """The help has a sentence, an example that calls the command, and words for each option and argument."""
    assert command.help
    assert name in (command.epilog or "")
    assert [p.name for p in (*options(command), *arguments(command)) if not p.help] == []


def test_every_setting_has_a_meaning() -> None:
    from worker.config import Settings

    assert {name for name, _, _ in settings()} == {f"FACET_{name.upper()}" for name in Settings.model_fields}
