"""Where the numbers of an answer lead to."""

from __future__ import annotations

from dataclasses import dataclass

PAGES = {
    "person_id": "/people/",
    "media_id": "/media/",
    "job_id": "/jobs/",
    "last_job_id": "/jobs/",
}
FACES = {"face_id": "/faces/", "best_face_id": "/faces/", "appearance_id": "/appearances/"}


@dataclass(frozen=True, slots=True)
class Link:
    """The page or the picture of the number in a column; both are empty of any other column."""

    page: str = ""
    picture: str = ""


def link_of(column: str) -> Link:
    """Return where the numbers of a column lead to."""
    return Link(PAGES.get(column, ""), FACES.get(column, ""))
