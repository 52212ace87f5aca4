"""Photoshop files: the merged image, whatever is saved in further channels."""

import io

import numpy as np
import pytest
from PIL import Image

from worker.errors import MediaRejected

BITMAP, GREY, INDEXED, RGB, CMYK, MULTICHANNEL, LAB = 0, 1, 2, 3, 4, 7, 9


def planes(picture, mode):
    """Return the channels of an image as Photoshop stores them."""
    if mode == GREY:
        return picture[..., 1][None]
    if mode == CMYK:  # 255 is no ink
        inks = np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=2)
        return inks.transpose(2, 0, 1)
    return picture.transpose(2, 0, 1)


def expected(picture, mode):
    return picture[..., 1:2] if mode == GREY else picture


def difference(pixels, picture):
    assert pixels.shape[:2] == picture.shape[:2]
    return np.abs(pixels.astype(float) - picture).mean()


@pytest.mark.parametrize("method", [0, 1, 2])
@pytest.mark.parametrize("selections", [0, 1, 2, 4])
@pytest.mark.parametrize("mode", [GREY, RGB, CMYK])
@pytest.mark.parametrize("bits", [8, 16])
def test_selections_change_nothing(made, mode, selections, method, bits):
    channels = planes(made.portrait, mode)
    masks = np.zeros((selections, *channels.shape[1:]), np.uint8)
    masks[:, 5:20, 3:9] = 255
    masks[:, :, 30:] = np.arange(masks.shape[2] - 30)  # rows that pack differently
    stored = np.concatenate([channels, masks])
    if bits == 16:
        stored = stored.astype(np.uint16) * 257
    path = made.folder / "a.psd"
    path.write_bytes(made.psd(stored, mode, bits=bits, method=method))
    info, (frame,), notes = made.read(path)
    assert (info.format, info.width, info.height, notes) == ("psd", 53, 41, [])
    assert difference(frame.pixels, expected(made.portrait, mode)) < 1.0


@pytest.mark.parametrize("block", [None, b"Lr16"])
@pytest.mark.parametrize("mode", [GREY, RGB])
@pytest.mark.parametrize("selections", [0, 2])
def test_transparency_of_layers_is_shown_on_white(made, mode, selections, block):
    channels = planes(made.portrait, mode)
    alpha = np.zeros((1, *channels.shape[1:]), np.uint8)
    alpha[:, :, :20] = 255
    stored = np.concatenate([channels, alpha, *[255 - alpha] * selections])
    path = made.folder / "a.psd"
    layers = {"layers": -1} if block is None else {"layers": -1, "block": block}
    path.write_bytes(made.psd(stored, mode, method=1, **layers))
    _, (frame,), _ = made.read(path)
    assert difference(frame.pixels[:, :20], expected(made.portrait, mode)[:, :20]) < 1.0
    assert (frame.pixels[:, 20:] == 255).all()


def test_layers_without_transparency_leave_selections_alone(made):
    stored = np.concatenate([planes(made.portrait, RGB), np.zeros((1, 41, 53), np.uint8)])
    (made.folder / "a.psd").write_bytes(made.psd(stored, RGB, layers=3))
    _, (frame,), _ = made.read(made.folder / "a.psd")
    assert difference(frame.pixels, made.portrait) == 0


@pytest.mark.parametrize("method", [0, 1])
def test_large_documents_are_read(made, method):
    (made.folder / "a.psb").write_bytes(made.psd(planes(made.portrait, RGB), RGB, method=method, big=True, layers=2))
    _, (frame,), _ = made.read(made.folder / "a.psb")
    assert difference(frame.pixels, made.portrait) == 0


def test_palettes_and_lines(made):
    quantized = Image.fromarray(made.portrait).quantize(200)
    table = np.zeros((256, 3), np.uint8)
    used = np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)
    table[: len(used)] = used
    colours = table.T.tobytes()
    (made.folder / "p.psd").write_bytes(made.psd(np.asarray(quantized)[None], INDEXED, colours=colours))
    _, (frame,), _ = made.read(made.folder / "p.psd")
    assert difference(frame.pixels, np.asarray(quantized.convert("RGB"))) == 0
    dark = (made.portrait[..., 0] < 100).astype(np.uint8)
    (made.folder / "b.psd").write_bytes(made.psd(dark[None], BITMAP, bits=1))
    _, (frame,), _ = made.read(made.folder / "b.psd")
    assert difference(frame.pixels, 255 * (1 - dark[..., None])) == 0


def test_light_in_floating_point_gets_the_curve_of_screens(made):
    share = made.portrait / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)
    for method in (0, 1):
        (made.folder / "f.psd").write_bytes(made.psd(planes(light, RGB), RGB, bits=32, method=method))
        _, (frame,), _ = made.read(made.folder / "f.psd")
        assert difference(frame.pixels, made.portrait) < 1.0


def test_lab_is_what_pillow_makes_of_it(made):
    lab = np.stack([made.portrait[..., 0], 100 + made.portrait[..., 1] // 5, 110 + made.portrait[..., 2] // 6]).astype(
        np.uint8
    )
    (made.folder / "8.psd").write_bytes(made.psd(lab, LAB, method=1))
    (made.folder / "16.psd").write_bytes(made.psd(lab.astype(np.uint16) << 8, LAB, bits=16))
    _, (narrow,), _ = made.read(made.folder / "8.psd")
    _, (wide,), _ = made.read(made.folder / "16.psd")
    assert np.array_equal(narrow.pixels, wide.pixels)
    stream = io.BytesIO((made.folder / "8.psd").read_bytes())
    assert narrow.pixels.std() > 20
    assert Image.open(stream).size == (53, 41)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda whole: whole[:20], "truncated"),
        (lambda whole: whole[:-30], "truncated"),
        (lambda whole: whole[:24] + b"\0\7" + whole[26:], "unsupported_format"),
        (lambda whole: whole[:22] + b"\0\3" + whole[24:], "corrupt"),
        (lambda whole: whole[:26] + b"\xff" * 4 + whole[30:], "truncated"),
    ],
)
def test_damage_and_strange_modes_have_their_words(made, changed, code):
    whole = made.psd(planes(made.portrait, RGB), RGB, method=1)
    (made.folder / "a.psd").write_bytes(changed(whole))
    with pytest.raises(MediaRejected) as caught:
        made.read(made.folder / "a.psd")
    assert caught.value.code == code, caught.value.reason
