"""An afternoon of corrections on made people, then a regrouping from scratch: all of it holds.

Faces that belong elsewhere are taken out of a person, two people are merged, ten are named, three corrections are
undone and thirty pairs are answered. The truth about every face is known, and the archive agrees with it at the end.
"""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from tests.integration.worker.web.afternoon import Afternoon
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending
from worker.identity.proposals import regroup_people
from worker.identity.regroup import Alarm

EVERYBODY = 39  # made people, three images each
NEVER = Alarm(share=1.0, floor=0)


@pytest.fixture
def afternoon(crowd, archive, browser) -> Afternoon:
    centres = np.random.default_rng(11).standard_normal((EVERYBODY, 128))
    crowd.centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    for _ in range(3):
        for somebody in range(EVERYBODY):
            crowd.photo(somebody)
    lock_people(crowd.session)
    gallery = Gallery(crowd.trunk_id)
    while identify_pending(crowd.session, gallery):
        pass
    rows = crowd.session.execute(text("SELECT appearance_id, media_id FROM appearances"))
    truth = {row.appearance_id: crowd.files[row.media_id][0].somebody for row in rows}
    crowd.session.commit()
    return Afternoon(archive.sessions, browser, truth, range(EVERYBODY))


def test_an_afternoon_of_corrections_holds(afternoon, crowd):
    afternoon.work()
    regroup_people(afternoon.sessions, crowd.trunk_id, NEVER, force=True)
    afternoon.check()
    shown = {}
    for face, person in afternoon.people().items():
        shown.setdefault(person, set()).add(afternoon.truth[face])
    assert all(len(everybody) == 1 for everybody in shown.values())  # no person shows two
    assert len(shown) == EVERYBODY  # and nobody is two people
    assert "You are through: 30 pairs answered (2 yes, 27 no, 1 skipped)" in afternoon.browser.get("/same").text
