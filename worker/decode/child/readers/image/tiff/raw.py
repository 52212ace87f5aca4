"""Recognises raw camera files that look like TIFF files: a thumbnail before the sensor data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.decode.child.readers.image.tiff.tiff import COMPRESSION, PHOTOMETRIC, SUB_DIRECTORIES, SUBFILE_TYPE

if TYPE_CHECKING:
    from worker.decode.child.readers.image.tiff.tiff import Directory, Tiff

# Photometric interpretations of sensor data, before and after the colours are interpolated.
FILTER_MOSAIC, LINEAR_RAW = 32803, 34892
RAW_TAGS = frozenset(
    {
        33421,  # CFARepeatPatternDim
        33422,  # CFAPattern
        50706,  # DNGVersion
        50752,  # CR2Slice
        50648,  # CR2 sensor data
        34310,  # LeafData
        29184,  # 0x7200, Sony's SR2SubIFDOffset
        50740,  # DNGPrivateData, of Sony and others for their own raw files, too
    }
)
RAW_COMPRESSIONS = frozenset(
    {
        32767,  # Sony ARW
        32769,  # packed, Nikon and Epson
        32770,  # Samsung SRW
        32772,  # Samsung SRW
        34713,  # Nikon NEF
        65000,  # Kodak DCR
        65535,  # Pentax PEF
    }
)
MAKE = 271
MAKERS = (
    b"nikon", b"sony", b"pentax", b"samsung", b"epson", b"mamiya", b"hasselblad", b"kodak", b"leaf", b"phase one",
    b"canon", b"olympus", b"om digital", b"panasonic", b"leica", b"fuji", b"ricoh", b"minolta", b"sigma", b"casio",
    b"imacon", b"sinar", b"dji", b"gopro",
)  # fmt: skip


def is_raw(tiff: Tiff) -> bool:
    """Return whether any directory holds sensor data, or the file shows only a thumbnail."""
    everything = [one for top in tiff.chain for one in top.everything()]
    return any(_is_sensor(one) for one in everything) or _is_thumbnail(tiff.chain[0], everything)


def _is_sensor(one: Directory) -> bool:
    return (
        not RAW_TAGS.isdisjoint(one.fields)
        or one.value(PHOTOMETRIC, 0) in {FILTER_MOSAIC, LINEAR_RAW}
        or one.value(COMPRESSION, 1) in RAW_COMPRESSIONS
    )


def _is_thumbnail(first: Directory, everything: list[Directory]) -> bool:
    """Return whether a file shows only a smaller copy: of a camera, or of an image that it lacks."""
    if SUBFILE_TYPE not in first.fields or any(one.is_full for one in everything):
        return False
    maker = first.fields[MAKE].raw.lower() if MAKE in first.fields else b""
    return SUB_DIRECTORIES in first.fields or any(name in maker for name in MAKERS)
