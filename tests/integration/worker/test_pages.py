"""Pages of one file: each is analysed, and no person counts as in view beside those of another page."""

from __future__ import annotations

import threading

import pillow_heif
import pytest
from PIL import ImageOps
from sqlalchemy import text

from worker.analysis.runner import Worker
from worker.cli.analyze import submit_paths
from worker.cli.demo import _open
from worker.config import Settings
from worker.ledger.status.summary import summarise_job
from worker.ledger.submission.job import Submission
from worker.releases.folders import load_own
from worker.storage.database import open_database


@pytest.fixture(scope="module")
def portraits():
    """Two women, one of them a second time and mirrored, at three sizes."""
    collins = _open("skimage.data", "astronaut.png").crop((110, 0, 366, 256))
    hopper = _open("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
    hopper = hopper.crop((100, 0, 412, 312))
    return collins, hopper, ImageOps.mirror(collins).resize((320, 320))


def test_people_of_all_pages_are_found_and_known_again(clean_database, tmp_path, portraits):
    pillow_heif.register_heif_opener()
    paths = [str(tmp_path / name) for name in ("album.heic", "album.tif")]
    for path in paths:
        portraits[0].save(path, save_all=True, append_images=portraits[1:])
    config = Settings(home=tmp_path / "home", database_url=clean_database, decoders=1)
    with open_database(config) as database:
        worker = Worker(config, database, load_own(config))
        submission = Submission(name="a", release=worker.ids, frames_per_second=0.1, unit_seconds=60.0)
        job_id = submit_paths(config, database, paths, submission).job_id
        worker.drain(threading.Event())
        worker.identifier.finish()
        with database.sessions.begin() as session:
            summary = summarise_job(session, job_id)
            media = session.execute(text("SELECT width, height, frame_count, duration_seconds FROM media")).all()
            faces = session.execute(
                text("""SELECT uri, frame_index, frame_width, appearance_id, person_id
                        FROM faces JOIN media USING (media_id)
                        WHERE dropped_reason IS NULL ORDER BY uri, frame_index""")
            ).all()
            seconds = session.scalars(text("SELECT screen_seconds FROM appearances")).all()
    assert (summary.done, summary.faces, summary.notes) == (2, 6, [])
    assert [tuple(row) for row in media] == [(256, 256, 3, None)] * 2
    assert [(face.uri, face.frame_index, face.frame_width) for face in faces] == [
        (path, index, width) for path in paths for index, width in enumerate((256, 312, 320))
    ]
    assert len({face.appearance_id for face in faces}) == 6
    collins, hopper, *others = (face.person_id for face in faces)
    assert others == [collins, collins, hopper, collins]
    assert collins != hopper
    assert seconds == [0.0] * 6
