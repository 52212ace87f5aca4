"""Colours of videos that do not say which they have: BT.709 from 720 lines or 1280 columns on, BT.601 below."""

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from worker.types import DecodeRequest

RED = np.array([200, 30, 30], np.uint8)


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((1280, 720), Colorspace.ITU709),
        ((720, 1280), Colorspace.ITU709),
        ((1280, 536), Colorspace.ITU709),
        ((640, 360), Colorspace.ITU601),
        ((720, 576), Colorspace.ITU601),
    ],
)
@pytest.mark.parametrize("video_reader", ["pyav", "decord"])
def test_colours_without_a_statement(size, matrix, video_reader, decoder, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "8"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        picture = av.VideoFrame.from_ndarray(np.broadcast_to(RED, (size[1], size[0], 3)).copy(), format="rgb24")
        picture = picture.reformat(format="yuv444p", dst_colorspace=matrix)
        picture.colorspace = 2
        for number in range(2):
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert next(container.decode(video=0)).colorspace == 2
    request = DecodeRequest(
        location=str(tmp_path / "a.mp4"), kind="video", frames_per_second=None, video_reader=video_reader
    )
    with decoder.open(request) as stream:
        for frame in stream:
            assert frame.pixels[50, 50] == pytest.approx(RED, abs=3)
