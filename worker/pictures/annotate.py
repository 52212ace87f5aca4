"""Annotates the frames of a video or image: a box and a label for each appearance in view.

Boxes lie where faces were found; between two sampled faces of an appearance they are interpolated. An appearance ends
with its last face and never spans a cut, so no box is drawn where no face was found. Frames and sound are decoded in
confined children and encoded here: copying the encoded sound would mean to read the file unconfined.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from PIL import Image, ImageDraw

from worker.pictures.lettering import Lettering
from worker.pictures.soundtrack import Soundtrack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from av.container import OutputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from worker.types import DecodedFrame, SoundBlock, SoundTrack

    Pixels = NDArray[np.uint8]
    Colour = tuple[int, int, int]

TICKS = 60_000  # time stamps per second: exact for the usual rates, 29.97 among them; the finest of MPEG-4 part 2
H264_OPTIONS = {
    "crf": "20",
    "preset": "veryfast",
}  # of H.264: no visible loss; twice as fast as the default, a tenth more bytes
DEFAULT_FRAME_RATE = 25  # frames per second where the container states none
SAME_MOMENT_SECONDS = 1e-3  # below any frame interval: database and container may round a time stamp differently
TEXT_SHARE = 1 / 32  # height of the letters as a share of the shorter side of the frame
MIN_TEXT_PIXELS = 11  # height of the smallest legible letters
MAX_LABEL_HEIGHTS = 30  # width of a label in heights of its letters; longer names are shortened
# RGB, distinct from each other and from skin; the colours repeat after the tenth person.
PERSON_COLOURS: tuple[Colour, ...] = (
    (230, 97, 1), (94, 160, 255), (60, 190, 110), (240, 200, 40), (214, 90, 180), (90, 210, 220), (170, 130, 250),
    (200, 220, 90), (250, 130, 120), (150, 170, 190),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """An appearance to be drawn."""

    number: int
    """Number of the person, or of the appearance where there is none; equal numbers share a colour."""
    lines: tuple[str, ...]
    """Lines of the label: the person, then facts about the appearance."""
    at_seconds: NDArray[np.float64]
    """(F,) ascending times of its faces."""
    boxes: NDArray[np.float32]
    """(F, 4) x1, y1, x2, y2 in pixels of the upright frame."""
    frame_sizes: NDArray[np.float32] | None = None
    """(F, 2) width and height of those frames; None where all have the size of the image that is drawn on."""
    is_interpolated: bool = True
    """Whether the box moves between two faces; else it stays where its last face was found."""

    def box_at(self, seconds: float, size: tuple[int, int]) -> NDArray[np.float64] | None:
        """Return the (4,) box at a time on a frame of a width and height, None while the subject is not in view."""
        if not self.at_seconds[0] - SAME_MOMENT_SECONDS <= seconds <= self.at_seconds[-1] + SAME_MOMENT_SECONDS:
            return None
        scale = 1 if self.frame_sizes is None else np.tile(np.array(size) / self.frame_sizes, 2)
        if not self.is_interpolated:
            last = int(np.searchsorted(self.at_seconds, seconds + SAME_MOMENT_SECONDS, side="right")) - 1
            return np.asarray((self.boxes * scale)[last], np.float64)
        return np.array([np.interp(seconds, self.at_seconds, edge) for edge in (self.boxes * scale).T])


@dataclass(slots=True)
class Painter:
    """Draws on frames of one size; a label is drawn once for each subject, then copied."""

    subjects: Sequence[Subject]
    size: tuple[int, int]
    """Width and height in pixels."""
    _labels: dict[int, Pixels] = field(default_factory=dict)

    def paint(self, pixels: Pixels, seconds: float) -> Pixels:
        """Draw all subjects in view at a time.

        Args:
            pixels: (H, W, 3) uint8 RGB; not changed.
            seconds: time of the frame.

        Returns:
            (H, W, 3): a copy, or the frame itself where no subject is in view.
        """
        boxes = [(place, subject.box_at(seconds, self.size)) for place, subject in enumerate(self.subjects)]
        seen = [(place, np.round(box).astype(int)) for place, box in boxes if box is not None]
        if not seen:
            return pixels
        drawn = pixels.copy()
        for place, box in seen:
            _draw_box(drawn, box, self._line, PERSON_COLOURS[self.subjects[place].number % len(PERSON_COLOURS)])
        taken: list[tuple[int, int, int, int]] = []
        for place, box in seen:
            label = self._label(place)
            corner = _free_corner(box, label.shape, self.size, taken)
            _paste(drawn, label, corner)
            taken.append((*corner, corner[0] + label.shape[1], corner[1] + label.shape[0]))
        return drawn

    @property
    def _line(self) -> int:
        """Return the width of a box's line in pixels."""
        return max(1, round(min(self.size) / 240))

    def _label(self, place: int) -> Pixels:
        if place not in self._labels:
            subject = self.subjects[place]
            height = max(MIN_TEXT_PIXELS, round(min(self.size) * TEXT_SHARE))
            self._labels[place] = _draw_label(
                subject.lines, height, PERSON_COLOURS[subject.number % len(PERSON_COLOURS)]
            )
        return self._labels[place]


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a video."""

    tracks: Sequence[SoundTrack]
    blocks: Iterator[SoundBlock]
    """Samples of all tracks, in the order of the file."""


def annotate_video(
    frames: Iterable[DecodedFrame],
    subjects: Sequence[Subject],
    rate: float | None,
    path: Path,
    sound: Sound | None = None,
) -> int:
    """Write an annotated video, with one frame in memory at a time.

    Args:
        frames: all frames in order of time, at least one; all are fitted into the size of the first one.
        subjects: appearances to draw; the labels of the first ones are placed first.
        rate: frames per second by the container, None where it states none; only a hint to the encoder.
        path: file to write; its extension names the container: mp4, mov, mkv.
        sound: of the video; None for a silent one.

    Returns:
        Number of frames that were written.

    Raises:
        OSError: the file cannot be written.
    """
    count, last_tick = 0, -1
    painter: Painter | None = None
    whole = (0, 0)
    with _writer(path) as container:
        stream: VideoStream | None = None
        soundtrack: Soundtrack | None = None
        for frame in frames:
            size = frame.pixels.shape[1], frame.pixels.shape[0]
            if painter is None or painter.size != size:
                painter = Painter(subjects, size)
            if stream is None:
                stream, whole = _video_stream(container, size, rate), size
                soundtrack = None if sound is None else Soundtrack(container, sound.tracks, sound.blocks)
            if soundtrack is not None:
                soundtrack.write_until(frame.at_seconds)
            tick = max(round(frame.at_seconds * TICKS), last_tick + 1)
            pixels = _even(_fitted(painter.paint(frame.pixels, frame.at_seconds), whole))
            _encode(container, stream, pixels, tick)
            count, last_tick = count + 1, tick
        if stream is not None:
            container.mux(stream.encode(None))
        if soundtrack is not None:
            soundtrack.finish()
    return count


def annotate_image(pixels: Pixels, subjects: Sequence[Subject], path: Path) -> None:
    """Write an annotated image, in the format that the extension names.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        subjects: appearances to draw.
        path: file to write.

    Raises:
        OSError: the file cannot be written.
        ValueError: Pillow has no format of this extension.
    """
    painter = Painter(subjects, (pixels.shape[1], pixels.shape[0]))
    Image.fromarray(painter.paint(pixels, 0.0)).save(path)


@contextmanager
def _writer(path: Path) -> Iterator[OutputContainer]:
    """Open a container under another name and rename it at the end, so that no partial video has the final name."""
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        with av.open(str(part), "w") as container:
            yield container
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _video_stream(container: OutputContainer, size: tuple[int, int], rate: float | None) -> VideoStream:
    """Add a stream of H.264, or of MPEG-4 part 2 where PyAV was built without an H.264 encoder."""
    codec: Literal["libx264", "mpeg4"] = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    hint = Fraction(rate or DEFAULT_FRAME_RATE).limit_denominator(1001)
    stream = container.add_stream(codec, rate=hint, options=H264_OPTIONS if codec == "libx264" else {})
    stream.width, stream.height = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    if codec == "mpeg4":
        stream.bit_rate = 4 * stream.width * stream.height  # about the size of H.264 at 25 frames a second
    return stream


def _encode(container: OutputContainer, stream: VideoStream, pixels: Pixels, tick: int) -> None:
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
    frame.pts, frame.time_base = tick, Fraction(1, TICKS)
    container.mux(stream.encode(frame))


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image to fit into a width and height, in its own proportions on black."""
    width, height = pixels.shape[1], pixels.shape[0]
    if (width, height) == size:
        return pixels
    scale = min(size[0] / width, size[1] / height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    fitted = np.asarray(Image.fromarray(pixels).resize(inner, Image.Resampling.BILINEAR))
    canvas[top : top + inner[1], left : left + inner[0]] = fitted
    return canvas


def _even(pixels: Pixels) -> Pixels:
    """Repeat the last row or column where a side is odd: colours are stored for squares of two pixels."""
    height, width = pixels.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return pixels
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _draw_box(pixels: Pixels, box: NDArray[np.int_], line: int, colour: Colour) -> None:
    """Draw the edges of a rectangle, as far as they lie inside the frame."""
    x1, y1, x2, y2 = (max(int(edge), 0) for edge in box)
    for rows, columns in (
        (slice(y1, y1 + line), slice(x1, x2)),
        (slice(max(y2 - line, 0), y2), slice(x1, x2)),
        (slice(y1, y2), slice(x1, x1 + line)),
        (slice(y1, y2), slice(max(x2 - line, 0), x2)),
    ):
        pixels[rows, columns] = colour


def _draw_label(lines: Sequence[str], height: int, colour: Colour) -> Pixels:
    """Return the (H, W, 3) label: lines of text on a dark ground, with a stripe in the subject's colour."""
    letters = Lettering(height)
    texts = [letters.fit(line, height * MAX_LABEL_HEIGHTS) for line in lines]
    step, margin, stripe = round(height * 1.25), max(2, height // 4), max(2, height // 5)
    width = max((letters.width(line) for line in texts), default=0) + 2 * margin + stripe
    label = Image.new("RGB", (width, step * len(texts) + margin), (24, 26, 30))
    pen = ImageDraw.Draw(label)
    pen.rectangle((0, 0, stripe - 1, label.height), colour)
    for number, line in enumerate(texts):
        letters.draw(pen, (stripe + margin, margin // 2 + number * step), line, (255, 255, 255))
    return np.array(label)


def _free_corner(
    box: NDArray[np.int_],
    label: tuple[int, ...],
    size: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Return the place of a label: above its box, below, beside or in it, where it hides no other label."""
    height, width = label[:2]
    x1, y1, x2, y2 = (int(edge) for edge in box)
    wanted = [(x1, y1 - height), (x1, y2), (x2, y1), (x1 - width, y1), (x1, y1), (x1, y2 - height)]
    corners = [_inside(corner, (width, height), size) for corner in wanted]
    places = [(x, y, x + width, y + height) for x, y in corners]
    # A label that the frame's edge pushes over its own face is better than one over another label.
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    clear = [place for place in free if not _overlap(place, (x1, y1, x2, y2))]
    return (clear or free or places)[0][:2]


def _inside(corner: tuple[int, int], label: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    x, y = (max(0, min(at, side - length)) for at, length, side in zip(corner, label, size, strict=True))
    return x, y


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _paste(pixels: Pixels, label: Pixels, corner: tuple[int, int]) -> None:
    x, y = corner
    place = pixels[y : y + label.shape[0], x : x + label.shape[1]]
    place[:] = label[: place.shape[0], : place.shape[1]]
