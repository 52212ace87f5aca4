"""``facet forget`` as a user has it: what goes, what is asked, what is said the second time."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(2):
            picture = io.BytesIO()
            Image.fromarray(np.full((16, 16, 3), 50 * number, np.uint8)).save(picture, "PNG")
            packed.writestr(f"{number}.png", picture.getvalue())
    return path


def test_a_file_is_erased_with_a_receipt_and_is_new_when_it_comes_again(facet, archive, tmp_path):
    facet("analyze", archive, "--keep-days", "30")
    member, receipt = f"{archive}!/1.png", tmp_path / "receipt.json"
    assert not [path for path in (facet.home / "staging").rglob("*") if path.is_file() and path.suffix == ".png"]
    before = facet.rows("SELECT media_id, sha256 FROM media ORDER BY media_id")
    facet("annotate", str(before[1]["media_id"]), "--output", tmp_path / "drawn.png")
    assert list((facet.home / "staging").rglob(f"{before[1]['sha256']}*")), "unpacked again"
    plan = json.loads(facet("forget", "--media", member, "--dry-run").stdout)
    assert "pass --yes" in facet("forget", "--media", member, status=2).stderr
    assert facet.rows("SELECT media_id, sha256 FROM media ORDER BY media_id") == before
    facet("forget", "--media", member, "--yes", "--receipt", receipt)
    told = json.loads(receipt.read_text())
    assert (told["rows"], told["files"], told["dry_run"]) == (plan["rows"], plan["files"], False)
    assert told["media"] == [before[1]]
    assert told["files"]["staged"] == [f"{before[1]['sha256'][:2]}/{before[1]['sha256']}.png"]
    assert not list((facet.home / "staging").rglob(f"{before[1]['sha256']}*"))
    assert archive.exists()
    assert "there is no file" in facet("forget", "--media", member, "--yes", status=2).stderr
    assert "got 2 of --media, --person and --due" in facet("forget", "--due", "--person", "1", status=2).stderr
    assert json.loads(facet("forget", "--due").stdout)["media"] == []  # nothing is due, so nobody has to be asked
    facet("analyze", archive)
    again = facet.rows("SELECT media_id, sha256 FROM media ORDER BY media_id")
    assert [row["sha256"] for row in again] == [row["sha256"] for row in before]
    assert again[1]["media_id"] > before[1]["media_id"]
    jobs = facet.rows("SELECT submitted, done, erased, keep_until IS NULL AS kept FROM jobs ORDER BY job_id")
    assert jobs == [
        {"submitted": 2, "done": 2, "erased": 1, "kept": False},
        {"submitted": 2, "done": 2, "erased": 0, "kept": True},
    ]
