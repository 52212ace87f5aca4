"""The outcome of each face, kept compactly beside the figures, so that two releases can be compared face by face."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The values of N faces whose mean is a figure."""

    data: str
    task: str
    measure: str
    higher_is_better: bool
    rows_sha256: str
    """Of the names of the N rows; outcomes are of the same faces in the same order if it is the same."""
    values: str
    """N little-endian float32, deflated, base64."""
    groups: dict[str, str]
    """Members by group: N bits, deflated, base64."""

    @classmethod
    def of(
        cls,
        place: tuple[str, str, str],
        values: NDArray[np.generic],
        rows: Sequence[str],
        groups: Mapping[str, NDArray[np.bool_]],
        *,
        higher_is_better: bool,
    ) -> Outcomes:
        """Pack outcomes.

        Args:
            place: data, task, measure.
            values: (N,) right or wrong, or an error.
            rows: (N,) names of the faces or pairs.
            groups: (N,) members by group.
            higher_is_better: whether a larger value is better.
        """
        digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        packed = {name: _pack(np.packbits(members)) for name, members in groups.items()}
        return cls(*place, higher_is_better, digest, _pack(values.astype("<f4")), packed)

    def unpack(self) -> NDArray[np.float32]:
        """Return the (N,) values."""
        return np.frombuffer(_bytes(self.values), dtype="<f4").astype(np.float32)

    def members(self, group: str) -> NDArray[np.bool_]:
        """Return the (N,) membership of a group; 'all' has every face."""
        count = len(self.unpack())
        if group == "all":
            return np.ones(count, dtype=np.bool_)
        return np.unpackbits(np.frombuffer(_bytes(self.groups[group]), dtype=np.uint8), count=count).astype(np.bool_)


def _pack(values: NDArray[np.generic]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
