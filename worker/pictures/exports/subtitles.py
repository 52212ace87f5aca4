"""Writes appearances as subtitles: WebVTT, SubRip and Advanced SubStation Alpha.

Names are text of users: what a format reads as markup is escaped, or replaced by its look-alike of full width where the
format has no escape. Control characters and bidirectional marks were made visible before.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.pictures.exports.segments import MediaSegments, Segment

_VTT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_SRT = str.maketrans({"<": "\uff1c", ">": "\uff1e", "{": "\uff5b", "}": "\uff5d"})
_ASS = str.maketrans({"{": "\uff5b", "}": "\uff5d", "\\": "\uff3c"})
_ASS_FIELD = _ASS | str.maketrans({",": "\uff0c"})

# Positions are in pixels of a frame of this height; players scale it to the video.
_ASS_HEAD = """\
[Script Info]
Title: {title}
ScriptType: v4.00+
WrapStyle: 2
ScaledBorderAndShadow: yes
PlayResX: {width}
PlayResY: {height}

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Person,Arial,{size},&H00FFFFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
ASS_SIZE_SHARE = 1 / 24  # height of the letters as a share of the frame's


def write_vtt(file: MediaSegments) -> str:
    """Return WebVTT: a cue for each appearance, whose number is its identifier; cues may overlap."""
    cues = [
        f"{segment.appearance_id}\n{_clock(segment.start_seconds)} --> {_clock(segment.end_seconds)}\n"
        f"{segment.text.translate(_VTT)}\n"
        for segment in file.segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def write_srt(file: MediaSegments) -> str:
    """Return SubRip: a cue for each time in which the same people are in view, since many players show one cue only."""
    cues = []
    for number, (start, end, segments) in enumerate(_spans(file.segments), 1):
        lines = "\n".join(segment.text.translate(_SRT) for segment in segments)
        times = f"{_clock_of(start, ',')} --> {_clock_of(end, ',')}"
        cues.append(f"{number}\n{times}\n{lines}\n")
    return "\n".join(cues)


def write_ass(file: MediaSegments) -> str:
    """Return Advanced SubStation Alpha: an event for each appearance, drawn above the face where the frame shows it."""
    title = "".join(file.uri.translate(_ASS).splitlines())
    head = _ASS_HEAD.format(
        title=title, width=file.width, height=file.height, size=max(10, round(file.height * ASS_SIZE_SHARE))
    )
    return head + "".join(f"{_event(file, segment)}\n" for segment in file.segments)


def _event(file: MediaSegments, segment: Segment) -> str:
    start, end = _hundredths(segment)
    place = ""
    if segment.box is not None:
        x = round((segment.box.left + segment.box.width / 2) * file.width)
        place = f"{{\\an2\\pos({x},{round(segment.box.top * file.height)})}}"
    name, text = segment.label.translate(_ASS_FIELD), segment.text.translate(_ASS)
    return f"Dialogue: 0,{start},{end},Person,{name},0,0,0,,{place}{text}"


def _spans(segments: tuple[Segment, ...]) -> Iterator[tuple[int, int, list[Segment]]]:
    """Yield start and end in milliseconds of each time in which the same appearances are in view."""
    edges = sorted({_milliseconds(at) for one in segments for at in (one.start_seconds, one.end_seconds)})
    timed = [(_milliseconds(one.start_seconds), _milliseconds(one.end_seconds), one) for one in segments]
    following, shown = 0, list[tuple[int, int, "Segment"]]()
    for start, end in pairwise(edges):
        while following < len(timed) and timed[following][0] <= start:
            shown.append(timed[following])
            following += 1
        shown = [one for one in shown if one[1] > start]
        if shown:
            yield start, end, [segment for *_, segment in shown]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float) -> str:
    return _clock_of(_milliseconds(seconds), ".")


def _clock_of(milliseconds: int, point: str) -> str:
    """Return a time as 00:00:00.000."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _hundredths(segment: Segment) -> tuple[str, str]:
    """Return start and end as 0:00:00.00; the end is at least a hundredth later."""
    start = round(segment.start_seconds * 100)
    end = max(round(segment.end_seconds * 100), start + 1)
    times = [f"{at // 360_000}:{at // 6000 % 60:02}:{at // 100 % 60:02}.{at % 100:02}" for at in (start, end)]
    return times[0], times[1]
