"""Numbers in words, as pages show them."""

from __future__ import annotations

import pytest

from worker.visible import counted
from worker.web.rendering import ENVIRONMENT, probable


@pytest.mark.parametrize(
    ("probability", "words"),
    [(1.0, "more than 99 %"), (0.995, "more than 99 %"), (0.994, "99 %"), (0.5, "50 %"), (0.006, "1 %"), (0, "less")],
)
def test_no_probability_is_certain(probability, words):
    assert probable(probability).startswith(words)


def test_one_of_a_thing_has_no_plural():
    assert counted(1, "face") == "1 face"
    assert counted(1200, "person", "people") == "1,200 people"


def test_a_table_has_its_title_twice_and_numbers_to_the_right():
    template = ENVIRONMENT.from_string(
        '{% from "macros/tables.html" import titled_table %}'
        '{% call titled_table("Some <b>", ["Reason", "#Files"]) %}<tr><td>x</td></tr>{% endcall %}'
    )
    shown = template.render()
    assert shown.count("Some &lt;b&gt;") == 2
    assert '<th scope="col">Reason</th><th class="number" scope="col">Files</th>' in shown
    assert "<tbody>\n<tr><td>x</td></tr>" in shown
