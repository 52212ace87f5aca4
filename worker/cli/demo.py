"""The demonstration's archive: public-domain images from installed packages, in the forms that real archives hold.

``python -m worker.cli.demo FOLDER`` writes ``FOLDER/archive``, and with ``--photos`` the ten photos and the clip of
docs/quickstart.md to ``FOLDER/photos``; the same packages give the same bytes each time.

Sources: Eileen Collins (NASA), coffee cup (CC0, Rachel Michetti), cameraman (CC0, Lav Varshney) and rocket (SpaceX,
public domain) from scikit-image; Grace Hopper (United States Navy, public domain) from matplotlib.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import av
import numpy as np
import typer
from PIL import Image, ImageFilter

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from av.video.stream import VideoStream

CameraBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the image that a camera looks at."""

CLIP_SIZE = (640, 360)
CLIP_FRAMES_PER_SECOND = 24
GIF_SIZE = (240, 240)
GIF_FRAME_MILLISECONDS = 120
JPEG_QUALITY = 92
PORTRAIT_SIZE = (70, 70)  # of a portrait whose face is then 12 pixels wide: less than the 16 of the shipped release
BLUR_PIXELS = 6
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that the format can express; a real one would change the bytes

SAMPLE_IMAGES = {
    "collins": ("skimage.data", "astronaut.png"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "coffee": ("skimage.data", "coffee.png"),
    "cameraman": ("skimage.data", "camera.png"),
    "rocket": ("skimage.data", "rocket.jpg"),
}


@dataclass(frozen=True, slots=True)
class Shot:
    """One camera move over one image, from one hard cut to the next."""

    image: str
    seconds: float
    start: CameraBox
    end: CameraBox

    def views(self, frame_count: int) -> Iterator[CameraBox]:
        """Yield the box that the camera sees in each frame, gliding from ``start`` to ``end``."""
        for index in range(frame_count):
            share = index / max(1, frame_count - 1)
            x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(self.start, self.end, strict=True))
            yield x1, y1, x2, y2


# 8 seconds: Collins from afar to near, Hopper from left to right, and back to Collins. Boxes are 16:9, as the clip is.
CLIP = (
    Shot("collins", 3.0, (0, 0, 512, 288), (88, 40, 376, 202)),
    Shot("hopper", 2.5, (0, 95, 440, 342.5), (72, 95, 512, 342.5)),
    Shot("collins", 2.5, (72, 31, 392, 211), (0, 0, 480, 270)),
)
GIF = Shot("hopper", 1.44, (0, 0, 512, 512), (120, 90, 400, 370))


def build_archive(folder: Path) -> None:
    """Write the archive into ``folder``, which is made if need be; files of earlier runs are replaced by equal ones.

    Raises:
        UsageError: a package that carries an image is not installed.
    """
    _write(folder, _contents(_images()))


def build_photos(folder: Path) -> None:
    """Write ten photos and a clip into ``folder``: some of their faces are turned, blurred or too small.

    Raises:
        UsageError: a package that carries an image is not installed.
    """
    _write(folder, _photos(_images()))


def _images() -> dict[str, Image.Image]:
    return {name: _open(*place) for name, place in SAMPLE_IMAGES.items()}


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _photos(images: Mapping[str, Image.Image]) -> dict[str, bytes]:
    """Return the bytes of each file by its name in the folder of photos."""
    collins, hopper = images["collins"], images["hopper"]
    both = Image.new("RGB", (1024, 512))
    both.paste(collins, (0, 0))
    both.paste(hopper.crop((0, 44, 512, 556)), (512, 0))
    return {
        "both.jpg": _jpeg(both),
        "cameraman.png": _encoded(images["cameraman"], "PNG"),
        "clip.mp4": _clip(images, CLIP),
        "coffee.jpg": _jpeg(images["coffee"]),
        "collins.jpg": _jpeg(collins),
        "collins-blurred.jpg": _jpeg(collins.filter(ImageFilter.GaussianBlur(BLUR_PIXELS))),
        "collins-grey.webp": _encoded(collins.crop((60, 0, 420, 300)).convert("L"), "WEBP"),
        "collins-lying.jpg": _jpeg(collins.rotate(90)),
        "collins-thumbnail.jpg": _jpeg(collins.resize(PORTRAIT_SIZE)),
        "hopper.jpg": _jpeg(hopper),
        "hopper-half.jpg": _jpeg(hopper)[: len(_jpeg(hopper)) // 2],
    }


def _contents(images: Mapping[str, Image.Image]) -> dict[str, bytes]:
    """Return the bytes of each file by its name in the archive."""
    collins, hopper = _jpeg(images["collins"]), _jpeg(images["hopper"])
    return {
        "portraits/eileen-collins.jpg": collins,
        "portraits/grace-hopper.jpg": hopper,
        "places/coffee.jpg": _jpeg(images["coffee"]),
        "places/rocket.png": _encoded(images["rocket"], "PNG"),
        "films/two-pioneers.mp4": _clip(images, CLIP),
        "films/admiral.gif": _gif(images[GIF.image], GIF),
        "damaged/half-a-picture.jpg": hopper[: len(hopper) // 2],
        "more.zip": _zip(
            {
                "again/eileen-collins-copy.jpg": collins,
                "crew/collins-grey.webp": _encoded(images["collins"].crop((60, 0, 420, 300)).convert("L"), "WEBP"),
                "README.txt": b"Not a picture: an archive holds such things too.\n",
            }
        ),
    }


def _open(package: str, name: str) -> Image.Image:
    try:
        content = files(package).joinpath(name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as err:
        raise UsageError(f"the demo needs {name} of the package {package}: pip install 'facet[demo]'") from err
    return Image.open(io.BytesIO(content)).convert("RGB")


def _jpeg(image: Image.Image) -> bytes:
    return _encoded(image, "JPEG", quality=JPEG_QUALITY)


def _encoded(image: Image.Image, image_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _frames(image: Image.Image, views: Iterable[CameraBox], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield what the camera sees: boxes may lie between pixels, so that slow moves do not jerk."""
    for view in views:
        yield image.resize(size, Image.Resampling.BICUBIC, box=view)


def _gif(image: Image.Image, shot: Shot) -> bytes:
    views = shot.views(round(shot.seconds * 1000 / GIF_FRAME_MILLISECONDS))
    first, *rest = (frame.quantize(128, Image.Quantize.FASTOCTREE) for frame in _frames(image, views, GIF_SIZE))
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=GIF_FRAME_MILLISECONDS, loop=0)
    return buffer.getvalue()


def _clip(images: Mapping[str, Image.Image], shots: Iterable[Shot]) -> bytes:
    frames = chain.from_iterable(
        _frames(images[shot.image], shot.views(round(shot.seconds * CLIP_FRAMES_PER_SECOND)), CLIP_SIZE)
        for shot in shots
    )
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = _video_stream(container)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _video_stream(container: av.container.OutputContainer) -> VideoStream:
    """Add H.264, or MPEG-4 part 2 where PyAV was built without an H.264 encoder."""
    codec: Literal["h264", "mpeg4"] = "h264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"preset": "veryfast"} if codec == "h264" else {}
    stream = container.add_stream(codec, rate=CLIP_FRAMES_PER_SECOND, options=options)
    stream.width, stream.height = CLIP_SIZE
    stream.pix_fmt = "yuv420p"
    stream.bit_rate = 1_500_000
    stream.thread_count = 1  # the share of work between threads shows in the bytes
    return stream


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content)
    return buffer.getvalue()


def main(
    folder: Annotated[Path, typer.Argument(help="Where the folder 'archive' is made.")],
    *,
    photos: Annotated[bool, typer.Option("--photos", help="Write FOLDER/photos for docs/quickstart.md.")] = False,
) -> None:
    """Write the demonstration's media into FOLDER/archive."""
    if photos:
        build_photos(folder / "photos")
    else:
        build_archive(folder / "archive")


if __name__ == "__main__":
    typer.run(main)
