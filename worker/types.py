"""The values that the worker's stages exchange; no torch here, because decode children import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MediaKind = Literal["image", "video"]
VideoReader = Literal["pyav", "decord"]

# Sound that AAC carries: samples a second, and layouts with their number of channels.
SOUND_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
SOUND_LAYOUTS = {"mono": 1, "stereo": 2, "3.0": 3, "4.0": 4, "5.0": 5, "5.1": 6}
MAX_SOUND_TRACKS = 8  # of one video: languages and commentaries

# Weight of a face or an appearance of quality 0 in a mean, so that poor ones alone still have a mean.
MIN_WEIGHT = 0.02

ASSUMED_FPS = 25.0  # of a video of which every frame is wanted: its rate is known only when it is read
UNKNOWN = "unknown"
"""The label of a head that abstains."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A part of a file: ``start_seconds <= t < end_seconds``; without borders the whole file."""

    start_seconds: float | None = None
    """None: from the start of the file."""
    end_seconds: float | None = None
    """None: to the end of the file."""


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame at which decoding can start."""

    at_seconds: float
    number: int
    """In its file, from 0, in presentation order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTags:
    """The metadata of a file: what cameras and people wrote into it. None where it does not state a value."""

    taken_at: str | None = None
    """Time by the clock of the camera, ISO 8601 without a zone; midnight where a date alone is stated."""
    utc_offset: str | None = None
    """Zone of that time, such as +02:00."""
    camera: str | None = None
    """Maker and model."""
    latitude: float | None = None
    """Degrees, north positive."""
    longitude: float | None = None
    """Degrees, east positive."""
    title: str | None = None
    description: str | None = None
    creator: str | None = None
    copyright: str | None = None
    keywords: tuple[str, ...] = ()

    def more(self) -> dict[str, str | list[str]]:
        """Return the values that have no column of their own."""
        texts = {
            "utc_offset": self.utc_offset,
            "description": self.description,
            "creator": self.creator,
            "copyright": self.copyright,
        }
        stated: dict[str, str | list[str]] = {name: value for name, value in texts.items() if value is not None}
        return stated | ({"keywords": list(self.keywords)} if self.keywords else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """The description of a file, as it states it when it is opened."""

    kind: MediaKind
    format: str
    """Short lower-case name of the container or image format: jpeg, heic, mp4, matroska, ..."""
    width: int
    """Pixels, after EXIF or container rotation."""
    height: int
    duration_seconds: float | None = None
    """None for an image of one frame, and where the container does not state it."""
    frames_per_second: float | None = None
    frame_count: int | None = None
    """Of a video whose packets were read; known where it is opened to be cut into ranges."""
    key_frames: tuple[KeyFrame, ...] = ()
    """A selection, ascending; known like the count."""
    is_seekable: bool = True
    """False for a video that has to be decoded from its start for any range."""
    tags: MediaTags = MediaTags()
    orientation: int = 1
    """EXIF orientation, 1 to 8, under which the file stores its first frame; of a video, that of its display matrix."""


class Prober(Protocol):
    """Reads the descriptions of files."""

    def probe(self, location: str, kind: MediaKind) -> MediaInfo:
        """Return the description of a file.

        Raises:
            MediaError: it cannot be opened.
        """
        ...


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One frame in memory."""

    index: int
    """Number of the frame in its file, from 0, in presentation order."""
    at_seconds: float
    """Presentation time stamp, from the start of the video; 0.0 for an image, the number of a page."""
    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    scene_cut: bool
    """True where a new shot begins with this frame, judged against the sampled frame before it."""
    hold_seconds: float = 0.0
    """Time to the next sampled frame, or to the end of the video; 0.0 for an image."""


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """The form of one audio stream of a video, as its samples are read."""

    rate: int
    """Samples a second, of ``SOUND_RATES``."""
    layout: str
    """Of ``SOUND_LAYOUTS``."""
    language: str
    """Code of three letters; und where the file states none."""

    @property
    def channels(self) -> int:
        """Number of channels."""
        return SOUND_LAYOUTS[self.layout]


@dataclass(frozen=True, slots=True, eq=False)
class SoundBlock:
    """Consecutive samples of one track."""

    track: int
    """Place of the track in its video."""
    start: int
    """Place of the first sample in its track, from the start of the video."""
    samples: NDArray[np.int16]
    """(N, C) samples of each channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Limits of decoding; beyond them the child is killed or the file rejected."""

    memory_bytes: int = 2 << 30
    wall_seconds: float = 120.0
    """Maximum silence: time to the first frame, and between two frames."""
    total_seconds: float | None = None
    """Maximum time of one request, despite signs of life; None: eight times the silence."""
    pixels_per_frame: int = 120_000_000
    frames_per_file: int = 5_000_000

    @property
    def request_seconds(self) -> float:
        """Time for one request."""
        return 8 * self.wall_seconds if self.total_seconds is None else self.total_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """Which frames of which file."""

    location: str
    """Path of a local file."""
    kind: MediaKind
    frames_per_second: float | None = 2.0
    """Sampling; None takes every frame. The single frame of an image is always taken."""
    start_seconds: float | None = None
    """First time stamp wanted (inclusive); None from the beginning."""
    end_seconds: float | None = None
    """First time stamp no longer wanted (exclusive); None to the end."""
    limits: DecodeLimits = DecodeLimits()
    video_reader: VideoReader = "pyav"
    """First reader of videos; ``decord`` only where it is known to be exact."""


@dataclass(frozen=True, slots=True)
class HeadRows:
    """Predictions of one head for N faces; rows of faces that were kept out of inference are not read."""

    labels: tuple[str, ...]
    """K names, in the order of the columns of ``probabilities``."""
    probabilities: NDArray[np.float32]
    """(N, K); rows sum to 1, except for a multi-label head, where each column stands alone."""
    value: NDArray[np.float32] | None = None
    """(N,) the estimate of a numeric head (age in years), else None."""
    low: NDArray[np.float32] | None = None
    """(N,) lower end of the head's central 80 % interval, else None."""
    high: NDArray[np.float32] | None = None
    """(N,) upper end, else None."""
    abstains: NDArray[np.bool_] | None = None
    """(N,) True where the answer is 'unknown'; None for a head that always answers."""
    codes: NDArray[np.uint16] | None = None
    """(N, K) the scores as they are stored (`models.readings`), 0 for faces that were kept out of inference; None where
    the rows do not come from the model."""
    is_multi_label: bool = False
    """True where each label is present or not by itself, so that no label is the answer (attributes)."""
