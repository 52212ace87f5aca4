"""Reads the structure of TIFF and BigTIFF files in either byte order: directories, fields, and which are pages."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from worker.errors import MediaRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_DIRECTORIES = 20_000  # of one file; further ones are counted as one
MAX_FIELDS = 4096  # of one directory
MAX_VALUES = 4_000_000  # of one field: strips of one row in the largest image are far fewer
# Bytes of one value, by type.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
FORMAT_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}

SUBFILE_TYPE, OLD_SUBFILE_TYPE, SUB_DIRECTORIES = 254, 255, 330
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, MAX_VALUE = 273, 274, 277, 278, 279, 281
PLANAR, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 284, 317, 320, 322, 323, 324, 325
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, PROFILE = 332, 338, 339, 34675

REDUCED, MASK = 1, 4  # bits of SUBFILE_TYPE


@dataclass(frozen=True, slots=True)
class Field:
    """A field as stored."""

    type: int
    count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory: the fields of one image."""

    number: int
    """Index in the chain of directories; -1 for a subdirectory."""
    order: str
    """``<`` or ``>``."""
    fields: dict[int, Field]
    below: tuple[Directory, ...] = field(default=(), repr=False)
    """Subdirectories: reduced copies, or the full image of a thumbnail."""

    def values(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a field; none where it is absent or has another type."""
        found = self.fields.get(tag)
        if found is None or found.type not in FORMAT_CODES:
            return ()
        whole = len(found.raw) // SIZES[found.type]
        return tuple(int(v) for v in struct.unpack_from(f"{self.order}{whole}{FORMAT_CODES[found.type]}", found.raw))

    def value(self, tag: int, default: int) -> int:
        """Return the first number of a field."""
        return next(iter(self.values(tag)), default)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.value(WIDTH, 0), self.value(LENGTH, 0)

    @property
    def is_full(self) -> bool:
        """Whether this is an image of its own, neither a reduced copy nor a mask."""
        flags = self.value(SUBFILE_TYPE, 0)
        return not flags & (REDUCED | MASK) and self.value(OLD_SUBFILE_TYPE, 0) != 2 and all(self.size)

    def everything(self) -> Iterator[Directory]:
        """Yield this directory and all directories below it."""
        yield self
        for one in self.below:
            yield from one.everything()


@dataclass(frozen=True, slots=True)
class Tiff:
    """The directories of a file."""

    order: str
    is_big: bool
    chain: tuple[Directory, ...]
    is_whole: bool
    """False where the chain of directories breaks off."""


def is_tiff(head: bytes) -> bool:
    """Return whether a file has the signature of a TIFF."""
    return head[:4] in TIFF_MAGICS


def read_structure(file: BinaryIO) -> Tiff:
    """Read all directories.

    Raises:
        MediaRejected: the first one cannot be read.
    """
    reader = _Reader(file)
    chain: list[Directory] = []
    offset = reader.first
    while offset and len(chain) < MAX_DIRECTORIES:
        read = reader.directory(offset, len(chain))
        if read is None:
            break
        directory, offset = read
        chain.append(directory)
    if not chain:
        code = "truncated" if offset >= reader.size else "corrupt"
        raise MediaRejected(code, f"a TIFF file of {reader.size} bytes whose directory would begin at byte {offset}")
    return Tiff(reader.order, reader.is_big, tuple(chain), is_whole=not offset)


class _Reader:
    """Read directories, each once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._seen: set[int] = set()
        self.size = file.seek(0, 2)
        head = self._at(0, 16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.is_big = head[2:4] in {b"+\0", b"\0+"}
        # both kinds: count of fields, bytes of a field, bytes of a value or offset
        self._count, self._entry, self._word = ("Q", 20, "Q") if self.is_big else ("H", 12, "I")
        start = 8 if self.is_big else 4
        self.first = self._number(self._word, head[start:]) if len(head) == 16 else self.size

    def directory(self, offset: int, number: int, depth: int = 0) -> tuple[Directory, int] | None:
        """Return the directory at an offset and the offset of the next one; None if there is none or it was read."""
        if offset in self._seen or len(self._seen) >= MAX_DIRECTORIES:
            return None
        self._seen.add(offset)
        lead = struct.calcsize(self.order + self._count)
        count = self._number(self._count, self._at(offset, lead))
        width = struct.calcsize(self.order + self._word)
        body = self._at(offset + lead, count * self._entry + width) if 0 < count <= MAX_FIELDS else b""
        if len(body) < count * self._entry or not count:
            return None
        fields: dict[int, Field] = {}
        for start in range(0, count * self._entry, self._entry):
            tag, one = self._field(body[start : start + self._entry], width)
            if one is not None:
                fields.setdefault(tag, one)
        directory = Directory(number, self.order, fields)
        if depth < 2:
            offsets = directory.values(SUB_DIRECTORIES)[:64]
            inner = (self.directory(below, -1, depth + 1) for below in offsets)
            directory = Directory(number, self.order, fields, tuple(one[0] for one in inner if one))
        return directory, self._number(self._word, body[count * self._entry :])

    def _field(self, entry: bytes, width: int) -> tuple[int, Field | None]:
        tag, kind = struct.unpack_from(self.order + "HH", entry)
        count = self._number(self._word, entry[4:])
        if kind not in SIZES or count > MAX_VALUES:
            return tag, None
        length = count * SIZES[kind]
        if length <= width:
            return tag, Field(kind, count, entry[4 + width : 4 + width + length])
        raw = self._at(self._number(self._word, entry[4 + width :]), length)
        return tag, Field(kind, count, raw) if len(raw) == length else None

    def _at(self, offset: int, length: int) -> bytes:
        if not 0 <= offset < self.size:
            return b""
        self._file.seek(offset)
        return self._file.read(min(length, self.size - offset))

    def _number(self, code: str, raw: bytes) -> int:
        """Return the number at the start of some bytes; 0 if they are too short."""
        if len(raw) < struct.calcsize(self.order + code):
            return 0
        return int(struct.unpack_from(self.order + code, raw)[0])


def pages(tiff: Tiff) -> tuple[Directory, ...]:
    """Return the images of a file in order, without reduced copies and masks.

    If all directories of the chain are copies, the image is looked for in the directories below.
    """
    full = [one for one in tiff.chain if one.is_full]
    if not full:
        full = [one for top in tiff.chain for one in top.everything() if one.is_full][:1]
    if not full:
        return tiff.chain[:1]
    return tuple(one for number, one in enumerate(full) if not (number and _is_level_of(one, full[0])))


def _is_level_of(one: Directory, full: Directory) -> bool:
    """Return whether an image without a type is a level in the pyramid of another."""
    if SUBFILE_TYPE in one.fields or OLD_SUBFILE_TYPE in one.fields or TILE_OFFSETS not in one.fields:
        return False
    return _has_size_of_level(one, full)


def _has_size_of_level(one: Directory, full: Directory) -> bool:
    (width, height), (whole_width, whole_height) = one.size, full.size
    return any(abs(width - whole_width / 2**n) <= 1 and abs(height - whole_height / 2**n) <= 1 for n in range(1, 12))


def hidden_pictures(tiff: Tiff, shown: tuple[Directory, ...]) -> int:
    """Count full images in subdirectories that are not pages, copies in other sizes aside."""
    return sum(
        one.is_full and not any(one is page for page in shown) and not _has_size_of_level(one, top)
        for top in tiff.chain
        for one in top.below
    )
