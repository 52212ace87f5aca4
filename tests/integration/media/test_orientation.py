"""The orientation of a file comes out of the decode child: how its stored pixels lie, beside its upright size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from worker.decode.client import Decoder
from worker.decode.wire import info_from_meta
from worker.types import DecodeLimits, DecodeRequest

ORIENTATION = 0x0112
SIZE = (64, 48)


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits()) as decoder:
        yield decoder


def marked():
    """Return an image whose stored top left corner alone is bright."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:16, :16] = 255
    return Image.fromarray(pixels)


# Where the stored top left corner is shown, as the standard has it: in x and y, 0 for left and top.
CORNERS = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_orientation_is_reported_with_the_upright_size(decoder, tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    marked().save(tmp_path / name, exif=exif)
    with decoder.open(DecodeRequest(location=str(tmp_path / name), kind="image")) as stream:
        info, (frame,) = stream.info, list(stream)
    assert info.orientation == orientation
    assert (info.width, info.height) == (SIZE[::-1] if orientation > 4 else SIZE)
    height, width, _ = frame.pixels.shape
    x, y = CORNERS[orientation]
    assert frame.pixels[y * (height - 1), x * (width - 1)].min() > 128
    assert frame.pixels[(1 - y) * (height - 1), (1 - x) * (width - 1)].max() < 128


def test_a_file_without_or_with_a_wrong_orientation_is_upright(decoder, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    marked().save(tmp_path / "wrong.jpg", exif=exif)
    marked().save(tmp_path / "none.jpg")
    assert [decoder.probe(str(tmp_path / f"{name}.jpg"), "image").orientation for name in ("wrong", "none")] == [1, 1]


@pytest.mark.parametrize("lie", [0, 9, -1, "sideways"])
def test_a_child_that_states_another_number_is_not_believed(lie):
    info = {"kind": "image", "format": "jpeg", "width": 4, "height": 4, "orientation": lie}
    with pytest.raises(ValueError, match=r"described a file|invalid literal"):
        info_from_meta({"info": info, "engine": "pillow"})
