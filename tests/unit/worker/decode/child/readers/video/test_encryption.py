"""Marks of encryption are found where containers leave them, and not in noise."""

import numpy as np
import pytest

from worker.decode.child.readers.video.encryption import SEARCHED_BYTES, is_encrypted

SINF = b"\0\0\0\x50sinf\0\0\0\x0cfrma" + b"avc1" + b"\0\0\0\x14schm"
ENTRY = b"\0\0\1\0encv" + bytes(78) + b"\0\0\0\x30avcC" + bytes(40) + SINF
FAIRPLAY = ENTRY.replace(b"encv", b"drmi")
MATROSKA = b"\x1a\x45\xdf\xa3" + bytes(40) + b"\x6d\x80\x9a\x62\x40\x97\x50\x33\x81\x01\x50\x35\x8f\x47\xe1\x81\x05"
ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(99)
NOISE = np.random.default_rng(5).integers(0, 256, 3 << 20, np.uint8).tobytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\0\x18ftypisom" + bytes(99) + ENTRY, True),
        (b"\0\0\0\x18ftypM4V " + bytes(99) + FAIRPLAY, True),
        (b"\0\0\0\x18ftypisom" + bytes(3 * SEARCHED_BYTES) + ENTRY + bytes(99), True),  # described at the end
        (MATROSKA, True),
        (MATROSKA.replace(b"\x50\x33\x81\x01", b"\x50\x33\x81\x00").replace(b"\x50\x35", b"\x50\x34"), False),  # packed
        (ASF + bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"), True),
        (ASF + bytes.fromhex("14e68a292226174cb935dae07ee9289c"), True),
        (ASF, False),
        (b"\0\0\0\x18ftypisom" + ENTRY.replace(b"encv", b"avc1").replace(b"sinf", b"colr"), False),
        (NOISE, False),
        (bytes(5000), False),
        (b"G" * 5000, False),
        (b"", False),
    ],
)
def test_marks_of_encryption(data, expected, tmp_path):
    (tmp_path / "a").write_bytes(data)
    assert is_encrypted(str(tmp_path / "a")) is expected
