"""``FACET_MEDIA_ROOTS``: whichever way an address is spelt, wherever a link or a server leads."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from worker.errors import MediaRejected, MediaUnreachable, UsageError
from worker.ingest import FoundFile, IngestOptions, check_arguments, discover
from worker.storage.fetch_cache import FetchCache
from worker.storage.remote import RemoteFile
from worker.storage.roots import within
from worker.storage.sources import Sources

WEB = "http://h/allowed"
BELOW = [
    "http://h/allowed",
    "http://h/allowed/",
    "http://h/allowed/a.jpg",
    "HTTP://H/allowed/a.jpg",
    "http://h:80/allowed/a.jpg",
    "http://h./allowed/a.jpg",
    "http://h/allow%65d/a.jpg",
    "http://h/allowed//a.jpg",
    "http://h/allowed/a%20b.jpg",
    "http://h/allowed/a b.jpg",
    "http://h/allowed/100%.jpg",
    "http://h/allowed/..a/b..jpg",
    "http://h/allowed/a.jpg?x=../..",
    "http://h/allowed/caf%C3%A9.jpg",
    "http://h/allowed/*.jpg",
]
OUTSIDE = [
    "http://h/allowed/../secret/a.jpg",
    "http://h/allowed/%2e%2e/secret/a.jpg",
    "http://h/allowed/%2E./secret/a.jpg",
    "http://h/allowed/.%2e/secret/a.jpg",
    "http://h/allowed/..;/secret/a.jpg",
    "http://h/allowed/..;a=b/secret/a.jpg",
    "http://h/allowed/%2e%2e%3b/secret/a.jpg",
    "http://h/allowed/%252e%252e/secret/a.jpg",
    "http://h/allowed/%25252525252e%25252525252e/a.jpg",
    "http://h/allowed/%2e%2e%2fsecret/a.jpg",
    "http://h/allowed/..%2fsecret/a.jpg",
    "http://h/allowed%2f..%2fsecret/a.jpg",
    "http://h/allowed%2fa.jpg",
    "http://h/allowed/..\\secret\\a.jpg",
    "http://h/allowed/..%5csecret%5ca.jpg",
    "http://h/allowed/./a.jpg",
    "http://h/allowed/\t../a.jpg",
    "http://h/allowed/%0a/a.jpg",
    "http://h/allowed/a%00.jpg",
    "http://h/allowed2/a.jpg",
    "http://h/Allowed/a.jpg",
    "http://h//allowed/a.jpg",
    "http://h/?/allowed/a.jpg",
    "http://h#/allowed/a.jpg",
    "http://h:8080/allowed/a.jpg",
    "http://h:x/allowed/a.jpg",
    "http://u@h/allowed/a.jpg",
    "http://h@other/allowed/a.jpg",
    "http://h%40other/allowed/a.jpg",
    "http://other/http://h/allowed/a.jpg",
    "http://other\\@h/allowed/a.jpg",
    "http://h.other/allowed/a.jpg",
    "http://h../allowed/a.jpg",
    "http:// h/allowed/a.jpg",
    "http:///allowed/a.jpg",
    "http://\uff48/allowed/a.jpg",
    "https://h/allowed/a.jpg",
    "local:///allowed/a.jpg",
    "s3://h/allowed/a.jpg",
]


@pytest.mark.parametrize("url", BELOW)
def test_an_address_below_a_root_is(url):
    assert within(url, ("/media", WEB))
    assert within(url, (WEB + "/",))


@pytest.mark.parametrize("url", OUTSIDE)
def test_an_address_that_may_lead_elsewhere_is_not(url):
    assert not within(url, ("/media", "/allowed", WEB))


@pytest.mark.parametrize(
    ("url", "root", "expected"),
    [
        ("s3://bucket/a/b", "s3://bucket/a", True),
        ("s3://bucket/a/b", "s3://bucket/", True),
        ("s3://bucket/A/b", "s3://bucket/a", False),
        ("s3://bucket-2/a", "s3://bucket", False),
        ("s3://bucket/a/../b", "s3://bucket/a", False),
        ("s3://bucket/a/%2e%2e/b", "s3://bucket/a", False),
        ("s3://bucket/a/50%.jpg", "s3://bucket/a", True),
        ("s3://bucket/a/b#c?d.jpg", "s3://bucket/a", True),
        ("memory:///bucket/a", "memory://bucket", True),
        ("https://h:443/x", "https://h", True),
        ("http://[::1]:80/x", "http://[::1]", True),
        ("http://h/x", "http://h/../", False),
    ],
)
def test_other_roots(url, root, expected):
    assert within(url, (root,)) is expected


class Server(HTTPServer):
    """Serves an image at each path but those that redirect; notes what it is asked for."""

    def __init__(self, picture):
        super().__init__(("127.0.0.1", 0), Handler)
        self.picture = picture
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if "redirect" in self.path:
            self.send_response(int(self.path[-3:]))
            self.send_header("Location", "/secret/a.jpg")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.server.picture
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - so it is called

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "a.jpg"
    Image.new("RGB", (20, 10), (90, 30, 20)).save(path)
    with Server(path.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def options(server):
    server.asked.clear()
    return IngestOptions(roots=(f"{server.url}/allowed",))


@pytest.mark.parametrize(
    "path", ["/secret/a.jpg", "/allowed/%2e%2e/secret/a.jpg", "/allowed/%252e%252e/secret/a.jpg", "/"]
)
def test_a_server_is_not_asked_for_what_lies_outside(server, options, path, tmp_path):
    for attempt in (
        lambda: check_arguments([server.url + path], options.roots),
        lambda: discover([server.url + path], options, tmp_path),
    ):
        with pytest.raises(UsageError, match="outside of what may be read"):
            attempt()
    sources = Sources(roots=options.roots, cache=FetchCache(tmp_path, 1 << 20))
    with pytest.raises(MediaUnreachable, match="FACET_MEDIA_ROOTS"), sources.open_local(server.url + path):
        pass
    assert server.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server, options, status, tmp_path):
    url = f"{server.url}/allowed/redirect-{status}"
    with pytest.raises(UsageError, match="not followed"):
        list(discover([url], options, tmp_path))
    sources = Sources(roots=options.roots, cache=FetchCache(tmp_path, 1 << 20))
    with pytest.raises(MediaRejected, match="not followed") as caught, sources.open_local(url):
        pass
    assert caught.value.code == "unreadable"
    assert "/secret/a.jpg" not in server.asked


def test_a_listing_that_leads_out_is_not_followed(server, options, tmp_path, monkeypatch):
    listed = [RemoteFile(f"{server.url}/{folder}/a.jpg", len(server.picture)) for folder in ("allowed", "secret")]
    monkeypatch.setattr(sys.modules["worker.ingest.discover"], "list_remote_files", lambda _: iter(listed))
    items = list(discover([f"{server.url}/allowed"], options, tmp_path))
    assert [getattr(item, "code", "found") for item in items] == ["found", "link"]
    assert set(server.asked) == {"/allowed/a.jpg"}


@pytest.fixture
def folders(tmp_path):
    for name, colour in (("root", 10), ("private", 200)):
        (tmp_path / name / "sub").mkdir(parents=True)
        Image.new("L", (8, 8), colour).save(tmp_path / name / "sub" / "a.png")
    return tmp_path / "root", tmp_path / "private"


def swap_file(root, private):
    (root / "sub" / "a.png").unlink()
    (root / "sub" / "a.png").symlink_to(private / "sub" / "a.png")


def swap_folder(root, private):
    (root / "sub").rename(root / "old")
    (root / "sub").symlink_to(private / "sub")


@pytest.mark.parametrize("swap", [swap_file, swap_folder])
def test_a_link_that_takes_a_files_place_after_the_check_is_not_followed(folders, swap, monkeypatch):
    root, private = folders

    def late(location, *_):
        swap(root, private)

    monkeypatch.setattr("worker.storage.sources.require_present", late)
    sources = Sources(roots=(str(root),))
    with pytest.raises(MediaUnreachable, match="FACET_MEDIA_ROOTS"), sources.open_local(str(root / "sub" / "a.png")):
        pass


@pytest.mark.parametrize("swap", [swap_file, swap_folder])
def test_a_link_that_takes_its_place_while_it_is_read_changes_nothing(folders, swap):
    root, private = folders
    expected = (root / "sub" / "a.png").read_bytes()
    with Sources(roots=(str(root),)).open_local(str(root / "sub" / "a.png")) as path:
        swap(root, private)
        assert Path(path).read_bytes() == expected


def test_a_link_that_takes_a_folders_place_during_submission_is_not_followed(folders, tmp_path):
    root, private = folders
    items = discover([str(root / "sub")], IngestOptions(roots=(str(root),)), tmp_path / "staging")
    swap_folder(root, private)
    (item,) = items
    assert item.code == "link"


def test_a_link_inside_of_a_root_is_followed(folders, tmp_path):
    root, _ = folders
    (root / "named.png").symlink_to(root / "sub" / "a.png")
    (item,) = discover([str(root / "named.png")], IngestOptions(roots=(str(root),)), tmp_path / "staging")
    assert isinstance(item, FoundFile)
    with Sources(roots=(str(root),)).open_local(str(root / "named.png")) as path:
        assert Path(path).read_bytes() == (root / "sub" / "a.png").read_bytes()


def test_what_lies_outside_is_not_looked_for(folders):
    root, private = folders
    roots = (str(root),)
    for path in (private / "nothing", private / "sub" / "a.png", private / "*", private / "**" / "a.png"):
        with pytest.raises(UsageError, match="outside of what may be read"):
            check_arguments([str(path)], roots)
    check_arguments([str(root / "sub" / "*.png"), str(root.parent / "*" / "sub")], roots)
