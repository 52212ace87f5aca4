import bz2
import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from PIL import Image

from worker.errors import RetryableError
from worker.ingest import FoundFile, IngestOptions, RefusedFile, discover


def jpeg(number=0):
    out = io.BytesIO()
    Image.new("RGB", (8 + number, 8)).save(out, "JPEG")
    return out.getvalue()


def zipped(members, **options):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(data, tarfile.TarInfo):
                info.size = len(data)
            archive.addfile(info, io.BytesIO(b"" if isinstance(data, tarfile.TarInfo) else data))
    return out.getvalue()


PACKERS = {
    "zip": lambda members: zipped(members, compression=zipfile.ZIP_DEFLATED),
    "stored": zipped,
    "bzip2 zip": lambda members: zipped(members, compression=zipfile.ZIP_BZIP2),
    "lzma zip": lambda members: zipped(members, compression=zipfile.ZIP_LZMA),
    "tar": tarred,
    "gnu tar": lambda members: tarred(members, tarfile.GNU_FORMAT),
    "old tar": lambda members: tarred(members, tarfile.USTAR_FORMAT),
    "tar.gz": lambda members: gzip.compress(tarred(members)),
    "tar.bz2": lambda members: bz2.compress(tarred(members)),
    "tar.xz": lambda members: lzma.compress(tarred(members)),
    "tar.zst": lambda members: zstandard.compress(tarred(members)),
}


@pytest.fixture
def found(tmp_path):
    def found(data, **options):
        path = tmp_path / "archive.jpg"  # whose name says nothing
        path.write_bytes(data)
        items = list(discover([str(path)], IngestOptions(**options), tmp_path / "staging"))
        assert all(item.uri.startswith(str(path)) for item in items)
        left = [file for file in (tmp_path / "staging").rglob("*") if file.name.startswith(".partial")]
        assert not left
        return {item.uri.removeprefix(str(path)): item for item in items}

    return found


def codes(items):
    return {uri: getattr(item, "code", "found") for uri, item in items.items()}


@pytest.mark.parametrize("packer", PACKERS)
def test_members_are_found_and_staged_by_content(found, packer, tmp_path):
    long_name = "f" * 90 + "/" + "n" * 90 + ".jpg"
    members = {"a/b.txt": jpeg(1), long_name: jpeg(2), "c.jpg": b"no picture", "empty.jpg": b"", "d.png": jpeg(1)}
    items = found(PACKERS[packer](members))
    assert codes(items) == {
        "!/a/b.txt": "found",
        f"!/{long_name}": "found",
        "!/c.jpg": "not_media",
        "!/empty.jpg": "empty",
        "!/d.png": "found",
    }
    first = items["!/a/b.txt"]
    digest = hashlib.sha256(jpeg(1)).hexdigest()
    assert first.sha256 == digest
    assert first.location == tmp_path / "staging" / digest[:2] / f"{digest}.jpg"
    assert first.location.read_bytes() == jpeg(1)
    assert (first.kind, first.format, first.byte_size) == ("image", "jpeg", len(jpeg(1)))
    assert items["!/d.png"].location == first.location
    staged = [file for file in (tmp_path / "staging").rglob("*") if file.is_file()]
    assert len(staged) == 2


def test_names_that_point_out_of_the_archive(found, tmp_path):
    names = [
        "../../evil.jpg",
        "/etc/evil.jpg",
        "a/../../evil.jpg",
        "..\\evil.jpg",
        "C:\\evil.jpg",
        "\\\\host\\evil.jpg",
    ]
    for pack in (zipped, tarred):
        items = found(
            pack({name: jpeg(n) for n, name in enumerate(names)} | {"good..jpg": jpeg(9), "1:2.jpg": jpeg(8)})
        )
        assert Counter(codes(items).values()) == {"unsafe_path": 6, "found": 2}
    assert not list(tmp_path.rglob("evil*"))
    assert not list(tmp_path.parent.glob("evil*"))


def test_links_and_devices_in_a_tar(found):
    def special(name, kind, target=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    members = {
        "good.jpg": jpeg(),
        "soft": special("soft", tarfile.SYMTYPE, "/etc/passwd"),
        "hard": special("hard", tarfile.LNKTYPE, "good.jpg"),
        "fifo": special("fifo", tarfile.FIFOTYPE),
        "char": special("char", tarfile.CHRTYPE),
        "block": special("block", tarfile.BLKTYPE),
        "folder": special("folder", tarfile.DIRTYPE),
    }
    assert codes(found(tarred(members))) == {
        "!/good.jpg": "found",
        "!/soft": "link",
        "!/hard": "link",
        "!/fifo": "special_file",
        "!/char": "special_file",
        "!/block": "special_file",
    }


def test_a_link_in_a_tar_is_no_way_out_for_what_follows(found, tmp_path):
    """A folder that is a link to elsewhere, then a member in it; and a hard link to a file elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.jpg").write_bytes(jpeg(6))

    def link(name, kind, target):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, str(target)
        return info

    members = {
        "out": link("out", tarfile.SYMTYPE, tmp_path / "elsewhere"),
        "out/evil.jpg": jpeg(1),
        "hard.jpg": link("hard.jpg", tarfile.LNKTYPE, tmp_path / "elsewhere" / "secret.jpg"),
        "climbing.jpg": link("climbing.jpg", tarfile.LNKTYPE, "../elsewhere/secret.jpg"),
    }
    items = found(tarred(members))
    assert codes(items) == {"!/out": "link", "!/out/evil.jpg": "found", "!/hard.jpg": "link", "!/climbing.jpg": "link"}
    assert items["!/out/evil.jpg"].location.is_relative_to(tmp_path / "staging")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["secret.jpg"]


def test_sizes_that_a_zip_claims_are_not_believed(found, tmp_path):
    """The directory says that three megabytes are ten bytes: what comes out is counted, not what was promised."""
    data = bytearray(zipped({"bomb.jpg": jpeg() + ZEROS}, compression=zipfile.ZIP_DEFLATED))
    claimed = struct.pack("<I", 10)
    local, directory = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    data[local + 22 : local + 26] = claimed
    data[directory + 24 : directory + 28] = claimed
    (code,) = codes(found(bytes(data), archive_ratio=50, archive_ratio_from=1_000_000)).values()
    assert code in {"corrupt", "archive_bomb", "not_media"}
    assert sum(file.stat().st_size for file in (tmp_path / "staging").rglob("*") if file.is_file()) < 100_000


def test_links_and_encrypted_members_in_a_zip(found):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("folder/", "")
        archive.writestr("secret.jpg", jpeg())
        archive.writestr("good.jpg", jpeg(1))
    data = bytearray(out.getvalue())
    entry = data.rindex(b"secret.jpg") - 46  # its entry in the directory
    data[entry + 8] |= 1
    assert codes(found(bytes(data))) == {"!/link": "link", "!/secret.jpg": "encrypted", "!/good.jpg": "found"}


def test_one_archive_inside_another_is_opened_and_no_deeper(found):
    third = zipped({"deep.jpg": jpeg(3)})
    second = gzip.compress(tarred({"b.jpg": jpeg(2), "third.zip": third}))
    items = found(zipped({"a.jpg": jpeg(1), "second.tgz": second, "z.jpg": jpeg(4)}))
    assert codes(items) == {
        "!/a.jpg": "found",
        "!/second.tgz!/b.jpg": "found",
        "!/second.tgz!/third.zip": "nested_archive",
        "!/z.jpg": "found",
    }
    assert codes(found(zipped({"inner.zip": third}), archive_depth=0)) == {"!/inner.zip": "nested_archive"}


ZEROS = bytes(3_000_000)


@pytest.mark.parametrize("packer", ["zip", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_a_bomb_is_stopped_by_its_ratio(found, packer, tmp_path):
    bomb = PACKERS[packer]({"good.jpg": jpeg(), "bomb.jpg": jpeg() + ZEROS, "after.jpg": jpeg(2)})
    items = found(bomb, archive_ratio=50, archive_ratio_from=1_000_000)
    assert codes(items) == {"": "archive_bomb", "!/good.jpg": "found"}
    assert sum(file.stat().st_size for file in (tmp_path / "staging").rglob("*") if file.is_file()) < 100_000


@pytest.mark.parametrize("packer", ["stored", "tar"])
def test_inflated_bytes_are_bounded(found, packer):
    items = found(PACKERS[packer]({"a.jpg": jpeg() + ZEROS, "b.jpg": jpeg() + ZEROS}), archive_bytes=4_000_000)
    assert codes(items) == {"": "archive_bomb", "!/a.jpg": "found"}


def test_a_bomb_inside_an_archive_ends_both(found):
    inner = gzip.compress(tarred({"bomb.jpg": jpeg() + ZEROS}))
    items = found(zipped({"in.tgz": inner, "z.jpg": jpeg()}), archive_ratio=50, archive_ratio_from=1_000_000)
    assert codes(items) == {"": "archive_bomb", "!/in.tgz": "archive_bomb"}


@pytest.mark.parametrize("packer", ["zip", "tar"])
def test_entries_are_bounded(found, packer):
    items = found(PACKERS[packer]({f"{n}.jpg": jpeg(n) for n in range(20)}), archive_entries=7)
    assert Counter(codes(items).values()) == {"found": 7, "too_many_entries": 1}


def test_a_header_that_claims_gigabytes_is_not_read(found):
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    assert codes(found(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))) == {"": "archive_bomb"}


def test_sparse_members_are_refused(found):
    info = tarfile.TarInfo("sparse.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % (1 << 32)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    assert codes(found(bytes(block) + bytes(512) + bytes(1024))) == {"!/sparse.jpg": "special_file"}


@pytest.mark.parametrize("packer", ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_half_a_tar_says_so(found, packer):
    import random

    noise = random.Random(0).randbytes(200_000)
    data = PACKERS[packer]({"a.jpg": jpeg(1), "b.jpg": jpeg(2) + noise, "c.jpg": jpeg(3)})
    reasons = codes(found(data[: len(data) // 2]))
    assert reasons.get("") in {"truncated", "corrupt"}
    assert "!/c.jpg" not in reasons


def test_damage_between_members_of_a_tar_says_so(found):
    data = bytearray(tarred({"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, tarfile.USTAR_FORMAT))
    second = 512 + (len(jpeg(1)) + 511) // 512 * 512
    data[second : second + 100] = b"\x55" * 100
    assert codes(found(bytes(data))) == {"!/a.jpg": "found", "": "corrupt"}


def test_half_a_zip_says_so(found):
    data = zipped({"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    assert codes(found(data[: len(data) // 2])) == {"": "truncated"}


def test_a_damaged_member_does_not_hide_the_others(found):
    members = {"a.jpg": jpeg(1), "b.jpg": jpeg(2) + bytes(1000), "c.jpg": jpeg(3)}
    data = bytearray(zipped(members))
    data[data.index(b"b.jpg") + 300] ^= 0xFF
    assert codes(found(bytes(data))) == {"!/a.jpg": "found", "!/b.jpg": "corrupt", "!/c.jpg": "found"}


def test_a_member_packed_in_an_unknown_way(found):
    data = bytearray(zipped({"a.jpg": jpeg(1)}))
    for position in (data.index(b"PK\x03\x04") + 8, data.index(b"PK\x01\x02") + 10):
        data[position : position + 2] = struct.pack("<H", 97)
    assert codes(found(bytes(data))) == {"!/a.jpg": "unsupported_format"}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_compressed_file_that_is_no_tar(found, pack):
    assert codes(found(pack(b"some text" * 1000))) == {"": "not_media"}


def test_archives_without_files(found):
    assert codes(found(zipped({}))) == {"": "empty"}
    assert codes(found(tarred({}))) == {"": "not_media"}  # it is nothing but zeros
    assert codes(found(gzip.compress(tarred({})))) == {"": "empty"}


def test_names_that_a_database_cannot_hold(found):
    items = found(tarred({"caf\udce9.jpg": jpeg()}, tarfile.GNU_FORMAT))
    (item,) = items.values()
    assert isinstance(item, FoundFile)
    item.uri.encode()


def test_a_full_disk_is_not_the_archives_fault(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped({"a.jpg": jpeg()}))
    (tmp_path / "file").write_text("where the staging folder should be")
    with pytest.raises(RetryableError):
        list(discover([str(tmp_path / "a.zip")], IngestOptions(), tmp_path / "file" / "staging"))


def test_many_members_keep_little_memory(tmp_path):
    import tracemalloc

    data = tarred({f"{n}.txt": b"x" for n in range(5000)})
    (tmp_path / "many.tar").write_bytes(data)
    tracemalloc.start()
    count = sum(
        isinstance(item, RefusedFile)
        for item in discover([str(tmp_path / "many.tar")], IngestOptions(), Path(tmp_path / "s"))
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 4_000_000


@pytest.mark.parametrize("packer", PACKERS)
def test_bytes_changed_at_random_give_items_and_no_traceback(tmp_path, packer):
    import random

    chance = random.Random(5)
    members = {"a.jpg": jpeg(1), "b/c.jpg": jpeg(2) + bytes(900), "d.zip": zipped({"x.jpg": jpeg(3)}), "e.txt": b"text"}
    data = PACKERS[packer](members)
    path = tmp_path / "archive"
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 2, 5, 30))):
            place = chance.randrange(len(changed))
            changed[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), chance.randbytes(4)))
        path.write_bytes(changed)
        assert list(discover([str(path)], IngestOptions(), tmp_path / "staging"))
