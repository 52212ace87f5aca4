"""Reads labels back: tables with a column a head, and the exports of Label Studio (JSON)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

UNCLEAR = frozenset({"", "?", "unknown", "unclear", "none"})  # answers of people who could not tell
MAX_LABELLED_YEARS = 120


@dataclass(frozen=True, slots=True)
class Label:
    """The answer of one person about one face."""

    face_id: int
    head: str
    value: str | float
    """A label of the head, or years."""
    labeller: str


def read_answers(paths: Sequence[Path], heads: Mapping[str, tuple[str, ...]]) -> list[Label]:
    """Return the labels of some files.

    Raises:
        UsageError: a file cannot be read, or holds a label that its head does not have.
    """
    labels = list[Label]()
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as err:
            raise UsageError(f"{path} cannot be read ({err}), expected a table or JSON of labels in UTF-8") from err
        labels += _tasks(path, text, heads) if text.lstrip().startswith("[") else _table(path, text, heads)
    return labels


def _table(path: Path, text: str, heads: Mapping[str, tuple[str, ...]]) -> Iterator[Label]:
    lines = text.splitlines()
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=(lines or [""])[0].count))
    columns = {name.strip().lower(): name for name in reader.fieldnames or () if name}
    known = [head for head in heads if head in columns]
    if "face_id" not in columns or not known:
        raise UsageError(
            f"{path} has the columns {', '.join(columns) or 'none'}, expected face_id and some of {', '.join(heads)}"
        )
    for row in reader:
        where = f"{path} line {reader.line_num}"
        face_id = (row[columns["face_id"]] or "").strip()
        if not face_id:
            continue
        if not (face_id.isascii() and face_id.isdecimal()):
            raise UsageError(f"{where} has face_id {face_id!r}, expected a number")
        labeller = (row.get(columns.get("labeller", "")) or "").strip() or path.stem
        for head in known:
            value = _checked(where, head, row[columns[head]] or "", heads[head])
            if value is not None:
                yield Label(int(face_id), head, value, labeller)


def _tasks(path: Path, text: str, heads: Mapping[str, tuple[str, ...]]) -> Iterator[Label]:
    try:
        for task in json.loads(text):
            face_id = int(task["data"]["face_id"])
            for annotation in task.get("annotations") or ():
                if annotation.get("was_cancelled"):
                    continue
                for result in annotation["result"]:
                    head = result["from_name"]
                    if head in heads:
                        value = _checked(f"{path} face {face_id}", head, _answer(result["value"]), heads[head])
                        if value is not None:
                            yield Label(face_id, head, value, _labeller(annotation))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise UsageError(
            f"{path} is no export of Label Studio for a sample ({type(err).__name__}: {err}); expected its format JSON"
        ) from err


def _answer(value: Mapping[str, Any]) -> str:
    return str(value["number"]) if "number" in value else str(value["choices"][0])


def _labeller(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    return str(who.get("email") or who.get("id") if isinstance(who, dict) else who)


def _checked(where: str, head: str, written: str, labels: tuple[str, ...]) -> str | float | None:
    """Return a label as its head has it; None where the person could not tell."""
    answer = written.strip()
    if answer.lower() in UNCLEAR:
        return None
    if not labels:
        try:
            years = float(answer)
        except ValueError:
            years = -1
        if not 0 <= years <= MAX_LABELLED_YEARS:
            raise UsageError(f"{where} has {head} {answer!r}, expected years from 0 to {MAX_LABELLED_YEARS}")
        return years
    found = next((label for label in labels if label.lower() == answer.lower()), None)
    if found is None:
        raise UsageError(f"{where} has {head} {answer!r}, expected one of {', '.join(labels)}")
    return found
