"""First bytes of videos: containers, bare streams of a codec, and transport streams that begin anywhere."""

from __future__ import annotations

import re

_START = rb"\0{2,3}\x01"
_H264_SPS = rb"[\x27\x47\x67][\x2c\x42\x4d\x53\x56\x58\x64\x6e\x76\x7a\x80\x8a\xf4]"

# Pattern and FFmpeg's name of each format.
VIDEOS: tuple[tuple[bytes, str], ...] = (
    (rb"\x1a\x45\xdf\xa3.{0,60}webm", "webm"),
    (rb"\x1a\x45\xdf\xa3", "matroska"),
    (rb"RIFF....AVI[ X\x19]", "avi"),
    (rb"\0\0\x01[\xba\xbb\xe0-\xef]", "mpeg"),
    (rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G", "mpegts"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (rb"FLV\x01", "flv"),
    (rb"OggS\0", "ogg"),
    (rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", "mxf"),
    # QuickTime before there was a brand: the first box is one of these, and in most cases below 16 MiB
    (rb"\0...(?:moov|wide|free|skip|pnot)|....mdat", "mov"),
    (rb"\.RMF\0\0\0", "rm"),
    (rb"\0\0\0\0\x01\xbc", "gxf"),
    (rb"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d", "wtv"),
    (rb"nut/multimedia container\0", "nut"),
    # bare streams
    (rb"\x1f\x07\0[\x3f\xbf].{76}\x3f\x07\0", "dv"),
    (rb"YUV4MPEG2 ", "yuv4mpegpipe"),
    (rb"DKIF\0\0", "ivf"),
    (rb"\0\0\x01\xb3", "mpegvideo"),
    (rb"\0\0\x01(?:\xb0.\0\0\x01\xb5|[\0-\x1f]\0\0\x01[\x20-\x2f])", "m4v"),
    (_START + rb"(?:\x09[\x10\x30\x50\x70\x90\xb0\xd0\xf0]" + _START + rb")?" + _H264_SPS, "h264"),
    (_START + rb"(?:\x46\x01[\x10\x30\x50]" + _START + rb")?\x40\x01[\x0c-\x0f]", "hevc"),
    (rb"\0\0\0\x01\0[\x71\x79\xa1]", "vvc"),
    (rb"\x12\0[\x0a\x0b].{1,3}", "obu"),
    (rb"\0\0\x01\x0f[\xc0-\xff]", "vc1"),
    (rb"\0\0\x02\x80[\x01-\x03]", "dnxhd"),
)

_ADVICE = "is not read: save the video as MP4 or Matroska first"
# Pattern and message.
UNREAD_VIDEOS: tuple[tuple[bytes, str], ...] = (
    (rb"[FCZ]WS[\x01-\x40]", f"Flash {_ADVICE}"),
    (rb"SMK[24]", f"Smacker {_ADVICE}"),
    (rb"BIK[bfgik]|KB2[adfghijk]", f"Bink {_ADVICE}"),
    (rb"....[\x11\x12]\xaf.{6}\x08\0", f"an animation of Autodesk {_ADVICE}"),
    (rb"\x84\x10\xff\xff\xff\xff", f"RoQ {_ADVICE}"),
    (rb"NSV[fs]", f"Nullsoft video {_ADVICE}"),
    (rb"\xf5\x46\x7a\xbd", f"a recording of TiVo {_ADVICE}"),
    (rb"LIST....AVI ", f"a part of an AVI file {_ADVICE}"),
    (rb"DVDVIDEO-V", "an index of a DVD: its videos are the VOB files beside it"),
    (rb"(?:\xef\xbb\xbf)?#EXTM3U", "a playlist: the videos are the files that it names"),
)

# Bytes of a transport stream packet: plain, with a time code before it, with a checksum behind it.
PACKETS = (188, 192, 204)
_PACKETS_SEEN = 5
# The sync byte, then a header without an error and with a payload or an adaptation field.
_HEADER = rb"G[\0-\x7f].[\x10-\x3f\x50-\x7f\x90-\xbf\xd0-\xff]"
_RUNS = tuple(
    re.compile(_HEADER + (rb".{%d}" % (size - 4) + _HEADER) * (_PACKETS_SEEN - 1), re.DOTALL) for size in PACKETS
)


def is_transport_stream(head: bytes) -> bool:
    """Return whether these bytes hold consecutive packets; a recording may begin in the middle of one."""
    return any(run.search(head) for run in _RUNS)
