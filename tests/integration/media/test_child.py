"""The child may die, hang or run out of memory: the client says so, and the next file is read."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from worker.decode.client import Decoder
from worker.decode.wire import CANCEL
from worker.errors import DecoderCrashed, MediaRejected
from worker.types import DecodeLimits, DecodeRequest

SHORT = DecodeLimits(wall_seconds=2.0)


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (31, 17), (200, 30, 20)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


@pytest.fixture
def large(tmp_path):
    """An image that does not fit into a pipe."""
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.bmp")
    return str(tmp_path / "large.bmp")


def still(path, limits=SHORT):
    return DecodeRequest(location=path, kind="image", limits=limits)


def film(path, limits=SHORT):
    return DecodeRequest(location=str(path), kind="video", frames_per_second=None, limits=limits, video_reader="decord")


def test_one_child_serves_many_files(picture, films):
    with Decoder(SHORT, "decord") as decoder:
        pids = set()
        for request in (still(picture), film(films.make("h264.mp4")), still(picture)):
            with decoder.open(request) as stream:
                assert len(list(stream)) in {1, 60}
            pids.add(decoder.pid)
        assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids.pop(), 0)


def test_a_child_killed_in_the_middle_of_an_image(large, picture):
    with Decoder(SHORT) as decoder:
        stream = decoder.open(still(large))
        first = decoder.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(DecoderCrashed, match="SIGKILL") as caught:
            list(stream)
        assert caught.value.code == "crashed"
        with decoder.open(still(picture)) as following:
            assert [frame.pixels.shape for frame in following] == [(17, 31, 3)]
        assert decoder.pid != first


@pytest.mark.parametrize("name", ["h264.mp4", "h264.ts"])  # decord reads the first, PyAV the second
def test_a_child_killed_in_the_middle_of_a_video(films, name, picture):
    with Decoder(SHORT) as decoder:
        # every frame is larger than what is left of the pipe after some of them: the child is still sending
        stream = decoder.open(film(films.make(name, count=60)))
        seen = [films.number_of(next(stream).pixels) for _ in range(7)]
        os.kill(decoder.pid, signal.SIGKILL)
        if name == "h264.ts":
            with pytest.raises(DecoderCrashed):
                list(stream)
        else:  # decord may be at fault, so PyAV goes on in a new child: no frame is lost, none comes twice
            rest = list(stream)
            assert seen + [films.number_of(frame.pixels) for frame in rest] == list(range(60))
            assert [frame.index for frame in rest] == list(range(7, 60))
        assert len(list(decoder.open(still(picture)))) == 1


def test_an_idle_child_that_died_is_replaced_unseen(picture):
    with Decoder(SHORT) as decoder:
        assert len(list(decoder.open(still(picture)))) == 1
        os.kill(decoder.pid, signal.SIGKILL)
        time.sleep(0.05)
        assert len(list(decoder.open(still(picture)))) == 1


def test_silence_is_ended_by_the_watchdog(large, picture):
    with Decoder(SHORT) as decoder:
        stream = decoder.open(still(large))
        stopped = decoder.pid
        os.kill(stopped, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(DecoderCrashed, match="silent for 2 s") as caught:
            list(stream)
        assert caught.value.code == "timeout"
        assert time.monotonic() - started < 10
        assert not psutil.pid_exists(stopped)
        assert len(list(decoder.open(still(picture)))) == 1


def test_a_video_that_hangs_decord_is_read_on_by_pyav(films):
    with Decoder(SHORT) as decoder:
        stream = decoder.open(film(films.make("h264.mp4")))
        seen = [next(stream)]
        os.kill(decoder.pid, signal.SIGSTOP)
        seen += list(stream)
        assert [films.number_of(frame.pixels) for frame in seen] == list(range(60))
        assert not any(frame.scene_cut for frame in seen[:1])


def test_a_stream_left_early_leaves_the_child_to_the_next_file(films, picture):
    with Decoder(SHORT, "decord") as decoder:
        path = films.make("h264.mp4")
        first = decoder.pid
        with decoder.open(film(path)) as stream:
            next(stream)
        assert decoder.open(film(path)).info.width == 176  # and one that is not even read
        assert len(list(decoder.open(still(picture)))) == 1
        assert decoder.pid == first


def test_a_cancel_that_comes_too_late_changes_nothing(films, picture):
    with Decoder(SHORT) as decoder:
        assert len(list(decoder.open(still(picture)))) == 1
        decoder._child.send(CANCEL)
        assert len(list(decoder.open(film(films.make("h264.mp4"))))) == 60


def test_memory_is_what_one_file_may_use(tmp_path, picture):
    Image.new("RGB", (9000, 9000)).save(tmp_path / "big.png")
    narrow = DecodeLimits(memory_bytes=128 << 20, wall_seconds=20)
    with Decoder(narrow) as decoder:
        with pytest.raises(MediaRejected) as caught:
            list(decoder.open(still(str(tmp_path / "big.png"), narrow)))
        assert caught.value.code == "out_of_memory"
        assert len(list(decoder.open(still(picture, narrow)))) == 1
        wide = DecodeLimits(memory_bytes=1 << 30, wall_seconds=20)
        (frame,) = decoder.open(still(str(tmp_path / "big.png"), wide))
        assert frame.pixels.shape == (9000, 9000, 3)


def test_a_video_does_not_lose_frames_for_lack_of_memory(films):
    tight = DecodeLimits(memory_bytes=24 << 20, wall_seconds=20)
    with Decoder(tight) as decoder:
        try:
            count = len(list(decoder.open(film(films.make("h264.ts"), tight))))
        except MediaRejected as err:
            count = err.code
        assert count in {60, "out_of_memory"}


def test_memory_does_not_grow_with_the_length_of_a_video(films):
    short, long = films.make("short.ts", count=50), films.make("long.ts", count=1000)
    peaks = []
    for path in (short, long):
        with Decoder(SHORT) as decoder:
            for _ in decoder.open(film(path)):
                pass
            peaks.append(int(status_of(decoder.pid)["VmHWM"]))
    assert peaks[1] < peaks[0] + 15_000  # kB; a frame in RGB is 76 kB, all of them 76 MB


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        key: value.split()[0]
        for key, value in (line.split(":\t", 1) for line in lines if ":\t" in line)
        if value.split()
    }


def test_the_child_is_confined(picture):
    with Decoder(DecodeLimits(memory_bytes=300 << 20)) as decoder:
        assert len(list(decoder.open(still(picture, DecodeLimits(memory_bytes=300 << 20))))) == 1
        child = psutil.Process(decoder.pid)
        assert os.getsid(child.pid) == child.pid  # Ctrl-C at the terminal does not reach it
        limits = {
            line[:26].strip(): line[26:47].strip()
            for line in Path(f"/proc/{child.pid}/limits").read_text().splitlines()
        }
        assert limits["Max file size"] == "0"
        assert limits["Max core file size"] == "0"
        assert int(limits["Max data size"]) < 700 << 20
        assert status_of(child.pid)["NoNewPrivs"] == "1"
        names = {Path(mapped.path).name for mapped in child.memory_maps() if mapped.path}
        assert not any("torch" in name or "cudart" in name or "cublas" in name for name in names)
        assert not [variable for variable in child.environ() if variable.startswith("FACET")]


def test_a_child_knows_none_of_the_workers_secrets(monkeypatch, picture):
    monkeypatch.setenv("FACET_DATABASE_URL", "postgresql://someone:secret@nowhere/facet")
    with Decoder(SHORT) as decoder:
        list(decoder.open(still(picture)))
        assert "secret" not in str(psutil.Process(decoder.pid).environ())


def test_a_child_ends_with_its_parent(tmp_path):
    script = (
        "import os, sys, time\n"
        "from worker.decode.client import Decoder\n"
        "from worker.types import DecodeLimits\n"
        "decoder = Decoder(DecodeLimits()).__enter__()\n"
        "print(decoder.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_many_decoders_at_once(films, picture):
    path = films.make("h264.mp4")
    results = []

    def work():
        with Decoder(DecodeLimits()) as decoder:
            results.extend(len(list(decoder.open(request))) for request in (film(path), still(picture)) * 2)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [1] * 6 + [60] * 6


def test_names_of_any_bytes(tmp_path, films):
    for name in (b"a b\n'.mp4", b"\xff\xfe.mp4", b"%03d.mp4", b"http:x.mp4", b"-i.mp4"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(films.make("h264.mp4").read_bytes())
        with Decoder(SHORT) as decoder:
            assert len(list(decoder.open(film(path)))) == 60


def test_a_failed_request_leaves_no_stream_behind(tmp_path, picture):
    (tmp_path / "bad.mp4").write_text("x")
    with Decoder(SHORT) as decoder:
        first = decoder.pid
        for _ in range(3):
            with pytest.raises(MediaRejected):
                decoder.probe(str(tmp_path / "bad.mp4"), "video")
            assert decoder.probe(picture, "image").width == 31
        assert decoder.pid == first
