"""The crop store gives back exactly what it was given."""

from __future__ import annotations

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from worker.errors import FacetError, RetryableError
from worker.storage.crops import CropStore


@pytest.fixture
def crops():
    return np.random.default_rng(7).integers(0, 256, (5, 112, 112, 3), np.uint8)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_strips_are_lossless(tmp_path, crops, scheme):
    store = CropStore(f"{scheme}{tmp_path / 'crops'}")
    store.write("ab/abc/1/0-0.png", crops)
    assert np.array_equal(store.read("ab/abc/1/0-0.png", 112), crops)
    assert not list(tmp_path.rglob("*.part"))


def test_strips_go_to_any_storage_that_fsspec_knows(crops):
    store = CropStore("memory://crops-of-a-test")
    store.write("ab/0-0.png", crops)
    assert np.array_equal(store.read("ab/0-0.png", 112), crops)


def test_a_second_attempt_writes_the_same_place(tmp_path, crops):
    store = CropStore(str(tmp_path))
    store.write("x/0-0.png", crops)
    store.write("x/0-0.png", crops)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["0-0.png"]


def test_missing_and_damaged_strips_say_what_to_do(tmp_path):
    store = CropStore(str(tmp_path))
    with pytest.raises(FacetError, match=r"missing.*analyse its file again"):
        store.read("x/0-0.png", 112)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(FacetError, match="damaged"):
        store.read("bad.png", 112)


def test_a_folder_that_takes_nothing_is_worth_another_try(tmp_path, crops):
    (tmp_path / "crops").write_text("a file where a folder was expected")
    with pytest.raises(RetryableError, match="FACET_CROPS_URL"):
        CropStore(str(tmp_path / "crops")).write("a/0-0.png", crops)


ACTS = {
    "write": lambda store, folder, crops: store.write("a/0-0.png", crops),
    "blank": lambda store, folder, crops: store.blank("a/0-0.png", [0]),
    "find": lambda store, folder, crops: store.find("a"),
    "require": lambda store, folder, crops: store.require(),
    "folders": lambda store, folder, crops: store.folders("a"),
    "remove": lambda store, folder, crops: store.remove("a"),
    "copy_out": lambda store, folder, crops: store.copy_out(["a/0-0.png"], folder),
    "copy_in": lambda store, folder, crops: store.copy_in(["a/0-0.png"], folder),
}


@pytest.mark.parametrize("act", ACTS)
def test_an_object_store_with_errors_of_its_own_is_worth_another_try(tmp_path, crops, monkeypatch, act):
    """Object stores raise errors of their client, such as lacking credentials, which are no OSError."""

    class AwayError(Exception):
        pass

    def fail(*_args, **_options):
        raise AwayError("no credentials for http://me:hidden@store")

    for method in (
        "makedirs", "mkdir", "pipe_file", "cat_file", "ls", "find", "get_file", "put_file", "rm", "rm_file", "info",
        "exists", "isfile", "isdir", "open", "_open",
    ):  # fmt: skip
        monkeypatch.setattr(MemoryFileSystem, method, fail)
    with pytest.raises(RetryableError, match="no credentials") as told:
        ACTS[act](CropStore("memory://crops-away"), tmp_path, crops)
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_crops_are_blanked_and_removed_where_nobody_else_is(tmp_path, crops, where):
    store = CropStore(str(tmp_path / "crops") if where == "folder" else "memory://crops-to-remove")
    names = ["ab/abc/1/0-0.png", "ab/abc/1/1-0.png", "ab/abc/12/0-0.png"]
    for name in names:
        store.write(name, crops)
    assert store.blank(names[0], [0])
    assert not store.blank("ab/abc/9/0-0.png", [0])
    expected = crops.copy()
    expected[0] = 0
    assert np.array_equal(store.read(names[0], 112), expected)
    assert store.find("ab/abc/1") == names[:2]
    assert store.find(names[2]) == names[2:]
    store.remove("ab/abc/1")
    store.remove("ab/abc/9")
    assert np.array_equal(store.read(names[2], 112), crops)
    store.remove(names[2])
    assert store.find("ab") == []
    if where == "folder":
        assert list((tmp_path / "crops").iterdir()) == []
