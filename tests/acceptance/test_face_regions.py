"""Face regions of photo programs go out and come in, under every EXIF orientation, as a user moves them."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile

import numpy as np
import psycopg
import pytest
from PIL import Image, ImageOps

from tests.acceptance.quick import Quick
from worker.cli.demo import build_photos
from worker.pictures.regions.packet import read_mp, read_mwg
from worker.pictures.regions.xml_tree import parse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ORIENTATION = 0x0112
NAMES = ("Грейс Хоппер", "王小明 <&> é")
# From the shown to the stored pixels.
STORE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def stored(image, orientation):
    """Return the bytes of a JPEG that shows an image under an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = orientation, "Leica"
    data = io.BytesIO()
    lying = image.transpose(STORE[orientation]) if orientation in STORE else image
    lying.save(data, format="JPEG", exif=exif, quality=95)
    return data.getvalue()


@pytest.fixture(scope="module")
def archive(shared_facet, tmp_path_factory):
    """Two people in one photo, stored in eight ways, as a PNG, and as a member of a zip file."""
    folder = tmp_path_factory.mktemp("archive")
    build_photos(folder / "made")
    with Image.open(folder / "made" / "both.jpg") as image:
        both = image.convert("RGB").resize((768, 384))  # as few pixels as show faces well
    shutil.rmtree(folder / "made")
    (folder / "photos").mkdir()
    for orientation in range(1, 9):
        (folder / "photos" / f"{orientation}.jpg").write_bytes(stored(both, orientation))
    both.save(folder / "photos" / "plain.png")
    with zipfile.ZipFile(folder / "photos" / "more.zip", "w") as more:
        more.writestr("inside.jpg", stored(both.resize((both.width // 2, both.height // 2)), 6))
    done = shared_facet("analyze", folder / "photos", "--json")
    assert json.loads(done.stdout)["people"] == 2, done.stderr
    return Quick(shared_facet), folder / "photos"


@pytest.fixture
def named(archive):
    """The archive with the names of its people; afterwards it has none, and no sidecars."""
    facet, folder = archive
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    people = [row["person_id"] for row in facet.rows("SELECT person_id FROM people ORDER BY person_id")]
    for person, name in zip(people, NAMES, strict=True):
        facet("people", "name", str(person), name)
    yield facet, folder
    while facet.value("SELECT count(*) AS n FROM corrections WHERE undone_at IS NULL"):
        facet("people", "undo")
    for path in folder.iterdir():
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)


def faces(facet, name):
    """Return the shares of the faces in a file by name of the person, in the frame that is shown."""
    rows = facet.rows(
        "SELECT p.name, x1 / frame_width AS left, y1 / frame_height AS top, x2 / frame_width AS right, "
        "y2 / frame_height AS bottom FROM faces JOIN media USING (media_id) JOIN people p USING (person_id) "
        f"WHERE uri LIKE '%/{name}'"
    )
    return {row["name"]: [row[edge] for edge in ("left", "top", "right", "bottom")] for row in rows}


def cut(image, box):
    left, top, right, bottom = box
    wide, high = image.size
    return image.crop((round(left * wide), round(top * high), round(right * wide), round(bottom * high)))


def regions(packet, read=read_mwg):
    return {
        one.name: [one.box.left, one.box.top, one.box.left + one.box.width, one.box.top + one.box.height]
        for one in read(parse(packet)).faces
    }


def test_sidecars_state_places_in_the_stored_image_under_all_orientations(named):
    facet, folder = named
    done = facet("export", "xmp", "--beside", status=1)
    assert done.stdout.startswith("18 face regions written into 9 sidecars beside the images")
    assert "more.zip!/inside.jpg is left out: it lies in an archive" in done.stderr
    for orientation in range(1, 9):
        image = folder / f"{orientation}.jpg"
        packet = (folder / f"{orientation}.jpg.xmp").read_bytes()
        assert f"<tiff:Orientation>{orientation}</tiff:Orientation>".encode() in packet
        assert set(regions(packet)) == set(NAMES)
        with Image.open(image) as lying:
            upright = ImageOps.exif_transpose(lying)
            for name, shown in faces(facet, image.name).items():
                piece = cut(lying, regions(packet)[name])
                piece.getexif()[ORIENTATION] = orientation
                turned, expected = ImageOps.exif_transpose(piece), cut(upright, shown)
                assert np.abs(np.subtract(turned.size, expected.size)).max() <= 1
                difference = np.asarray(turned.resize(expected.size), float) - np.asarray(expected, float)
                assert np.abs(difference).mean() < 12, f"orientation {orientation}"
        assert regions(packet, read_mp) == {key: pytest.approx(box, abs=1e-5) for key, box in regions(packet).items()}


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_copies_with_regions_are_read_by_another_program_and_hold_the_same_image(named, tmp_path):
    facet, folder = named
    done = facet("export", "xmp", "--embed", "-o", tmp_path, "--where", "uri NOT LIKE '%.zip!%'")
    assert done.stdout.startswith(f"18 face regions written into 9 images in {tmp_path}")
    for image in folder.glob("*.[jp][pn]g"):
        copy = tmp_path / str(image.absolute()).lstrip("/")
        command = ["exiftool", "-json", "-struct", "-XMP-mwg-rs:all", "-XMP-MP:all", "-IFD0:all", str(copy)]
        (read,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert {one["Name"] for one in read["RegionInfo"]["RegionList"]} == set(NAMES)
        assert {one["PersonDisplayName"] for one in read["RegionInfoMP"]["Regions"]} == set(NAMES)
        with Image.open(copy) as one, Image.open(image) as other:
            assert (np.asarray(one) == np.asarray(other)).all()
            assert one.getexif() == other.getexif()


def test_names_come_back_from_sidecars_and_can_be_undone(named, tmp_path):
    facet, _ = named
    before = facet.rows("SELECT uri, name FROM appearances JOIN media USING (media_id) JOIN people USING (person_id) "
                        "ORDER BY uri, name")  # fmt: skip
    facet("export", "xmp", "-o", tmp_path / "mirror")
    facet("people", "undo")
    facet("people", "undo")
    trial = json.loads(facet("people", "import-xmp", tmp_path / "mirror", "--dry-run", "--json").stdout)
    assert {one["name"]: len(one["new"]) for one in trial["names"]} == dict.fromkeys(NAMES, 10)
    assert facet.value("SELECT count(name) AS n FROM people") == 0
    assert "10 named" in facet("people", "import-xmp", tmp_path / "mirror").stdout
    assert facet.rows("SELECT uri, name FROM appearances JOIN media USING (media_id) JOIN people USING (person_id) "
                      "ORDER BY uri, name") == before  # fmt: skip
    history = json.loads(facet("people", "history", "--json").stdout)
    assert {(one["name"], one["reason"], one["appearances"]) for one in history[:2]} == {
        (name, "face region", 10) for name in NAMES
    }
    again = json.loads(facet("people", "import-xmp", tmp_path / "mirror", "--json").stdout)
    assert [(one["new"], one["correction_id"]) for one in again["names"]] == [([], None)] * 2
    facet("people", "undo")
    facet("people", "undo")
    assert facet.value("SELECT count(name) AS n FROM people") == 0


def test_images_keep_their_names_when_regions_are_written_into_them(named):
    facet, folder = named
    facet("export", "xmp", "--embed", "--beside", "--where", "uri LIKE '%/6.jpg' OR uri LIKE '%/plain.png'")
    facet("people", "undo")
    facet("people", "undo")
    done = facet("people", "import-xmp", folder)
    assert "4 named" not in done.stdout
    assert facet.value("SELECT count(name) AS n FROM people") == 2
    # The images have other bytes now, which the archive does not know.
    done = facet("export", "xmp", "--embed", "--beside", "--where", "uri LIKE '%/6.jpg'", status=1)
    assert "is left out" in done.stderr


def test_a_name_at_one_place_parts_a_mixed_person(named):
    facet, folder = named
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/3.jpg'")
    facet("people", "undo")
    facet("people", "undo")
    first, second = (row["person_id"] for row in facet.rows("SELECT person_id FROM people ORDER BY person_id"))
    facet("people", "merge", first, second)
    facet("people", "import-xmp", folder / "3.jpg.xmp")
    shown = facet.rows("SELECT name, appearance_count AS n FROM people ORDER BY n")
    assert {row["name"] for row in shown} == set(NAMES)
    assert [row["n"] for row in shown] == [1, 19]
    facet("people", "undo")
    facet("people", "undo")
    assert facet.rows("SELECT name, appearance_count AS n FROM people") == [{"name": None, "n": 20}]


def test_a_person_of_another_name_is_left_unless_that_is_wanted(named):
    facet, folder = named
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/5.jpg'")
    sidecar = folder / "5.jpg.xmp"
    sidecar.write_text(sidecar.read_text().replace("Грейс Хоппер", "Someone Else"))
    done = facet("people", "import-xmp", folder)
    assert "1 have another name; pass --override" in done.stdout
    assert {row["name"] for row in facet.rows("SELECT name FROM people")} == set(NAMES)
    facet("people", "import-xmp", folder, "--override")
    rows = facet.rows("SELECT name, appearance_count AS n FROM people ORDER BY n")
    assert {row["name"]: row["n"] for row in rows} == {"Someone Else": 1, NAMES[0]: 9, NAMES[1]: 10}
    facet("people", "undo")
    rows = facet.rows("SELECT name, appearance_count AS n FROM people ORDER BY n")
    assert {row["name"]: row["n"] for row in rows} == {NAMES[0]: 10, NAMES[1]: 10}


def test_hostile_sidecars_are_left_out_alone(named):
    facet, folder = named
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/1.jpg'")
    laughs = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1 or str()};" * 9}">' for n in range(1, 30)
    )
    (folder / "2.jpg.xmp").write_text(f"{laughs}]><x>&a29;</x>")
    (folder / "3.jpg.xmp").write_text('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>')
    (folder / "4.jpg.xmp").write_text("<x>" * 100_000)
    (folder / "5.jpg.xmp").write_bytes(b"\xff\xfe<\0x")
    crop = (folder / "1.jpg.xmp").read_text().replace('stDim:w="', 'stDim:w="9')
    (folder / "6.jpg.xmp").write_text(crop)
    facet("people", "undo")
    facet("people", "undo")
    done = facet("people", "import-xmp", folder, status=1)
    assert len(re.findall(r"/[2-6]\.jpg\.xmp is left out", done.stderr)) == 5, done.stderr
    assert {row["name"] for row in facet.rows("SELECT name FROM people")} == set(NAMES)


def test_a_sidecar_of_another_program_keeps_what_it_holds(named):
    facet, folder = named
    (folder / "7.xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>'
    )
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/7.jpg'")
    assert not (folder / "7.jpg.xmp").exists()
    packet = (folder / "7.xmp").read_bytes()
    assert b'xmp:Rating="5"' in packet
    assert set(regions(packet)) == set(NAMES)


def test_a_file_that_was_analysed_before_orientations_were_stored_is_opened(named):
    facet, folder = named
    address = facet.address
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE facet.media_file SET orientation = NULL WHERE uri LIKE '%/8.jpg'")
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/8.jpg'")
    written = (folder / "8.jpg.xmp").read_bytes()
    (folder / "8.jpg.xmp").unlink()
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE facet.media_file SET orientation = 8 WHERE uri LIKE '%/8.jpg'")
    facet("export", "xmp", "--beside", "--where", "uri LIKE '%/8.jpg'")
    assert (folder / "8.jpg.xmp").read_bytes() == written
    (folder / "8.jpg.xmp").unlink()
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE facet.media_file SET orientation = NULL WHERE uri LIKE '%/8.jpg'")
    (folder / "8.jpg").rename(folder / "moved")
    try:
        done = facet("export", "xmp", "-o", folder / "out.xmp", "--where", "uri LIKE '%/8.jpg'", status=1)
        assert "8.jpg is left out" in done.stderr
    finally:
        (folder / "moved").rename(folder / "8.jpg")
        with psycopg.connect(address) as connection:
            connection.execute("UPDATE facet.media_file SET orientation = 8 WHERE uri LIKE '%/8.jpg'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["xmp"], "expected --output with a file or folder or --beside"),
        (["xmp", "--beside", "-o", "x"], "expected one of them"),
        (["vtt", "--embed", "-o", "x"], "options of xmp"),
        (["csv"], "expected --output with a file or folder"),
        (["xmp", "-o", "a.xmp"], "several images are selected"),
        (["xmp", "-o", "x", "--person", "999"], "no face in an image is selected"),
    ],
)
def test_wrong_use_is_one_line(archive, tmp_path, monkeypatch, words, message):
    facet, _ = archive
    monkeypatch.chdir(tmp_path)
    done = facet("export", *words, status=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_faces_to_label_are_written_for_coco_and_label_studio(archive, tmp_path):
    facet, _ = archive
    facet("export", "coco", "-o", tmp_path / "coco.json")
    document = json.loads((tmp_path / "coco.json").read_text())
    assert (len(document["images"]), len(document["annotations"])) == (10, 20)
    sizes = {one["id"]: (one["width"], one["height"]) for one in document["images"]}
    for one in document["annotations"]:
        left, top, width, height = one["bbox"]
        assert 0 <= left < left + width <= sizes[one["image_id"]][0]
        assert 0 <= top < top + height <= sizes[one["image_id"]][1]
    facet("export", "label-studio", "-o", tmp_path / "tasks.json", "--base", "https://a.test")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 10
    assert all(task["data"]["image"].startswith("https://a.test/") for task in tasks)


def test_an_erased_person_has_no_region_and_gets_no_name(named, tmp_path):
    facet, _ = named
    facet("export", "xmp", "-o", tmp_path, "--where", "uri LIKE '%/4.jpg'")
    sidecar = next(tmp_path.rglob("*.xmp"))
    facet("forget", "--person", NAMES[0], "--yes")
    assert facet.value("SELECT count(*) AS n FROM people") == 1
    done = facet("people", "import-xmp", tmp_path, status=1)
    assert f"{sidecar.name}: {NAMES[0]} is left out: no single face lies there" in done.stderr
    facet("export", "xmp", "-o", tmp_path / "after.xmp", "--where", "uri LIKE '%/4.jpg'")
    assert set(regions((tmp_path / "after.xmp").read_bytes())) == {NAMES[1]}
