"""The whole comparison of two releases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worker.releases.diff.attributes import attribute_changes
from worker.releases.diff.changes import head_changes
from worker.releases.diff.coverage import uncovered
from worker.releases.diff.drift import drift
from worker.releases.diff.movers import biggest_movers
from worker.releases.diff.pairs import make_pairs
from worker.releases.diff.people import correction_changes, people_changes
from worker.releases.diff.questions import question_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import ReleaseIds
    from worker.releases.diff.attributes import AttributeChanges
    from worker.releases.diff.changes import HeadChanges
    from worker.releases.diff.drift import GroupDrift
    from worker.releases.diff.movers import Mover
    from worker.releases.diff.pairs import FaceCounts
    from worker.releases.diff.people import CorrectionChanges, PeopleChanges
    from worker.releases.diff.questions import QuestionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDiff:
    """Everything that changes for the archive with another release."""

    before: str
    """Name of the old release."""
    after: str
    """Name of the new one."""
    faces: FaceCounts
    heads: tuple[HeadChanges, ...]
    drift: tuple[GroupDrift, ...]
    """Of all heads that are not shared."""
    attributes: tuple[AttributeChanges, ...]
    """Of heads of attributes that are not shared."""
    movers: tuple[Mover, ...]
    people: PeopleChanges
    corrections: CorrectionChanges
    questions: tuple[QuestionChange, ...]

    uncovered: int
    """Faces of the old release in files that both have analysed, which lack something under the new one."""

    @property
    def covered(self) -> float:
        """Share of the old release's faces that have everything of the new one, or that its finder does not find."""
        return (self.faces.compared - self.uncovered) / self.faces.before if self.faces.before else 1.0


@dataclass(frozen=True, slots=True)
class ComparedRelease:
    """A release to compare."""

    name: str
    ids: ReleaseIds


def read_diff(sessions: sessionmaker[Session], before: ComparedRelease, after: ComparedRelease) -> ReleaseDiff:
    """Compare the rows of two releases over the archive.

    Args:
        sessions: of a role that may create temporary tables.
        before: the old release.
        after: the new one.
    """
    old, new = before.ids, after.ids
    tasks = sorted({*old.readings, *new.readings})
    with sessions() as session:
        faces = make_pairs(session, old, new)
        heads = tuple(head_changes(session, task, old, new) for task in tasks)
        differing = [head.head for head in heads if not head.is_shared]
        compared = (attribute_changes(session, task, old, new) for task in differing)
        attributes = tuple(one for one in compared if one is not None)
        found = ReleaseDiff(
            before=before.name,
            after=after.name,
            faces=faces,
            heads=tuple(_with_attributes(head, attributes) for head in heads),
            drift=tuple(one for task in differing for one in drift(session, task, old, new)),
            attributes=attributes,
            movers=tuple(one for task in differing for one in biggest_movers(session, task, old, new)),
            people=people_changes(session, old, new),
            corrections=correction_changes(session, old, new),
            uncovered=uncovered(session, old, new),
            questions=tuple(question_changes(sessions, old, new)),
        )
        session.rollback()
    return found


def _with_attributes(head: HeadChanges, attributes: Sequence[AttributeChanges]) -> HeadChanges:
    """Count the faces of a head of attributes by them, since it gives no labels."""
    changed = next((one.changed for one in attributes if one.head == head.head), 0)
    return replace(head, unchanged=head.unchanged - changed, changed=head.changed + changed)
