"""Metadata of a video: the tags of its container, by the names that FFmpeg gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.decode.child.readers.tags import camera_name, merge_tags, parse_iso_6709, parse_time
from worker.decode.wire import MAX_KEYWORDS
from worker.types import MediaTags

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

APPLE = "com.apple.quicktime."
# In the order in which they are believed: a date with the zone of the place comes before one in UTC.
TIMES = (f"{APPLE}creationdate", "date_recorded", "creation_time", "date")
MAKES = (f"{APPLE}make", "com.android.manufacturer", "make")
MODELS = (f"{APPLE}model", "com.android.model", "model")
PLACES = (f"{APPLE}location.iso6709", "location", "location-eng")
TITLES = (f"{APPLE}title", f"{APPLE}displayname", "title")
DESCRIPTIONS = (f"{APPLE}description", "description", "synopsis", "comment")
CREATORS = (f"{APPLE}author", f"{APPLE}artist", "author", "artist", "director")
COPYRIGHTS = (f"{APPLE}copyright", "copyright")
KEYWORDS = (f"{APPLE}keywords", "keywords")


def read_video_tags(container: InputContainer, stream: VideoStream) -> MediaTags:
    """Return the metadata of an open video."""
    tags = {name.lower(): value for name, value in {**stream.metadata, **container.metadata}.items()}

    def first(names: tuple[str, ...]) -> str | None:
        return next((tags[name].strip() for name in names if tags.get(name, "").strip()), None)

    taken = next((time for name in TIMES if (time := parse_time(tags.get(name)))), None)
    where = parse_iso_6709(first(PLACES))
    keywords = [word.strip() for word in (first(KEYWORDS) or "").split(",")]
    found = MediaTags(
        taken_at=taken[0] if taken else None,
        utc_offset=taken[1] if taken else None,
        camera=camera_name(first(MAKES), first(MODELS)),
        latitude=where[0] if where else None,
        longitude=where[1] if where else None,
        title=first(TITLES),
        description=first(DESCRIPTIONS),
        creator=first(CREATORS),
        copyright=first(COPYRIGHTS),
        keywords=tuple(word for word in keywords if word)[:MAX_KEYWORDS],
    )
    return merge_tags([found])
