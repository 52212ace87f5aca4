"""The script of CONTRIBUTING.md takes a photo of the quickstart through one stage after another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from worker.cli.demo import build_photos

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
SCRIPT = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_script_runs_one_stage_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build_photos(tmp_path / "quickstart" / "photos")
    monkeypatch.chdir(tmp_path)
    (script,) = SCRIPT.findall(PAGE.read_text(encoding="utf-8"))
    exec(compile(script, "CONTRIBUTING.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "width=1024" in printed
    assert "torch.Size([2, 128])" in printed
