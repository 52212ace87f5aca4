"""Writers of TIFF and Photoshop files, so that every depth, order and packing has a twin whose pixels are known."""

import struct
import warnings
import zlib
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from worker.decode.child.readers.image import image_reader
from worker.decode.child.readers.image.image_reader import open_image
from worker.types import DecodeLimits, DecodeRequest

PACKINGS = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773}


@pytest.fixture(scope="module")
def codecs():
    with warnings.catch_warnings():
        before = Image.MAX_IMAGE_PIXELS
        image_reader.load_codecs()
        yield
        Image.MAX_IMAGE_PIXELS = before


@pytest.fixture
def made(codecs, tmp_path):
    return Maker(tmp_path)


def painted():
    """(41, 53, 3) uint8: smooth, with all brightnesses and no symmetry."""
    y, x = np.mgrid[0:41, 0:53]
    red = 255 * x / 52
    green = 255 * y / 40
    blue = 127 + 127 * np.sin(x / 7.0 + y / 11.0)
    return np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8)


class Maker:
    """Writes files into a folder and reads them."""

    def __init__(self, folder):
        self.folder = folder
        self.portrait = painted()

    @staticmethod
    def read(path, rate=None, **limits):
        """Return description, frames and notes of an image."""
        wanted = DecodeRequest(location=str(path), kind="image", frames_per_second=rate)
        with closing(open_image(str(path), DecodeLimits(**limits))) as still:
            frames = list(still.frames(wanted))
            return still.info, frames, list(still.notes)

    @staticmethod
    def page(values, bits=8, **options):
        return Page(values, bits, **options)

    @staticmethod
    def tiff(*pages, **options):
        return write_tiff(*pages, **options)

    @staticmethod
    def psd(channels, mode, **options):
        return write_psd(channels, mode, **options)


def lzw(data):
    """Pack bytes by TIFF's LZW without any repetition: literals only, the table cleared before it grows."""
    codes = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def packbits(data):
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


PACK = {"none": bytes, "lzw": lzw, "deflate": zlib.compress, "packbits": packbits}


class Page:
    """One image of a TIFF file to be written."""

    def __init__(
        self,
        values,
        bits=8,
        *,
        colour=2,
        order="<",
        packing="none",
        predictor=1,
        planar=False,
        tile=None,
        rows=16,
        **more,
    ):
        self.values = values.reshape(*values.shape[:2], -1)
        self.bits, self.order, self.packing, self.predictor = bits, order, packing, predictor
        self.planar, self.tile, self.rows = planar, tile, rows
        self.data = [PACK[packing](part) for part in self._parts()]
        height, width, samples = self.values.shape
        kind = {"f": 3, "i": 2}.get(values.dtype.kind, 1)
        self.fields = {
            256: width, 257: height, 258: (bits,) * samples, 259: PACKINGS[packing], 262: colour, 277: samples,
            284: 2 if planar else 1, 317: predictor, 339: (kind,) * samples,
        }  # fmt: skip
        self.fields |= {322: tile, 323: tile} if tile else {278: rows}
        self.fields |= {int(tag.removeprefix("tag_")): value for tag, value in more.items()}

    def _parts(self):
        planes = np.split(self.values, self.values.shape[2], axis=2) if self.planar else [self.values]
        for plane in planes:
            height, width, _ = plane.shape
            if self.tile:
                padded = np.pad(plane, ((0, -height % self.tile), (0, -width % self.tile), (0, 0)), "edge")
                for y in range(0, height, self.tile):
                    for x in range(0, width, self.tile):
                        yield self._raw(padded[y : y + self.tile, x : x + self.tile])
            else:
                for y in range(0, height, self.rows):
                    yield self._raw(plane[y : y + self.rows])

    def _raw(self, block):
        if self.bits not in {8, 16, 32, 64}:
            flat = block.reshape(len(block), -1)
            bits = flat[..., None] >> np.arange(self.bits - 1, -1, -1) & 1
            return np.packbits(bits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
        if self.predictor == 3:
            wide = np.ascontiguousarray(block.astype(block.dtype.newbyteorder(">"))).view(np.uint8)
            planes = wide.reshape(len(block), -1, self.bits // 8).transpose(0, 2, 1).reshape(len(block), -1)
            lead = planes.reshape(len(block), -1, block.shape[2])
            return np.diff(lead, axis=1, prepend=np.zeros_like(lead[:, :1])).tobytes()
        if self.predictor == 2:
            whole = np.ascontiguousarray(block).view(f"u{self.bits // 8}")
            block = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
        return block.astype(block.dtype.newbyteorder(self.order)).tobytes()


def write_tiff(*pages, order="<", big=False, below=()):
    """Return the bytes of a file; ``below`` are directories that the first page names."""
    mark = b"II" if order == "<" else b"MM"
    body = bytearray(mark + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0))))
    word = "Q" if big else "I"
    inner = [_append(body, page, order, big)[0] for page in below]
    link = len(body[:8]) if big else 4
    for number, page in enumerate(pages):
        extra = {330: tuple(inner)} if inner and not number else {}
        start, following = _append(body, page, order, big, extra)
        struct.pack_into(order + word, body, link, start)
        link = following
    return bytes(body)


def _append(body, page, order, big, extra=None):
    """Write a page's data and directory; returns where it begins and where the place of the next one is stored."""
    offsets = []
    for part in page.data:
        offsets.append(len(body))
        body += part + bytes(len(part) % 2)
    lengths = tuple(len(part) for part in page.data)
    places = {324: tuple(offsets), 325: lengths} if page.tile else {273: tuple(offsets), 279: lengths}
    fields = sorted((page.fields | places | (extra or {})).items())
    word = "Q" if big else "I"
    entries = []
    for tag, value in fields:
        kind, count, raw = _encoded(value, order, big and tag in {273, 279, 324, 325, 330})
        if len(raw) > (8 if big else 4):
            at = len(body)
            body += raw + bytes(len(raw) % 2)
            raw = struct.pack(order + word, at)
        entries.append(struct.pack(order + "HH" + word, tag, kind, count) + raw.ljust(8 if big else 4, b"\0"))
    start = len(body)
    body += struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries)
    body += bytes(8 if big else 4)
    return start, len(body) - (8 if big else 4)


def _encoded(value, order, long):
    if isinstance(value, bytes):
        return 7, len(value), value
    numbers = value if isinstance(value, tuple) else (value,)
    kind, code = (16, "Q") if long else (4, "I") if max(numbers) > 65535 else (3, "H")
    return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{code}", *numbers)


def write_psd(channels, mode, *, bits=8, method=0, layers=0, colours=b"", big=False, block=None):
    """Return a file of (C, H, W) channels as they are stored; a negative count of layers means transparency."""
    count, height, width = channels.shape
    head = b"8BPS" + struct.pack(">H6xHIIHH", 2 if big else 1, count, height, width, bits, mode)
    long = ">Q" if big else ">I"
    info = struct.pack(">hH", layers, 0) if layers else b""
    section = struct.pack(long, len(info)) + info + struct.pack(">I", 0)
    if block:
        section += b"8BIM" + block + struct.pack(">I", 4) + struct.pack(">hH", layers, 0)
    head += struct.pack(">I", len(colours)) + colours + struct.pack(">I", 0)
    head += struct.pack(long, len(section)) + section + struct.pack(">H", method)
    stored = np.packbits(channels, axis=2) if bits == 1 else channels.astype(channels.dtype.newbyteorder(">"))
    if method == 1:
        rows = [packbits(row.tobytes()) for row in stored.reshape(count * height, -1)]
        return head + b"".join(struct.pack(">I" if big else ">H", len(row)) for row in rows) + b"".join(rows)
    return head + (zlib.compress(stored.tobytes()) if method == 2 else stored.tobytes())
