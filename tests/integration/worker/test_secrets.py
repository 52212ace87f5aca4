"""Passwords of databases, brokers and stores never show: in messages, logs, tracebacks, the doctor, process lists."""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys

import pytest

from worker.config import Settings
from worker.deployment.doctor import examine_deployment
from worker.errors import FacetError
from worker.masking import masked

SECRET = "s3cr3t"
program = importlib.import_module("worker.cli.main")  # the package has a function of that name
DATABASE = f"postgresql://someone:{SECRET}@127.0.0.1:1/facet"
BROKER = f"redis://:{SECRET}@127.0.0.1:1/0"


def errors():
    """Raise what each library raises when a service is away, and report it in every way that code here does."""
    import fsspec
    import redis
    from kombu import Connection
    from sqlalchemy import create_engine

    def database():
        create_engine(DATABASE.replace("postgresql:", "postgresql+psycopg:")).connect()

    def unknown_option():
        create_engine(f"postgresql+psycopg://a@127.0.0.1:1/b?password={SECRET}&nonsense=1").connect()

    def broker():
        redis.Redis.from_url(BROKER).ping()

    def bell():
        Connection(BROKER).ensure_connection(max_retries=1, timeout=1)

    def store():
        fsspec.core.url_to_fs(f"nonsense://key:{SECRET}@bucket/a")

    def folder():
        fsspec.open(f"file:///nowhere/a?token={SECRET}").open()

    return [database, unknown_option, broker, bell, store, folder]


@pytest.mark.parametrize("fail", errors(), ids=lambda fail: fail.__name__)
def test_errors_of_libraries_are_masked(fail, capsys):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has errors of its own
        fail()
    assert SECRET not in masked(f"{caught.value} {caught.value!r}")
    program._show_masked(caught.type, caught.value, caught.tb)
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert SECRET not in shown


def test_the_doctor_shows_no_password(tmp_path):
    config = Settings(
        home=tmp_path, database_url=DATABASE, broker_url=BROKER, crops_url=f"s3://k:{SECRET}@b", release=tmp_path
    )
    findings = examine_deployment(config)
    failing = ["database", "work", "schedules", "reprocessing", "people", "erasure", "broker", "release", "releases"]
    assert [one.subject for one in findings if not one.ok] == failing
    assert SECRET not in json.dumps([one.found for one in findings])


def test_a_command_that_fails_shows_no_password(monkeypatch, capsys):
    def fail():
        logging.getLogger("worker").error("lost %s", BROKER)
        raise FacetError(f"crops go to s3://key:{SECRET}@bucket; free space there")

    monkeypatch.setattr(program, "app", fail)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit):
        program.main()
    shown = capsys.readouterr().err
    assert "s3://key:***@bucket" in shown
    assert "lost redis://:***@127.0.0.1:1/0" in shown
    assert SECRET not in shown


def test_process_lists_show_no_password(tmp_path):
    """A worker takes its addresses from the environment; what it starts carries none on its command line."""
    import os

    import psutil

    from worker.decode.client import Decoder
    from worker.types import DecodeLimits

    with Decoder(DecodeLimits()) as decoder:
        assert "://" not in " ".join(psutil.Process(decoder.pid).cmdline())
    command = [sys.executable, "-c", "from worker.cli import main; main()", "worker"]
    environment = os.environ | {"FACET_HOME": str(tmp_path), "FACET_DATABASE_URL": DATABASE, "FACET_BROKER_URL": BROKER}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as worker:
        titles = " ".join(psutil.Process(worker.pid).cmdline())
        said, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1, said
    assert SECRET not in said + titles
