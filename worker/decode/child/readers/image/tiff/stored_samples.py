"""Reads the stored samples of TIFF pages that Pillow refuses or misreads (deep, planar, float, big-endian)."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from worker.decode.child.readers.image.samples import CHANNELS, Samples
from worker.decode.child.readers.image.tiff import tiff
from worker.errors import MediaRejected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worker.decode.child.readers.image.samples import Colour
    from worker.decode.child.readers.image.tiff.tiff import Directory

    Array = NDArray[Any]
    Bytes = NDArray[np.uint8]

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, ZSTD, LZMA = 1, 5, 8, 32946, 32773, 50000, 34925
COMPRESSIONS = frozenset({NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, ZSTD, LZMA})
PREDICTABLE = frozenset({LZW, DEFLATE, OLD_DEFLATE, ZSTD, LZMA})  # compressions that may store differences
STRIP_CHUNK_BYTES = 1 << 24  # read at a time, of a strip without compression
# By photometric interpretation.
PHOTOMETRIC_COLOURS: dict[int, Colour] = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 8: "lab", 9: "lab"}
WHITE_IS_ZERO, ICC_LAB = 0, 9
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
INTEGER_BITS, FLOAT_BITS = range(1, 33), (16, 32, 64)
MAX_SAMPLES = 64  # channels of one image: more are measurements, not colours


@dataclass(frozen=True, slots=True)
class Layout:
    """Storage of the samples of a page."""

    width: int
    height: int
    samples: int
    bits: int
    kind: int
    """Sample format."""
    compression: int
    predictor: int
    planar: bool
    order: str

    @classmethod
    def of(cls, page: Directory) -> Layout:
        """Read the layout from a directory.

        Raises:
            MediaRejected: images of this layout are not read.
        """
        bits, kinds = page.values(tiff.BITS) or (1,), page.values(tiff.SAMPLE_FORMAT) or (UNSIGNED,)
        layout = cls(
            *page.size,
            page.value(tiff.SAMPLES, 1),
            bits[0],
            kinds[0],
            packing := page.value(tiff.COMPRESSION, NONE),
            page.value(tiff.PREDICTOR, 1) if packing in PREDICTABLE else 1,
            page.value(tiff.PLANAR, 1) == 2,
            page.order,
        )
        readable = FLOAT_BITS if kinds[0] == FLOAT else INTEGER_BITS
        known = (
            len(set(bits)) == len(set(kinds)) == 1
            and bits[0] in readable
            and kinds[0] in {UNSIGNED, SIGNED, FLOAT, UNDEFINED}
            and layout.compression in COMPRESSIONS
            and layout.predictor in {1, 2, 3}
            and (layout.predictor == 1 or bits[0] in {8, 16, 32, 64})
            and 0 < layout.samples <= MAX_SAMPLES
        )
        if not known:
            raise MediaRejected("unsupported_format", f"a TIFF of a kind that is not read ({_words(page)}): {_ADVICE}")
        return layout

    @property
    def channels(self) -> int:
        """Samples of a pixel that lie side by side."""
        return 1 if self.planar else self.samples

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples in memory."""
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        letter = {FLOAT: "f", SIGNED: "i"}.get(self.kind, "u")
        return np.dtype(f"{letter}{size // 8}")


_ADVICE = "convert it to 8 or 16 bits without compression"


def _words(page: Directory) -> str:
    bits = "/".join(str(value) for value in page.values(tiff.BITS)[:5]) or "1"
    packing, colour = page.value(tiff.COMPRESSION, 1), page.value(tiff.PHOTOMETRIC, 0)
    return f"{bits} bits, sample format {page.value(tiff.SAMPLE_FORMAT, 1)}, compression {packing}, colour {colour}"


def read_samples(file: BinaryIO, page: Directory) -> Samples:
    """Read the samples of one page.

    Raises:
        MediaRejected: the file is truncated, damaged, or of a kind that is not read.
    """
    layout = Layout.of(page)
    photometric = page.value(tiff.PHOTOMETRIC, 1)
    colour = PHOTOMETRIC_COLOURS.get(photometric)
    others = page.value(tiff.INK_SET, 1) != 1 and colour == "cmyk"
    deep_palette = colour == "palette" and layout.bits > 8
    if colour is None or others or deep_palette or layout.samples < CHANNELS[colour]:
        raise MediaRejected("unsupported_format", f"a TIFF of a kind that is not read ({_words(page)}): {_ADVICE}")
    values = _read_planes(file, page, layout)
    if photometric == ICC_LAB:
        values[..., 1:3] ^= np.array(1 << (layout.bits - 1), values.dtype)
    profile = page.fields.get(tiff.PROFILE)
    return Samples(
        values=values,
        bits=layout.bits,
        colour=colour,
        inverted=photometric == WHITE_IS_ZERO,
        alpha=_alpha(page, colour),
        top=_stated_top(page, layout),
        palette=_palette(page) if colour == "palette" else None,
        profile=profile.raw if profile else None,
    )


def _alpha(page: Directory, colour: Colour) -> Any:
    if colour not in {"grey", "rgb"} or page.value(tiff.SAMPLES, 1) <= CHANNELS[colour]:
        return "none"
    return {1: "premultiplied", 2: "straight"}.get(page.value(tiff.EXTRA_SAMPLES, 0), "none")


def _stated_top(page: Directory, layout: Layout) -> int | None:
    """Return the largest sample value that the file states, if it is a full scale of whole bits."""
    top = page.value(tiff.MAX_VALUE, 0)
    whole = top >= 255 and not top & (top + 1) and top < 2**layout.bits - 1
    return top if whole and layout.bits > 8 else None


def _palette(page: Directory) -> NDArray[np.uint8]:
    table = np.array(page.values(tiff.COLOUR_MAP), np.uint32)
    table = table[: len(table) // 3 * 3].reshape(3, -1).T
    return (table // (256 if table.max(initial=0) > 255 else 1)).astype(np.uint8)


def _read_planes(file: BinaryIO, page: Directory, layout: Layout) -> Array:
    planes = layout.samples if layout.planar else 1
    segments = _segments(file, page)
    if not segments or len(segments) % planes:
        raise MediaRejected("corrupt", f"{len(segments)} strips or tiles for {planes} planes of a TIFF image")
    each = len(segments) // planes
    values = np.empty((layout.height, layout.width, layout.samples), layout.dtype)
    for plane in range(planes):
        target = values[..., plane : plane + 1] if layout.planar else values
        part = segments[plane * each : (plane + 1) * each]
        if tiff.TILE_OFFSETS in page.fields:
            _read_tiles(file, page, layout, part, target)
        else:
            _read_strips(file, page, layout, part, target)
    return values


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A strip or tile, or a part of a strip, in the file."""

    offset: int
    byte_size: int


def _segments(file: BinaryIO, page: Directory) -> list[StoredSegment]:
    """Return all strips or tiles; without stored lengths, the last one may reach to the end of the file."""
    tiled = tiff.TILE_OFFSETS in page.fields
    offsets = page.values(tiff.TILE_OFFSETS if tiled else tiff.STRIP_OFFSETS)
    lengths = page.values(tiff.TILE_BYTES if tiled else tiff.STRIP_BYTES)
    end = file.seek(0, 2)
    if len(lengths) != len(offsets):
        lengths = tuple(
            max(0, following - offset) for offset, following in zip(offsets, (*offsets[1:], end), strict=True)
        )
    if page.value(tiff.COMPRESSION, NONE) == NONE and not any(
        lengths
    ):  # the writer left them out, and they are not needed
        lengths = tuple(max(0, end - offset) for offset in offsets)
    return [StoredSegment(offset, length) for offset, length in zip(offsets, lengths, strict=True)]


def breaks_off(file: BinaryIO, page: Directory) -> bool:
    """Return whether the file ends before a strip or tile does."""
    ends = [one.offset + one.byte_size for one in _segments(file, page)]
    return max(ends, default=0) > file.seek(0, 2)


def _read_strips(file: BinaryIO, page: Directory, layout: Layout, segments: list[StoredSegment], target: Array) -> None:
    rows = min(page.value(tiff.ROWS_PER_STRIP, layout.height) or layout.height, layout.height)
    if len(segments) < -(-layout.height // rows):
        raise MediaRejected(
            "corrupt", f"{len(segments)} strips of {rows} rows for {layout.height} rows of a TIFF image"
        )
    for start, segment in zip(range(0, layout.height, rows), segments, strict=False):
        count = min(rows, layout.height - start)
        for part in _parts(layout, segment, count):
            place = target[start + part.first_row : start + min(part.first_row + part.rows, count)]
            place[:] = _block(file, page, layout, part.segment, (len(place), layout.width))


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a strip."""

    first_row: int
    """In the strip."""
    rows: int
    segment: StoredSegment


def _parts(layout: Layout, segment: StoredSegment, rows: int) -> Iterator[_Part]:
    """Divide a strip that is not packed; other strips are one part."""
    row_bytes = -(-layout.width * layout.channels * layout.bits // 8)
    each = max(1, STRIP_CHUNK_BYTES // row_bytes) if layout.compression == NONE else rows
    if each >= rows:
        yield _Part(0, rows, segment)
        return
    for first in range(0, rows, each):
        wanted = min(each, rows - first) * row_bytes
        length = max(0, min(wanted, segment.byte_size - first * row_bytes))
        yield _Part(first, each, StoredSegment(segment.offset + first * row_bytes, length))


def _read_tiles(file: BinaryIO, page: Directory, layout: Layout, segments: list[StoredSegment], target: Array) -> None:
    width, height = page.value(tiff.TILE_WIDTH, 0), page.value(tiff.TILE_LENGTH, 0)
    if not (0 < width <= 1 << 16 and 0 < height <= 1 << 16):
        raise MediaRejected("corrupt", f"tiles of {width} x {height} pixels")
    places = [(y, x) for y in range(0, layout.height, height) for x in range(0, layout.width, width)]
    if len(segments) < len(places):
        raise MediaRejected("corrupt", f"{len(segments)} tiles where a TIFF image needs {len(places)}")
    for (y, x), segment in zip(places, segments, strict=False):
        place = target[y : y + height, x : x + width]
        place[:] = _block(file, page, layout, segment, (height, width))[: place.shape[0], : place.shape[1]]


def _block(file: BinaryIO, page: Directory, layout: Layout, segment: StoredSegment, size: tuple[int, int]) -> Array:
    """Return one strip or tile as (rows, columns, channels)."""
    rows, columns = size
    row_bytes = -(-columns * layout.channels * layout.bits // 8)
    file.seek(segment.offset)
    packed = file.read(segment.byte_size)
    if len(packed) < segment.byte_size or (layout.compression == NONE and segment.byte_size < rows * row_bytes):
        raise MediaRejected("truncated", f"a part of the TIFF image has {len(packed)} of {segment.byte_size} bytes")
    if page.value(tiff.FILL_ORDER, 1) == 2:
        packed = _reversed_bits(packed)
    data = _unpacked(packed, layout.compression, (rows, row_bytes))
    return _numbers(data, layout, columns)


def _reversed_bits(packed: bytes) -> bytes:
    return np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")).tobytes()


def _unpacked(packed: bytes, compression: int, shape: tuple[int, int]) -> Bytes:
    wanted = shape[0] * shape[1]
    if compression == NONE:
        return np.frombuffer(packed, np.uint8, wanted).reshape(shape)
    if compression in {DEFLATE, OLD_DEFLATE}:
        data = zlib.decompressobj().decompress(packed, wanted)
        if len(data) < wanted:
            raise MediaRejected("truncated", f"a part of the TIFF image holds {len(data)} of {wanted} bytes")
        return np.frombuffer(data, np.uint8).reshape(shape)
    return unpack_strips([packed], compression, shape, shape[0])


def unpack_strips(strips: Sequence[bytes], compression: int, shape: tuple[int, int], rows_per_strip: int) -> Bytes:
    """Unpack strips with Pillow's libtiff, which gets them as an eight-bit grey image.

    Args:
        strips: compressed bytes.
        compression: number of the method.
        shape: rows, and bytes of a row.
        rows_per_strip: of all strips but the last.
    """
    rows, row_bytes = shape
    count = len(strips)
    fields = [
        (tiff.WIDTH, 4, 1, row_bytes),
        (tiff.LENGTH, 4, 1, rows),
        (tiff.BITS, 3, 1, 8),
        (tiff.COMPRESSION, 3, 1, compression),
        (tiff.PHOTOMETRIC, 3, 1, 1),
        (tiff.STRIP_OFFSETS, 4, count, 0),
        (tiff.SAMPLES, 3, 1, 1),
        (tiff.ROWS_PER_STRIP, 4, 1, rows_per_strip),
        (tiff.STRIP_BYTES, 4, count, 0),
    ]
    behind = 8 + 2 + 12 * len(fields) + 4
    lengths = np.array([len(strip) for strip in strips], np.int64)
    offsets = behind + 8 * count + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    tables = {tiff.STRIP_OFFSETS: (offsets, behind), tiff.STRIP_BYTES: (lengths, behind + 4 * count)}
    body = struct.pack("<2sHIH", b"II", 42, 8, len(fields))
    for tag, kind, number, value in fields:
        if tag in tables:
            numbers, at = tables[tag]
            value = int(numbers[0]) if count == 1 else at  # noqa: PLW2901 - a field holds its value or an offset
        body += struct.pack("<HHII", tag, kind, number, value)
    body += bytes(4) + offsets.astype("<u4").tobytes() + lengths.astype("<u4").tobytes()
    with _any_size(), Image.open(io.BytesIO(b"".join([body, *strips])), formats=("TIFF",)) as image:
        return np.asarray(image)


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit of pixels: the pixels of this image were counted before."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _numbers(data: Bytes, layout: Layout, columns: int) -> Array:
    """Convert rows of bytes to (rows, columns, channels) numbers, and undo the prediction."""
    rows, channels = len(data), layout.channels
    if layout.bits not in {8, 16, 32, 64}:
        return _from_bits(data, layout, columns)
    width = layout.bits // 8
    if layout.predictor == 3:
        planes = np.cumsum(data.reshape(rows, -1, channels), axis=1, dtype=np.uint8).reshape(rows, width, -1)
        whole = np.ascontiguousarray(planes.transpose(0, 2, 1))
        return whole.view(layout.dtype.newbyteorder(">")).reshape(rows, columns, channels)
    numbers = (
        np.ascontiguousarray(data)
        .view(layout.dtype.newbyteorder("<" if layout.order == "<" else ">"))
        .reshape(rows, columns, channels)
    )
    if layout.predictor == 2:
        whole_numbers = np.dtype(f"u{width}")
        differences = numbers.astype(layout.dtype).view(whole_numbers)
        numbers = np.cumsum(differences, axis=1, dtype=whole_numbers).view(layout.dtype)
    return numbers


def _from_bits(data: Bytes, layout: Layout, columns: int) -> Array:
    """Unpack samples of odd sizes: most significant bit first, rows begin at whole bytes."""
    count = columns * layout.channels
    values = np.empty((len(data), count), layout.dtype)
    weights = 1 << np.arange(layout.bits - 1, -1, -1, dtype=np.int64)
    for row, line in enumerate(data):
        bits = np.unpackbits(line, count=count * layout.bits).reshape(count, layout.bits)
        values[row] = bits @ weights
    return values.reshape(len(data), columns, layout.channels)
