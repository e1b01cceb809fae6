"""The examples for a photo library: duplicates and tags."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.examples import run

NAMES = {"rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "dc": "http://purl.org/dc/elements/1.1/"}
LABELS = "cat, rocket, banana, R&D <coffee>"


def tags(sidecar: Path) -> list[str | None]:
    root = ElementTree.fromstring(sidecar.read_text("utf-8"))
    return [each.text for each in root.findall("rdf:RDF/rdf:Description/dc:subject/rdf:Bag/rdf:li", NAMES)]


def test_duplicates_are_found(library: Path, url: str | None) -> None:
    photo = Image.open(library / "chelsea.jpg")
    photo.resize((photo.width // 2, photo.height // 2)).save(library / "small.jpg")
    photo.crop((4, 4, photo.width - 4, photo.height - 4)).save(library / "drawings" / "cropped.png")
    done = run("find_duplicates", library, url=url)
    first, *others = done.stdout.splitlines()
    assert first.startswith(f"alike:   {library / 'drawings' / 'cropped.png'}  ")
    assert [line.split("  ")[2] for line in others] == [str(library / "chelsea.jpg"), str(library / "small.jpg")]
    assert f"left out {library / 'broken.jpg'}: " in done.stderr
    assert done.stderr.endswith("8 pictures, of which 2 are redundant\n")
    redundant = run("find_duplicates", library, "--redundant", url=url).stdout.splitlines()
    assert redundant == [str(library / "chelsea.jpg"), str(library / "small.jpg")]


def test_where_nothing_is_alike_nothing_is_found(library: Path) -> None:
    done = run("find_duplicates", library)
    assert (done.stdout, done.stderr.splitlines()[-1]) == ("", "6 pictures, of which 0 are redundant")


def test_photos_are_tagged(library: Path, url: str | None) -> None:
    done = run("tag_photos", library, LABELS, url=url)
    assert f"{library / 'chelsea.jpg'}: cat\n" in done.stdout
    assert f"{library / 'broken.jpg'}: The image is not" in done.stdout
    assert tags(library / "chelsea.jpg.xmp") == ["cat"]
    assert tags(library / "drawings" / "rocket.webp.xmp") == ["rocket"]
    assert tags(library / "coffee.jpg.xmp") == ["R&D <coffee>"]
    assert not (library / "broken.jpg.xmp").exists()


def test_what_digikam_reads_with_reads_the_tags(library: Path) -> None:
    exiv2 = pytest.importorskip("exiv2", reason="pip install exiv2")
    run("tag_photos", library, LABELS)
    sidecar = exiv2.ImageFactory.open(str(library / "coffee.jpg.xmp"))
    sidecar.readMetadata()
    subject = sidecar.xmpData()["Xmp.dc.subject"]
    assert (subject.typeName(), list(subject.value())) == ("XmpBag", ["R&D <coffee>"])
    # Once it has written to it, the sidecar is not ours any more.
    sidecar.xmpData()["Xmp.xmp.Rating"] = "5"
    sidecar.writeMetadata()
    written = (library / "coffee.jpg.xmp").read_bytes()
    assert f"{library / 'coffee.jpg.xmp'} is of another program" in run("tag_photos", library, "cat").stderr
    assert (library / "coffee.jpg.xmp").read_bytes() == written


def test_sidecars_of_others_stay_and_ours_are_renewed(library: Path) -> None:
    (library / "chelsea.jpg.xmp").write_text("<x:xmpmeta/>")
    run("tag_photos", library, "cat, coffee")
    assert (library / "chelsea.jpg.xmp").read_text() == "<x:xmpmeta/>"
    assert tags(library / "coffee.jpg.xmp") == ["coffee"]
    run("tag_photos", library, "cat, cup of coffee, coffee pot")
    assert "coffee" not in tags(library / "coffee.jpg.xmp")
    assert tags(library / "coffee.jpg.xmp")


def test_pictures_of_one_stem_share_a_sidecar(library: Path) -> None:
    (library / "drawings" / "rocket.webp").rename(library / "chelsea.webp")
    run("tag_photos", library, LABELS, "--stem")
    assert tags(library / "chelsea.xmp") == ["cat", "rocket"]


def test_labels_come_from_a_file_and_tags_go_into_a_table(library: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat, or a kitten\r\n\nrocket\n  banana \n", "utf-8")
    run("tag_photos", library, labels, "--csv", tmp_path / "tags.csv")
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(Path(row["path"]).name, row["tag"]) for row in rows}
    assert {("chelsea.jpg", "cat, or a kitten"), ("rocket.webp", "rocket")} <= found
    assert all(0.2 <= float(row["score"]) <= 1 for row in rows)
    assert not list(library.rglob("*.xmp"))
