"""Settings from the environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.config import OF_COMPOSE, Settings, settings
from worker.errors import UsageError


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_unset_everything_lives_under_home(monkeypatch, tmp_path):
    monkeypatch.setenv("FACET_HOME", str(tmp_path))
    found = settings()
    assert (found.database_url, found.broker_url, found.heads) == (None, None, None)
    assert found.crops == str(tmp_path / "crops")
    assert found.staging == tmp_path / "staging"


@pytest.mark.parametrize(
    ("text", "heads"),
    [("gender, age", {"gender", "age"}), ("none", set()), ("", None)],  # empty counts as unset
)
def test_heads_are_a_list(monkeypatch, text, heads):
    monkeypatch.setenv("FACET_HEADS", text)
    assert settings().heads == heads


def test_media_roots_are_folders(monkeypatch):
    monkeypatch.setenv("FACET_MEDIA_ROOTS", "/media:/archive")
    assert settings().media_roots == ("/media", "/archive")


def test_media_roots_may_be_urls(monkeypatch):
    monkeypatch.setenv("FACET_MEDIA_ROOTS", "s3://bucket/a:/media:https://host:8080/b:file:///c")
    assert settings().media_roots == ("s3://bucket/a", "/media", "https://host:8080/b", "/c")


def test_a_value_that_cannot_be_used_is_named(monkeypatch):
    monkeypatch.setenv("FACET_DECODERS", "many")
    with pytest.raises(UsageError, match="FACET_DECODERS='many' cannot be used"):
        settings()


def test_variables_that_are_no_settings_are_named_with_what_was_meant(monkeypatch, caplog):
    monkeypatch.setenv("FACET_MEDIA_ROOT", "/media")
    monkeypatch.setenv("FACET_XYZZY", "1")
    monkeypatch.setenv("FACET_DB_PASSWORD", "docker-compose.yml has it")
    monkeypatch.setenv("FACET_HOME", "/x")
    settings()
    assert caplog.messages == [
        "FACET_MEDIA_ROOT is no setting; did you mean FACET_MEDIA_ROOTS?",
        "FACET_XYZZY is no setting",
    ]
    caplog.clear()
    settings()
    assert caplog.messages == [], "once is enough"


def test_variables_of_compose_are_those_of_its_file():
    files = Path(__file__).parents[3].glob("docker-compose*.yml")
    used = {name for file in files for name in re.findall(r"\$\{(FACET_[A-Z_]+)", file.read_text())}
    assert used - {f"FACET_{name.upper()}" for name in Settings.model_fields} == OF_COMPOSE
