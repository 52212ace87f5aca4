"""Facet: who appears where in a media archive.

    import facet

    with facet.open("~/archive-home") as archive:
        archive.analyze("~/photos", "video.mp4")
        people = archive.sql("SELECT * FROM people").to_pandas()
        hits = archive.search("somebody.jpg")

    faces = facet.load_release().faces("photo.jpg")

`open` takes a home folder or the address of a PostgreSQL; `load_release` needs no database.
"""

from db.errors import QueryError
from facet.archive import Archive, MatchedFace, open  # noqa: A004 - read as facet.open
from facet.faces import Answer, Face, FaceModel, load_release
from worker.errors import FacetError, UsageError

__all__ = [
    "Answer",
    "Archive",
    "Face",
    "FaceModel",
    "FacetError",
    "MatchedFace",
    "QueryError",
    "UsageError",
    "load_release",
    "open",
]
