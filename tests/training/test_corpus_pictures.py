"""The pictures of the corpus: downloads, rendering, shards and the search for duplicates."""

import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image, ImageDraw

from training.corpus.duplicates import find_duplicates
from training.corpus.packages import FetchError, Source, archive_name, fetch, read_members, sources
from training.corpus.recipe import build
from training.corpus.render import MAX_SVG_BYTES, render
from training.corpus.shards import MAX_ITEMS, Annotation, Drawing, read_shard, write_shards

ANNOTATION = Annotation("thing", "nowhere 1", "MIT")


def svg(body: str, size: str = 'width="100" height="100"') -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{body}</svg>'.encode()


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGBA")


# --- rendering


def test_clip_art_is_cropped_to_a_transparent_square() -> None:
    data = render(Drawing("x", "svg", svg('<rect x="60" y="10" width="20" height="40"/>'), ANNOTATION, crop=True))
    assert data is not None
    image = picture(data)
    left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
    assert image.size == (128, 128)
    assert (top, bottom) == (0, 128)
    assert right - left == pytest.approx(64, abs=2)
    assert left == pytest.approx(128 - right, abs=2)


def test_a_painted_page_is_cut_away_too() -> None:
    page = '<rect width="100" height="100" fill="#fff"/><rect x="40" y="40" width="30" height="30" fill="red"/>'
    data = render(Drawing("x", "svg", svg(page), ANNOTATION, crop=True))
    assert data is not None
    red, green, blue, alpha = (
        band.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) for band in picture(data).split()
    )
    assert (red, alpha) == (255, 255)
    # All but the seam of the anti-aliased edge.
    assert green == blue == pytest.approx(0, abs=8)


def test_sizes_in_millimetres_and_files_without_namespace_render() -> None:
    body = '<circle cx="50" cy="50" r="30"/>'
    in_mm = Drawing("a", "svg", svg(body, 'width="210mm" height="297mm"'), ANNOTATION, crop=True)
    bare = Drawing("b", "svg", f'<svg width="100" height="100">{body}</svg>'.encode(), ANNOTATION, crop=True)
    for drawing in (in_mm, bare):
        data = render(drawing)
        assert data is not None
        assert picture(data).getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize(
    "data",
    [svg(""), b"<svg", b"not a drawing", svg('<rect width="1" height="1" fill="none"/>'), b" " * MAX_SVG_BYTES * 2],
)
def test_nothing_to_see_gives_nothing(data: bytes) -> None:
    assert render(Drawing("x", "svg", data, ANNOTATION, crop=True)) is None


def test_a_small_raster_is_not_enlarged_and_its_pixels_are_kept() -> None:
    buffer = io.BytesIO()
    source = Image.radial_gradient("L").resize((28, 28))
    source.save(buffer, "PNG")
    data = render(Drawing("x", "raster", buffer.getvalue(), ANNOTATION))
    assert data is not None
    assert picture(data).convert("L").tobytes() == source.tobytes()


# --- archives and downloads


def test_members_of_both_kinds_of_package(tmp_path: Path) -> None:
    def tar_of(name: str, mode: Literal["w:gz", "w:xz"]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for path in (name, "skipped.txt"):
                info = tarfile.TarInfo(path)
                info.size = 5
                tar.addfile(info, io.BytesIO(b"hello"))
        return buffer.getvalue()

    npm = tmp_path / "a.tgz"
    npm.write_bytes(tar_of("package/icons.json", "w:gz"))
    control, data = b"odd", tar_of("./usr/share/icons.json", "w:xz")
    deb = tmp_path / "a.deb"
    header = "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n"
    members = b"".join(
        header.format(name, 0, 0, 0, 100644, len(body)).encode() + body + b"\n" * (len(body) % 2)
        for name, body in (("debian-binary", control), ("data.tar.xz/", data))
    )
    deb.write_bytes(b"!<arch>\n" + members)
    assert read_members(npm, lambda path: "icons" in path) == {"icons.json": b"hello"}
    assert read_members(deb, lambda path: "icons" in path) == {"usr/share/icons.json": b"hello"}


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    source = Source(
        "x", "npm", "@scope/name", "1.2.3", "MIT", "Somebody", hashlib.sha256(b"good").hexdigest(), "x", "train"
    )
    path = tmp_path / archive_name(source)
    assert path.name == "scope-name-1.2.3.tgz"
    path.write_bytes(b"good")
    assert fetch(source, tmp_path) == path
    path.write_bytes(b"evil")
    with pytest.raises(FetchError, match=r"scope-name-1\.2\.3\.tgz is not @scope/name 1\.2\.3.*Delete the file"):
        fetch(source, tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"), [("noto", "Node.js with npm"), ("openclipart", "package manager of Debian")]
)
def test_a_missing_client_is_named_with_what_to_install(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=advice):
        fetch(sources()[name], tmp_path / "cache")


def test_a_package_is_downloaded_once_with_the_client_of_its_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in for npm, since tests have no network; the process, its folder and the hash are real.
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text('#!/bin/sh\nprintf "%s" "$*" > name-1.2.3.tgz\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    said = b"pack --silent name@1.2.3"
    source = Source("x", "npm", "name", "1.2.3", "MIT", "Somebody", hashlib.sha256(said).hexdigest(), "x", "train")
    assert fetch(source, tmp_path / "cache").read_bytes() == said
    client.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    assert fetch(source, tmp_path / "cache").read_bytes() == said
    with pytest.raises(FetchError, match=r"`npm pack --silent name@1\.2\.3` failed: no such package\."):
        fetch(source, tmp_path / "empty")


def test_the_table_of_sources_is_complete() -> None:
    for source in sources().values():
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        assert source.attribution
        assert source.kind in {"npm", "apt"}
    trained = {source.licence for source in sources().values() if source.use == "train"}
    assert trained == {"MIT", "Apache-2.0", "CC-BY-4.0", "public domain"}


def test_an_unknown_part_of_the_corpus_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No such part of the corpus: nato\. Choose from train-emoji-fluent-3d"):
        build(tmp_path / "out", tmp_path / "cache", only=["nato"])
    assert list(tmp_path.iterdir()) == []


# --- shards


def test_shards_are_split_sorted_stable_and_replaced(tmp_path: Path) -> None:
    items = [(f"key-{number:04d}", bytes([number % 256]), ANNOTATION) for number in range(MAX_ITEMS + 5)]
    first = write_shards(tmp_path, "train-x", items)
    assert [(path.name, count) for path, count in first] == [
        ("train-x-000000.tar", MAX_ITEMS),
        ("train-x-000001.tar", 5),
    ]
    before = first[0][0].read_bytes()
    again = write_shards(tmp_path, "train-x", items[:MAX_ITEMS])
    assert [path.name for path, _ in again] == ["train-x-000000.tar"]
    assert [path.name for path in tmp_path.iterdir()] == ["train-x-000000.tar"]
    assert first[0][0].read_bytes() == before
    read = list(read_shard(again[0][0]))
    assert [key for key, _, _ in read] == [key for key, _, _ in items[:MAX_ITEMS]]
    assert read[3][2] == {"label": "thing", "captions": [], "tags": [], "source": "nowhere 1", "licence": "MIT"}


# --- duplicates


def drawn(kind: str, colour: str, size: int = 128) -> bytes:
    image = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(image)
    box = (size // 8, size // 4, size * 3 // 4, size * 7 // 8)
    (draw.ellipse if kind == "disc" else draw.rectangle)(box, fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_duplicates_are_found_by_bytes_and_by_look(tmp_path: Path) -> None:
    def shard(stem: str, pictures: dict[str, bytes]) -> list[Path]:
        return [
            path
            for path, _ in write_shards(tmp_path, stem, [(key, data, ANNOTATION) for key, data in pictures.items()])
        ]

    test = shard("test", {"disc": drawn("disc", "red"), "box": drawn("box", "blue")})
    train = shard(
        "train",
        {
            "same-bytes": drawn("disc", "red"),
            "other-size": drawn("box", "blue", 64),
            "other-colour": drawn("disc", "green"),
            "other-shape": drawn("box", "red"),
        },
    )
    found = {duplicate.train_key: duplicate for duplicate in find_duplicates(train, test)}
    assert set(found) == {"same-bytes", "other-size"}
    assert (found["same-bytes"].test_key, found["same-bytes"].exact) == ("disc", True)
    assert (found["other-size"].test_key, found["other-size"].exact) == ("box", False)
    assert find_duplicates(train, []) == []
