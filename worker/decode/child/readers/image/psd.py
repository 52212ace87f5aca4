"""Reads the merged image of Photoshop files (PSD, PSB), without the selections in further channels.

Source: Adobe Photoshop File Formats Specification, November 2019.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from worker.decode.child.readers.image.samples import CHANNELS, Samples
from worker.decode.child.readers.image.tiff.stored_samples import PACKBITS, unpack_strips
from worker.errors import MediaRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.decode.child.readers.image.samples import Colour

    Array = NDArray[Any]

PSD_MAGICS = (b"8BPS\0\x01", b"8BPS\0\x02")
BITMAP, INDEXED = 0, 2
# By colour mode; multichannel (7) has no defined colours.
MODE_COLOURS: dict[int, Colour] = {
    BITMAP: "grey",
    1: "grey",
    INDEXED: "palette",
    3: "rgb",
    4: "cmyk",
    8: "grey",  # duotone: its grey image, without the inks
    9: "lab",
}
RAW, RLE, ZIP, ZIP_PREDICTED = range(4)
PROFILE_RESOURCE = 1039
MERGED_ALPHA_BLOCKS = frozenset({b"Mtrn", b"Mt16", b"Mt32"})
LAYER_BLOCKS = frozenset({b"Layr", b"Lr16", b"Lr32"})
# Blocks with a length of eight bytes in a PSB file.
LONG_BLOCKS = LAYER_BLOCKS | MERGED_ALPHA_BLOCKS | {b"LMsk", b"Alph", b"FMsk", b"lnk2", b"FEid", b"FXid", b"PxSD"}
MAX_BLOCKS = 1000
MAX_CHANNELS = 56


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file."""

    is_big: bool
    channels: int
    height: int
    width: int
    bits: int
    mode: int


def is_psd(head: bytes) -> bool:
    """Return whether a file has the signature of a Photoshop file."""
    return head[:6] in PSD_MAGICS


def read_header(file: BinaryIO) -> Header:
    """Read the header of a file.

    Raises:
        MediaRejected: it is damaged, or of a kind that is not read.
    """
    file.seek(0)
    head = _exactly(file, 26)
    channels, height, width, bits, mode = struct.unpack(">HIIHH", head[12:])
    if not (0 < channels <= MAX_CHANNELS and width and height and bits in {1, 8, 16, 32}):
        raise MediaRejected("corrupt", f"a PSD header of {channels} channels, {width} x {height} pixels, {bits} bits")
    colour = MODE_COLOURS.get(mode)
    if colour is None or (bits == 1) != (mode == BITMAP) or (mode == INDEXED and bits != 8):
        raise MediaRejected("unsupported_format", f"a PSD of colour mode {mode}, {bits} bits: convert it to RGB")
    if channels < CHANNELS[colour]:
        raise MediaRejected("corrupt", f"a PSD of colour mode {mode} with {channels} channels")
    return Header(head[5] == 2, channels, height, width, bits, mode)


def read_merged_image(file: BinaryIO, header: Header) -> Samples:
    """Read the merged image.

    Raises:
        MediaRejected: the file is damaged or truncated.
    """
    file.seek(26)
    colour_table = _exactly(file, _number(file, "I"))
    profile = _profile(_exactly(file, _number(file, "I")))
    length = _number(file, "Q" if header.is_big else "I")
    behind = file.tell() + length
    merged_alpha = bool(length) and _has_merged_alpha(file, behind, header)
    file.seek(behind)
    colour = MODE_COLOURS[header.mode]
    has_alpha = merged_alpha and colour in {"grey", "rgb"} and header.channels > CHANNELS[colour]
    values = _read_channels(file, header, CHANNELS[colour] + has_alpha)
    if colour == "lab" and header.bits in {8, 16}:  # signed, as in a TIFF
        values[..., 1:] ^= np.array(1 << (header.bits - 1), values.dtype)
    return Samples(
        values=values,
        bits=header.bits,
        colour=colour,
        inverted=colour == "cmyk" or header.mode == BITMAP,
        alpha="straight" if has_alpha else "none",
        top=2**header.bits - 1 if header.bits == 16 else None,
        linear=header.bits == 32,
        palette=np.frombuffer(colour_table[:768], np.uint8).reshape(3, -1).T if colour == "palette" else None,
        profile=profile,
    )


def _exactly(file: BinaryIO, length: int) -> bytes:
    here, end = file.tell(), file.seek(0, 2)
    file.seek(here)
    if length > end - here:
        raise MediaRejected("truncated", f"the PSD ends at byte {end}, a part of it would end at {here + length}")
    return file.read(length)


def _number(file: BinaryIO, code: str) -> int:
    return int(struct.unpack(">" + code, _exactly(file, struct.calcsize(">" + code)))[0])


def _profile(resources: bytes) -> bytes | None:
    """Return the ICC profile among the resources; None if there is none or the list is damaged."""
    place = 0
    while resources[place : place + 4] == b"8BIM" and place + 12 <= len(resources):
        name_bytes = (1 + resources[place + 6] + 1) & ~1
        start = place + 6 + name_bytes
        if start + 4 > len(resources):
            return None
        (length,) = struct.unpack_from(">I", resources, start)
        if struct.unpack_from(">H", resources, place + 4)[0] == PROFILE_RESOURCE:
            return resources[start + 4 : start + 4 + length]
        place = start + 4 + ((length + 1) & ~1)
    return None


def _has_merged_alpha(file: BinaryIO, behind: int, header: Header) -> bool:
    """Return whether the first channel behind the colours is the transparency of the merged image.

    A negative number of layers means that it is; deep images store their layers in a separate block.
    """
    layers = _number(file, "Q" if header.is_big else "I")
    start = file.tell()
    if layers >= 2 and struct.unpack(">h", _exactly(file, 2))[0] < 0:
        return True
    file.seek(start + layers)
    if behind - file.tell() < 4:
        return False
    file.seek(_number(file, "I"), 1)  # the global mask
    for _ in range(MAX_BLOCKS):
        if behind - file.tell() < 12 or _exactly(file, 4) not in {b"8BIM", b"8B64"}:
            return False
        key = _exactly(file, 4)
        length = _number(file, "Q" if header.is_big and key in LONG_BLOCKS else "I")
        start = file.tell()
        if key in MERGED_ALPHA_BLOCKS:
            return True
        if key in LAYER_BLOCKS and length >= 2 and struct.unpack(">h", _exactly(file, 2))[0] < 0:
            return True
        file.seek(start + (length + 3 & ~3))
    return False


def _read_channels(file: BinaryIO, header: Header, wanted: int) -> Array:
    """Return the first channels as (H, W, wanted)."""
    method = _number(file, "H")
    row_bytes = -(-header.width * header.bits // 8)
    shape = (header.height, row_bytes)
    values: Array = np.empty((header.height, header.width, wanted), _dtype(header))
    if method == RLE:
        counts = _row_lengths(file, header)
        for channel in range(wanted):
            lengths = counts[channel * header.height : (channel + 1) * header.height]
            packed = _exactly(file, int(lengths.sum()))
            ends = np.cumsum(lengths).tolist()
            rows = [packed[end - int(length) : end] for end, length in zip(ends, lengths, strict=True)]
            values[..., channel] = _numbers(unpack_strips(rows, PACKBITS, shape, 1), header)
        return values
    if method not in {RAW, ZIP, ZIP_PREDICTED}:
        raise MediaRejected("unsupported_format", f"a PSD packed by method {method}: save it again")
    size = header.height * row_bytes
    data = _exactly(file, size * wanted) if method == RAW else _inflated(file, size * wanted)
    for channel in range(wanted):
        plane = np.frombuffer(data, np.uint8, size, channel * size).reshape(shape)
        numbers = _numbers(plane, header, predicted=method == ZIP_PREDICTED)
        values[..., channel] = numbers
    return values


def _row_lengths(file: BinaryIO, header: Header) -> NDArray[np.int64]:
    """Return the number of packed bytes of each row, channel by channel, selections included."""
    size = 4 if header.is_big else 2
    table = _exactly(file, size * header.height * header.channels)
    return np.frombuffer(table, f">u{size}").astype(np.int64)


def _inflated(file: BinaryIO, wanted: int) -> bytes:
    data = zlib.decompressobj().decompress(file.read(), wanted)
    if len(data) < wanted:
        raise MediaRejected("truncated", f"the PSD holds {len(data)} of {wanted} bytes of its image")
    return data


def _dtype(header: Header) -> np.dtype[Any]:
    return np.dtype({1: "u1", 8: "u1", 16: "u2", 32: "f4"}[header.bits])


def _numbers(plane: NDArray[np.uint8], header: Header, *, predicted: bool = False) -> Array:
    """Convert (H, bytes of a row) to (H, W) numbers."""
    height, width = header.height, header.width
    if header.bits == 1:
        return np.unpackbits(plane, axis=1, count=width)
    if not predicted:
        return np.ascontiguousarray(plane).view(_dtype(header).newbyteorder(">"))
    if header.bits == 32:
        planes = np.cumsum(plane, axis=1, dtype=np.uint8).reshape(height, 4, width)
        return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(">f4")[..., 0]
    whole = _dtype(header)
    return np.cumsum(np.ascontiguousarray(plane).view(whole.newbyteorder(">")), axis=1, dtype=whole)
