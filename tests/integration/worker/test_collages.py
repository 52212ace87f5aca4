"""Images that show one person several times, through the shipped model: one person, and never two as one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from models.release import load_release
from worker.cli.demo import SAMPLE_IMAGES, _open
from worker.identity.grouping.assign import AppearanceEmbeddings, GalleryPeople, assign, regroup
from worker.identity.grouping.in_view import Sightings
from worker.identity.search.photo import find_faces

FACES = {"collins": (120, 0, 330, 260), "hopper": (130, 40, 390, 360)}  # the head of each image
SIDE = 220


def head(name, side=SIDE):
    return _open(*SAMPLE_IMAGES[name]).crop(FACES[name]).resize((side, side), Image.Resampling.LANCZOS)


def shifted(image, share):
    """Return the image seen from a little to the side, as in the next exposure."""
    width, height = image.size
    return image.crop((int(share * width), 0, width, int((1 - share) * height))).resize(image.size)


LOOKS = {
    "plain": lambda image: image,
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "sepia": lambda image: ImageOps.colorize(image.convert("L"), "#201008", "#f0e0c0"),
    "turned": lambda image: image.rotate(12, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)),
    "soft": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "small": lambda image: ImageOps.pad(image.resize((SIDE // 2, SIDE // 2)), (SIDE, SIDE), color=(60, 70, 80)),
    "nearer": lambda image: shifted(image, 0.1),
}


def grid(columns, *cells):
    """A collage of heads, each as NAME or NAME/LOOK."""
    rows = -(-len(cells) // columns)
    image = Image.new("RGB", (columns * (SIDE + 8), rows * (SIDE + 8)), "white")
    for place, cell in enumerate(cells):
        name, _, look = cell.partition("/")
        spot = (place % columns * (SIDE + 8) + 4, place // columns * (SIDE + 8) + 4)
        image.paste(LOOKS[look or "plain"](head(name)), spot)
    return image


COLLAGES = {
    "strip of a booth": (grid(1, "collins", "collins/nearer", "collins/dark", "collins/turned"), 1),
    "strip lying down": (grid(4, "hopper", "hopper/nearer", "hopper/soft", "hopper/mirrored"), 1),
    "two by two": (grid(2, "collins", "collins/mirrored", "collins/grey", "collins/sepia"), 1),
    "three by three": (grid(3, *(f"collins/{look}" for look in [*LOOKS][:-1]), "hopper"), 2),
    "mirror": (grid(2, "hopper", "hopper/mirrored"), 1),
    "colour and grey": (grid(2, "hopper", "hopper/grey"), 1),
    "a photo in the photo": (grid(2, "collins", "collins/small"), 1),
    "before and after": (grid(2, "hopper/dark", "hopper/sepia"), 1),
    "the same image twice": (grid(2, "collins", "collins"), 1),
    "two people": (grid(2, "collins", "hopper"), 2),
    "two people in two looks": (grid(2, "collins", "hopper", "collins/mirrored", "hopper/mirrored"), 2),
    "two people in grey": (grid(2, "collins/grey", "hopper/grey", "hopper/soft", "collins/soft"), 2),
    "contact sheet": (grid(3, "hopper", "hopper/dark", "collins", "collins/dark", "hopper/nearer", "collins/soft"), 2),
}


@pytest.fixture(scope="module")
def release():
    return load_release(None, device="cpu", heads=frozenset())


@pytest.fixture(scope="module")
def look_at(release):
    """Find the faces of a collage, each collage once."""
    return cache(lambda name: seen_in(release, COLLAGES[name][0], first=1))


@pytest.fixture(scope="module")
def portraits(release):
    return seen_in(release, *(head(name) for name in FACES for _ in range(2)))


def seen_in(release, *images, first=10):
    """The faces of files, numbered from ``first``, as identification sees them."""
    found = [(first + n, face.probe) for n, one in enumerate(images) for face in find_faces(np.array(one), release)]
    return AppearanceEmbeddings(
        embeddings=np.stack([probe.embedding for _, probe in found]),
        quality=np.array([probe.quality for _, probe in found], np.float32),
        media=np.array([file for file, _ in found]),
        start_seconds=np.zeros(len(found)),
        end_seconds=np.zeros(len(found)),
    )


@pytest.mark.parametrize("name", COLLAGES)
def test_a_collage_is_as_many_people_as_it_shows(look_at, portraits, name):
    _, people = COLLAGES[name]
    collage = look_at(name)
    assert len(collage) >= people
    alone = regroup(collage)
    assert len(set(alone.tolist())) == people
    # with portraits of both, in one batch, regrouped, and as known people in either order
    both = AppearanceEmbeddings.cat([collage, portraits])
    assert len(set(regroup(both).tolist())) == 2
    assert len(set(assign(both).newcomer.tolist())) == 2
    known = GalleryPeople.of(np.array([7, 7, 8, 8]), portraits.embeddings, portraits.quality)
    found = assign(collage, [known])
    assert set(found.person.tolist()) <= {7, 8}
    assert len(set(found.person.tolist())) == people


@pytest.mark.parametrize("name", ["strip of a booth", "two people in two looks", "three by three"])
def test_a_collage_that_comes_face_by_face_is_the_same_people(look_at, name):
    """As in a video with a split screen, whose appearances come in several batches."""
    _, people = COLLAGES[name]
    collage = look_at(name)
    person, made = np.full(len(collage), -1), 0
    for row in range(len(collage)):
        seen = np.flatnonzero(person >= 0)
        known = GalleryPeople.of(person[seen], collage.embeddings[seen], collage.quality[seen])
        rest = collage[seen]
        sightings = Sightings(
            person=person[seen],
            media=rest.media,
            start_seconds=rest.start_seconds,
            end_seconds=rest.end_seconds,
            embeddings=rest.embeddings,
            quality=rest.quality,
        )
        found = assign(collage[np.array([row])], [known], sightings=sightings)
        person[row] = found.person[0] if found.person[0] >= 0 else made
        made += found.person[0] < 0
    assert made == people
