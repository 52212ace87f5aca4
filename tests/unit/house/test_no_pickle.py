"""Nothing is read or sent as a pickle: whoever can write one runs what he likes in whoever reads it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path for folder in ("worker", "models", "training", "db", "benchmarks") for path in (ROOT / folder).rglob("*.py")
]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ERRORS_ONLY = {"training/releases/import_trunk.py"}
"""May name ``pickle.UnpicklingError``, which torch raises for what it refuses to read."""
SENDERS = {"Queue", "SimpleQueue", "JoinableQueue", "Pipe", "Manager", "Pool", "Listener", "Client"}
"""Of ``multiprocessing``; all of them send pickles."""


def name_of(node: ast.expr) -> str:
    """Return the dotted name of a call."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def offences(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"imports {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            found += [f"imports from {module}"] * (module in MODULES)
            found += [
                f"imports {alias.name}" for alias in node.names if module == "multiprocessing" and alias.name in SENDERS
            ]
        elif isinstance(node, ast.Call):
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            called = name_of(node.func)
            if given.get("allow_pickle"):
                found.append(f"{called}(allow_pickle=True)")
            if called in {"torch.load", "torch.hub.load"} and given.get("weights_only") is not True:
                found.append(f"{called} without weights_only=True")
            if called.endswith("read_pickle") or (
                called.startswith("multiprocessing.") and called.split(".")[-1] in SENDERS
            ):
                found.append(called)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_reads_or_sends_pickles(path: Path) -> None:
    found = offences(path)
    if str(path.relative_to(ROOT)) in ERRORS_ONLY and found == ["imports pickle"]:
        text = path.read_text(encoding="utf-8")
        assert text.count("pickle.") == text.count("pickle.UnpicklingError")
        return
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "from multiprocessing import Queue",
        "import multiprocessing\nmultiprocessing.Pipe()",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pandas.read_pickle(path)",
    ],
)
def test_offences_are_seen(text: str, tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(text)
    assert offences(tmp_path / "source.py")


def test_messages_are_json() -> None:
    from worker.config import Settings
    from worker.deployment.app import make_app

    conf = make_app(Settings(broker_url="redis://127.0.0.1:1/0")).conf
    assert conf.accept_content == ["json"]
    serializers = {name: value for name, value in conf.items() if name.endswith("_serializer")}
    assert set(serializers.values()) == {"json"}, serializers
