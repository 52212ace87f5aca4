"""Lists and reads files of object stores and web servers, through fsspec.

Credentials come from the store's own settings (for S3 ``AWS_*`` or its configuration files), never from a URL: URLs are
stored and shown.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import fsspec

from worker.errors import MediaChanged, MediaRejected, MediaUnreachable, UsageError
from worker.masking import holds_secret, masked
from worker.storage.fetch_cache import Transfer
from worker.storage.roots import UNSAFE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAX_FILES = 1_000_000  # files below one URL; more are refused, so that a wrong prefix does not list a whole store
REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})
BLOCK_BYTES = 8 << 20  # of one request
EXTRAS = {"s3": "s3", "s3a": "s3"}  # by scheme: the extra of this package that it needs


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a URL."""

    url: str
    byte_size: int


def is_url(location: str) -> bool:
    """Return whether a location is the URL of a file to fetch; ``file://`` is a path, see ``local_path``."""
    return "://" in location and not location.startswith("file://")


def local_path(argument: str) -> str:
    """Return the path of a ``file://`` URL, and any other argument unchanged.

    Raises:
        UsageError: the URL names another host.
    """
    if not argument.startswith("file://"):
        return argument
    parts = urlsplit(argument)
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(f"{masked(argument)} names the host {parts.netloc!r}, expected file:///path")
    return unquote(parts.path)


def place_of(url: str) -> str:
    """Return the store of a URL: its scheme, and its bucket or host."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def list_remote_files(url: str, most: int = MAX_FILES) -> Iterator[RemoteFile]:
    """Yield the file at a URL, the files that match its pattern, or all files below it, sorted by name.

    Raises:
        UsageError: there are no files, too many files, or the store cannot be listed.
    """
    fs, path = _open(url)
    count = 0
    try:
        for count, found in enumerate(islice(_found(fs, path), most + 1), start=1):
            if count <= most:
                yield RemoteFile(_url(fs, found["name"]), int(found.get("size") or 0))
    except (FileNotFoundError, NotADirectoryError) as err:
        if redirect := _redirect_in(err):
            raise UsageError(f"{url} cannot be read: {redirect}; name the address where the file is") from err
        raise UsageError(f"{url} names nothing; name a file, a folder or a bucket that exists") from err
    except Exception as err:  # each store has errors of its own
        raise UsageError(f"{url} cannot be listed: {_error_text(err)}; check credentials and address") from err
    if count > most:
        raise UsageError(f"more than {most:,} files lie below {url}; name a narrower prefix")
    if not count:
        raise UsageError(f"no files in {url}; name a folder or prefix that holds some")


def read_head(file: RemoteFile, count: int) -> bytes:
    """Return the first bytes of a file.

    Raises:
        MediaUnreachable, MediaRejected: as ``read_chunks``.
    """
    if not file.byte_size:
        return b""
    try:
        fs, path = _open(file.url)
        head: bytes = fs.cat_file(path, start=0, end=min(count, file.byte_size))
    except Exception as err:
        raise _translated(file.url, err) from err
    return head


def describe(url: str) -> RemoteFile:
    """Ask the store for the size of a file.

    Raises:
        MediaUnreachable, MediaRejected: as ``read_chunks``.
    """
    try:
        fs, path = _open(url)
        return RemoteFile(url, int(fs.info(path).get("size") or 0))
    except Exception as err:
        raise _translated(url, err) from err


def start_transfer(file: RemoteFile) -> Transfer:
    """Return the transfer of a file; the store is asked when its first chunk is read."""
    return Transfer(file.byte_size, read_chunks(file))


def read_chunks(file: RemoteFile) -> Iterator[bytes]:
    """Yield all bytes of a file.

    Raises:
        MediaUnreachable: the store does not answer or refuses this host.
        MediaRejected: ``missing``; ``changed`` if its length is not the listed one; ``unreadable`` if it is redirected.
    """
    try:
        fs, path = _open(file.url)
        got = 0
        with fs.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as source:
            while chunk := _read(source):
                got += len(chunk)
                if got > file.byte_size:
                    break
                yield chunk
    except Exception as err:
        raise _translated(file.url, err) from err
    if got != file.byte_size:
        raise MediaChanged(f"the file is not as long as its store stated ({file.byte_size} bytes)")


def _read(source: BinaryIO) -> bytes:
    return source.read(1 << 20)


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it.

    Raises:
        UsageError: the scheme is unknown or needs a missing package, or the URL holds a secret or a chain.
    """
    if holds_secret(url):
        raise UsageError(f"{masked(url)} carries credentials; URLs are stored, so set them in the environment instead")
    if UNSAFE.search(url):
        raise UsageError(f"{url!r} has control characters or backslashes, expected scheme://host/path")
    if "::" in url:
        raise UsageError(f"{url} is a chain of URLs, expected one")
    scheme = url.partition("://")[0]
    web = {"allow_redirects": False, "client_kwargs": {"raise_for_status": _refuse_redirect}}
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **(web if scheme in {"http", "https"} else {}))
    except ImportError as err:
        extra = f"pip install 'facet[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(err)
        raise UsageError(f"{scheme}:// needs a package that is not installed: {extra}") from err
    except ValueError as err:
        raise UsageError(
            f"{scheme}:// is no scheme that is known ({_error_text(err)}); use s3://, file:// or a path"
        ) from err
    return fs, path


class _RedirectedError(OSError):
    """A server redirected the request; redirects are not followed, since they could lead anywhere."""


async def _refuse_redirect(response: Any) -> None:
    if response.status in REDIRECTS:
        raise _RedirectedError(f"its server answers {response.status}, see another address, which is not followed")


def _redirect_in(err: BaseException | None) -> _RedirectedError | None:
    """Return the redirect that caused an error: fsspec reports one as a missing file."""
    while err is not None and not isinstance(err, _RedirectedError):
        err = err.__cause__ or err.__context__
    return err


def _found(fs: Any, path: str) -> Iterator[dict[str, Any]]:
    if any(mark in path for mark in "*?["):
        yield from (found for _, found in sorted(fs.glob(path, detail=True).items()) if found["type"] == "file")
        return
    info = fs.info(path)
    if info["type"] == "file":
        yield info
        return
    folders = [_listing(fs, path)]
    while folders:
        entry = next(folders[-1], None)
        if entry is None:
            folders.pop()
        elif entry["type"] == "directory":
            folders.append(_listing(fs, entry["name"]))
        else:
            yield entry


def _listing(fs: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield the entries directly below a folder, without the object that some stores list as its mark."""
    entries = fs.ls(path, detail=True)
    own = path.strip("/")
    below = (entry for entry in entries if entry["name"].strip("/") != own)
    return iter(sorted(below, key=lambda entry: posixpath.basename(entry["name"].rstrip("/"))))


def _url(fs: Any, name: str) -> str:
    url: str = fs.unstrip_protocol(name)
    return url


def _translated(url: str, err: Exception) -> Exception:
    """Translate an error of a store; a missing file counts as deleted only if the store answers and is not empty."""
    if isinstance(err, MediaRejected | MediaUnreachable):
        return err
    if redirect := _redirect_in(err):
        return MediaRejected("unreadable", f"{redirect}; submit the address where the file is")
    place = place_of(url)
    if isinstance(err, FileNotFoundError) and _answers(place):
        return MediaRejected("missing", "the file was deleted or moved; its store answers and does not hold it")
    return MediaUnreachable(
        place, f"{place} cannot be read ({_error_text(err)}); check credentials, address and network"
    )


def _answers(place: str) -> bool:
    try:
        fs, path = _open(place)
        return bool(fs.ls(path, detail=False))
    except Exception:  # noqa: BLE001 - any error means that the store does not answer
        return False


def _error_text(err: Exception) -> str:
    return masked(" ".join(str(err).split()) or type(err).__name__)
