"""Questions in SQL: ``/ask``, ``/ask/NAME`` with its parameters, and ``/ask/sql?q=``; also as files."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from db.errors import QueryError
from db.reader.describe import describe_columns, describe_views
from db.reader.questions import find_question, read_questions
from db.schema.views import VIEWS
from worker.errors import UsageError
from worker.web.forms import choice_of, text_of
from worker.web.pages.patience import patient_page
from worker.web.queries.answers import Asked, answer, facets
from worker.web.queries.charts import Bars, chart_of
from worker.web.queries.downloads import FILE_FORMATS, write_answer
from worker.web.queries.links import link_of
from worker.web.rendering import page as render
from worker.web.visits import page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from db.reader.questions import Question
    from worker.web.queries.answers import QueryAnswer
    from worker.web.visits import Visit

MAX_QUERY = 20_000  # characters; a longer one belongs into a file for `facet sql -f`
ONLY, NULL = "only.", "null"
"""Parameters of an address: ``only.gender=female``, ``null=name``."""


@dataclass(frozen=True, slots=True)
class FilterLink:
    """A filter of the rows, and the address with it or without it."""

    label: str
    address: str
    rows: int | None = None
    is_on: bool = False


def questions(visit: Visit) -> Response:
    """Show all questions."""
    return render(visit, "ask/list.html", questions=read_questions(), views=VIEWS)


def columns(visit: Visit) -> Response:
    """Show the views with their columns."""
    url = visit.desk.reader_url

    def read() -> list[tuple[str, str, list[tuple[str, str, str]]]]:
        with describe_views(url) as views:
            named = list(views)
        found = []
        for view, description in named:
            with describe_columns(url, view) as rows:
                found.append((view, description, list(rows)))
        return found

    return render(visit, "ask/columns.html", views=visit.desk.memo.read("columns", read, keep_seconds=lambda _: 600.0))


def question(visit: Visit, name: str) -> Response:
    """Ask one of the questions of docs/sql.md."""
    asked = find_question(visit.request.path_params["name"])
    if asked is None:
        raise HTTPException(404, "there is no such question; the list of questions is at Ask")
    given = visit.request.query_params
    values = {one.name: given[one.name] for one in asked.parameters if one.name in given}
    try:
        query = asked.sql(values)
    except QueryError as err:
        return _show(visit, "", asked, error=str(err))
    return _answer(visit, name, query, asked)


def free(visit: Visit, name: str) -> Response:
    """Run SQL that a visitor wrote."""
    query = text_of(visit.request.query_params, "q", limit=MAX_QUERY) or ""
    return _answer(visit, name, query, None) if query else _show(visit, query, None)


def _answer(visit: Visit, name: str, query: str, asked: Question | None) -> Response:
    form = choice_of(visit.request.query_params, "format", list(FILE_FORMATS))
    wanted = Asked(query=query, only=_only(visit.request.query_params), name=name)
    try:
        with visit.desk.turns.take():
            if form is not None:
                return _file(visit, wanted, form, asked)
            found = answer(visit.desk.reader_url, wanted)
    except QueryError as err:
        return _show(visit, query, asked, error=str(err))
    return _show(visit, query, asked, found=found)


def _file(visit: Visit, asked: Asked, form: str, question: Question | None) -> Response:
    """Write the answer into a file that goes when it was sent."""
    handle, name = tempfile.mkstemp(prefix="facet-answer-", suffix=f".{form}")
    os.close(handle)
    path = Path(name)
    try:
        write_answer(visit.desk.reader_url, asked, FILE_FORMATS[form], path)
    except BaseException:
        path.unlink()
        raise
    return FileResponse(
        path,
        media_type=FILE_FORMATS[form].media_type,
        filename=f"{'answer' if question is None else question.name}.{form}",
        background=BackgroundTask(path.unlink),
    )


def _show(
    visit: Visit, query: str, asked: Question | None, *, found: QueryAnswer | None = None, error: str | None = None
) -> Response:
    given = visit.request.query_params
    chart = None if found is None else chart_of(found)
    return render(
        visit,
        "ask/question.html" if asked is not None else "ask/sql.html",
        status=400 if error is not None else 200,
        question=asked,
        values={one.name: given.get(one.name, one.usual) for one in asked.parameters} if asked is not None else {},
        query=query,
        answer=found,
        links=() if found is None else tuple(link_of(name) for name in found.columns),
        numbers=() if found is None else tuple(_is_number(kind) for kind in found.types),
        chart=chart,
        has_bars=isinstance(chart, Bars),
        facets=[] if found is None else _facets(visit, found),
        chosen=_chosen(visit),
        downloads={form: _address(visit, {"format": form}) for form in FILE_FORMATS},
        edit=f"/ask/sql?{urlencode({'q': query})}",
        error=error,
    )


def _is_number(kind: str) -> bool:
    return kind in {"int2", "int4", "int8", "float4", "float8", "numeric"}


def _only(given: QueryParams) -> dict[str, str | None]:
    """Return the values that are wanted, by column."""
    wanted: dict[str, str | None] = dict.fromkeys(given.getlist(NULL))
    wanted |= {name.removeprefix(ONLY): value for name, value in given.multi_items() if name.startswith(ONLY)}
    for column, value in wanted.items():
        if not column or "\0" in column + (value or "") or len(column) + len(value or "") > MAX_QUERY:
            raise UsageError(f"a filter has the column {column!r}; expected a column of the answer: take it out")
    return wanted


def _chosen(visit: Visit) -> list[FilterLink]:
    """Return the filters that are on, each with the address without it."""
    return [
        FilterLink(f"{column} is {'empty' if value is None else value}", _without(visit, column), is_on=True)
        for column, value in _only(visit.request.query_params).items()
    ]


def _facets(visit: Visit, found: QueryAnswer) -> list[tuple[str, list[FilterLink]]]:
    """Return the columns of few values with the addresses of their filters."""
    on = _only(visit.request.query_params)
    return [
        (
            facet.column,
            [
                FilterLink(
                    "(empty)" if one.value is None else one.value,
                    _address(visit, {NULL: facet.column} if one.value is None else {ONLY + facet.column: one.value}),
                    one.rows,
                )
                for one in facet.values
            ],
        )
        for facet in facets(found)
        if facet.column not in on
    ]


def _address(visit: Visit, more: Mapping[str, str]) -> str:
    """Return the address of this page with further parameters."""
    return f"{visit.request.url.path}?{urlencode([*visit.request.query_params.multi_items(), *more.items()])}"


def _without(visit: Visit, column: str) -> str:
    kept = [
        (name, value)
        for name, value in visit.request.query_params.multi_items()
        if name != ONLY + column and (name, value) != (NULL, column)
    ]
    return f"{visit.request.url.path}?{urlencode(kept)}"


ROUTES = [
    page("/ask", questions),
    page("/ask/columns", columns),
    patient_page("/ask/sql", free),
    patient_page("/ask/{name}", question),
]
