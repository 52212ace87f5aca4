"""Keeps a decoder from frames that are neither sampled nor referred to by others.

Only H.264 is known to be exact: each picture states whether others refer to it, and the decoder checks it. HEVC states
so by temporal layer, and its decoder replaces missing references without a report, so damage would go unnoticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from av import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from worker.decode.child.readers.video.timeline import Timeline

CODECS = frozenset({"h264"})


class SkippingFailed(Exception):
    """Frames have to be decoded one by one: a sampled frame is missing, or the stream is damaged or interlaced."""


def may_skip(stream: VideoStream, timeline: Timeline) -> bool:
    """Return whether frames of a stream can be left out safely: not where groups of pictures are open."""
    return stream.codec_context.codec.canonical_name in CODECS and timeline.is_plain


class FrameSkipper:
    """Have the decoder leave out the pictures that are neither wanted nor referred to."""

    def __init__(self, wanted: NDArray[np.int64]) -> None:
        """Start before the first packet.

        Args:
            wanted: (K,) stamps of the frames that have to come.
        """
        self._wanted = frozenset(wanted.tolist())
        self.newest = -(1 << 63)
        """Highest stamp of the packets so far."""

    def prepare(self, packet: Packet[VideoStream]) -> None:
        """Set what the decoder leaves out of a packet, before it decodes it."""
        if packet.pts is not None:
            self.newest = max(self.newest, packet.pts)
        is_spare = packet.pts is not None and packet.pts not in self._wanted and not packet.is_corrupt
        packet.stream.codec_context.skip_frame = "NONREF" if is_spare else "DEFAULT"
