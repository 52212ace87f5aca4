"""Runs steps of image decoders and translates their errors to reasons."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, TypeVar

from PIL import Image, UnidentifiedImageError

from worker.errors import MediaRejected

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Raised by Pillow's plug-ins for damaged files: seen after changing random bytes of good files, or of the same kind.
# Lack of memory is not among them.
DECODER_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# Error texts of decoders for whole files of a kind that they do not read.
UNSUPPORTED_TEXT = re.compile(
    r"unsupported|not supported|cannot handle|unknown \w+ mode|unable to determine", re.IGNORECASE
)
# Error texts of decoders for files that end too early.
TRUNCATED_TEXT = re.compile(r"truncated|not enough image data", re.IGNORECASE)


def guarded(step: Callable[[], T]) -> T:
    """Run one step of decoding an image.

    Raises:
        MediaRejected: the file is at fault.
        UnidentifiedImageError: Pillow does not know the format.
    """
    try:
        return step()
    except (UnidentifiedImageError, FileNotFoundError, PermissionError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise MediaRejected("too_many_pixels", f"more than the {Image.MAX_IMAGE_PIXELS} pixels allowed") from err
    except DECODER_ERRORS as err:
        text = " ".join(str(err).split())
        if "memory" in text.lower():  # from libheif
            raise MemoryError(text) from err
        raise MediaRejected(code_of(text), text) from err


def code_of(text: str) -> str:
    """Return the reason code for the error text of a decoder."""
    if UNSUPPORTED_TEXT.search(text):
        return "unsupported_format"
    return "truncated" if TRUNCATED_TEXT.search(text) else "corrupt"
