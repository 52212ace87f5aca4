"""The comparison as a page of HTML that needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from worker.releases.diff.changes import HeadChanges
    from worker.releases.diff.drift import Interval
    from worker.releases.diff.report import ReleaseDiff

MAX_GROUPS = 60  # of a head; the JSON has all

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}
body{color:#212529;background:#f7f6f3}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;background:#fff}
th,td{border:1px solid #e0ddd6;padding:.25rem .6rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums} h2{margin-top:2rem} img{max-width:100%}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A table of a comparison."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    """Of whole numbers, shares (float) and text."""


def page(found: ReleaseDiff, sheet: NDArray[np.uint8] | None = None) -> str:
    """Return the page.

    Args:
        found: the comparison.
        sheet: (H, W, 3) uint8 RGB contact sheet of the movers; None leaves it out.
    """
    title = f"{found.before} → {found.after}"
    parts = [
        *(_section(one) for one in sections(found)),
        _section(_movers(found)),
        "" if sheet is None else f'<img alt="Crops of the biggest movers" src="data:image/png;base64,{_png(sheet)}">',
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return (
        f"<!doctype html><html lang=en><head>{head}</head><body><h1>{_text(title)}</h1>{''.join(parts)}</body></html>"
    )


def sections(found: ReleaseDiff) -> list[Section]:
    """Return the tables of a comparison that have rows, without the faces that moved most.

    Where no file has been analysed under both releases, only the counts of faces say something.
    """
    faces = Section("Faces", ("", "faces"), _faces(found))
    if not found.faces.compared:
        return [faces]
    every = (
        faces,
        Section("Heads", ("head", "unchanged", "changed", "new", "vanished", "missing", "shift"), _heads(found)),
        *(_labels(head) for head in found.heads if head.table and not head.is_shared),
        Section("Attributes", ("attribute", "faces", "mean shift", "gained", "lost"), _attributes(found)),
        Section("Groups", ("head", "group", "faces", "changed (95 %)", "shift (95 %)"), _groups(found)),
        Section("People", ("", "people"), _people(found)),
        Section("Questions", ("question", "rows", "moved", "share", "for example"), _questions(found)),
    )
    return [one for one in every if one.rows]


def _section(one: Section) -> str:
    return f"<h2>{_text(one.title)}</h2>{_table(one.columns, one.rows)}" if one.rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"<td class=n>{value:,}</td>"
    return f"<td class=n>{value:.1%}</td>" if isinstance(value, float) else f"<td>{_text(str(value))}</td>"


def _text(value: str) -> str:
    """Return text as HTML; characters that are invisible or turn the direction are shown as escapes."""
    return escape(visible(value))


def _faces(found: ReleaseDiff) -> list[tuple[object, ...]]:
    faces = found.faces
    return [
        (f"kept under {found.before}", faces.before),
        ("in files that both have analysed", faces.compared),
        ("found by both", faces.paired),
        ("vanished", faces.vanished),
        ("new", faces.new),
        ("covered", found.covered),
    ]


def _heads(found: ReleaseDiff) -> list[tuple[object, ...]]:
    return [
        (
            one.head + (" (shared)" if one.is_shared else ""),
            one.unchanged,
            one.changed,
            one.new,
            one.vanished,
            one.missing,
            "" if one.shift is None else f"{one.shift.mean:+.2f} ± {one.shift.deviation:.2f}",
        )
        for one in found.heads
    ]


def _labels(head: HeadChanges) -> Section:
    """Return the table of old labels (rows) by new ones (columns)."""
    old = sorted({pair.before for pair in head.table})
    new = sorted({pair.after for pair in head.table})
    faces = {(pair.before, pair.after): pair.faces for pair in head.table}
    rows = [(before, *(faces.get((before, after), 0) for after in new)) for before in old]
    return Section(f"{head.head}: old label by new label", ("", *new), rows)


def _attributes(found: ReleaseDiff) -> list[tuple[object, ...]]:
    every = (one for head in found.attributes for one in head.attributes if one.faces)
    return [(one.attribute, one.faces, f"{one.shift:+.4f}", one.gained, one.lost) for one in every]


def _groups(found: ReleaseDiff) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for head in dict.fromkeys(one.head for one in found.drift):
        largest = [one for one in found.drift if one.head == head][:MAX_GROUPS]
        rows += [
            (head, one.group, one.faces, _interval(one.changed, 100, "%"), _interval(one.shift, 1, ""))
            for one in largest
        ]
    return rows


def _interval(value: Interval | None, scale: float, unit: str) -> str:
    if value is None:
        return ""
    return f"{value.value * scale:.2f}{unit} ({value.low * scale:.2f} to {value.high * scale:.2f})"


def _people(found: ReleaseDiff) -> list[tuple[object, ...]]:
    people = found.people
    names = ("people", "kept", "split", "joined", "renamed", "waiting")
    waiting = ", ".join(map(str, found.corrections.waiting)) or "none"
    return [
        *((name, getattr(people, name)) for name in names),
        ("corrections that find their places", found.corrections.found),
        (f"corrections that wait: {waiting}", len(found.corrections.waiting)),
    ]


def _questions(found: ReleaseDiff) -> list[tuple[object, ...]]:
    return [
        (one.question, f"{one.rows_before:,} → {one.rows_after:,}", one.moved, one.share, one.example)
        for one in found.questions
    ]


def _movers(found: ReleaseDiff) -> Section:
    rows = [(one.head, one.face_id, one.uri, f"{one.at_seconds:g} s", one.before, one.after) for one in found.movers]
    return Section("Biggest movers", ("head", "face", "file", "at", "before", "after"), rows)


def _png(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
