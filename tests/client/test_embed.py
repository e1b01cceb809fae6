"""Items of every kind to vectors, in order, in as many requests as it takes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

import sightword
from benchmarks.service_process import Running
from sightword.errors import (
    InvalidImageError,
    InvalidRequestError,
    TextTooLongError,
)
from tests.service import pictures

LONG = "word " * 100


@pytest.fixture(params=["client", "local"])
def embedder(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def native(service: Running, *inputs: Any, **options: Any) -> Any:
    data = httpx.post(f"{service.url}/embed", json={"inputs": list(inputs), **options}, timeout=300).json()["data"]
    return np.array([entry["embedding"] for entry in data], np.float32)


def test_every_kind_of_item(embedder: Any, service: Running, tmp_path: Path) -> None:
    """All of them the same picture, whose pixels each holds as they are."""
    file = pictures.read("cat")  # a PNG
    path = tmp_path / "cat"
    path.write_bytes(file)
    pillow = PIL.Image.open(io.BytesIO(file))
    array = np.asarray(pillow.convert("RGB"))
    images = [sightword.Image(source) for source in (str(path), path, file, array, pillow)]
    items = [path, file, bytearray(file), memoryview(file), pillow, array, array[:, ::-1][:, ::-1], *images]
    vectors = embedder.embed(["a cat", *items])
    assert vectors.dtype == np.float32
    expected = native(service, "a cat", {"image": pictures.as_base64("cat")})
    np.testing.assert_allclose(vectors, expected[[0, *[1] * len(items)]], atol=1e-6)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F", "HSV", "La", "RGBa"]
)
def test_pillow_images_of_every_mode(client: sightword.Client, mode: str) -> None:
    original = PIL.Image.open(io.BytesIO(pictures.read("cat"))).convert("RGB").resize((120, 90))
    black_and_white = original.convert("L").point(lambda value: 255 * (value > 128))
    image = {
        "1": lambda: black_and_white.convert("1"),
        "P": lambda: original.quantize(256),
        "LAB": lambda: _lab(original),
        "La": lambda: original.convert("LA").convert("La"),
        "RGBa": lambda: original.convert("RGBA").convert("RGBa"),
        "I": lambda: _sixteen_bit(original, "I"),
        "F": lambda: _sixteen_bit(original, "F"),
        "I;16": lambda: _sixteen_bit(original, "I").convert("I;16"),
    }.get(mode, lambda: original.convert(mode))()
    assert image.mode == mode
    vector, *seen = client.embed([image, original, original.convert("L"), black_and_white])
    assert max(np.array(seen) @ vector) > 0.97


def test_a_pillow_image_that_cannot_be_read_is_an_invalid_image(embedder: Any) -> None:
    """Pillow reads the pixels of a file when they are first used."""
    for file in (pictures.read("rocket")[:9000], pictures.read("cat")[:9000]):
        with pytest.raises(InvalidImageError, match="This Pillow image cannot be read") as refused:
            embedder.embed(["a", PIL.Image.open(io.BytesIO(file))])
        assert refused.value.param == "inputs.1"
    closed = PIL.Image.open(io.BytesIO(pictures.read("rocket")))
    closed.close()
    assert list(embedder.embed(["a", closed], on_error="item").errors) == [1]


def _sixteen_bit(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    return image.convert("L").convert(mode).point(lambda value: value * 257 + 0)


def _lab(image: PIL.Image.Image) -> PIL.Image.Image:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert converted is not None
    return converted


def test_a_pillow_image_keeps_its_orientation(client: sightword.Client) -> None:
    """As a camera writes it: the file and what Pillow reads of it are the same picture."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.open(io.BytesIO(pictures.read("cat"))).save(file, "PNG", exif=exif)
    by_pillow, by_file, upright = client.embed([PIL.Image.open(file), file.getvalue(), pictures.read("cat")])
    np.testing.assert_allclose(by_pillow, by_file, atol=1e-6)
    assert by_file @ upright < 0.99


def test_one_item_is_a_list_of_one(embedder: Any, client: sightword.Client) -> None:
    array = np.zeros((20, 30, 3), np.uint8)
    for item in ("a cat", pictures.read("cat"), array, PIL.Image.new("RGB", (9, 9))):
        assert embedder.embed(item).shape == (1, client.info().models[0].dimensions)
    assert embedder.embed(np.stack([array, array])).shape[0] == 2
    assert embedder.embed([]).shape == (0, client.info().models[0].dimensions)
    assert embedder.embed(iter([])).shape[0] == 0


def test_dimensions_and_truncate(embedder: Any, service: Running) -> None:
    vectors = embedder.embed(["a cat", LONG], dimensions=16, truncate=True)
    np.testing.assert_allclose(vectors, native(service, "a cat", LONG, dimensions=16, truncate=True), atol=1e-6)
    for wrong in (100_000, 0):
        with pytest.raises(InvalidRequestError) as refused:
            embedder.embed("a cat", dimensions=wrong)
        assert refused.value.param == "dimensions"


BAD = [
    (LONG, TextTooLongError, "This text has 102 tokens; the model reads 77"),
    ("", InvalidRequestError, "This text is empty"),
    ("\ud800", InvalidRequestError, "half of a character"),
    (b"no picture", InvalidImageError, "not a readable file"),
    (pictures.read("cat")[:-20_000], InvalidImageError, "truncated"),
    (Path("/nowhere/cat.jpg"), InvalidImageError, "cannot be read: No such file"),
    (Path("/"), InvalidImageError, "cannot be read: Is a directory"),
    (sightword.Image(url="https://example.com/cat.jpg"), sightword.errors.UrlNotAllowedError, "fetches"),
]


@pytest.mark.parametrize(("item", "kind", "says"), BAD)
def test_a_bad_item_has_its_error_and_its_place(
    embedder: Any, item: Any, kind: type[sightword.SightwordError], says: str
) -> None:
    items = [f"{index} things" for index in range(70)]
    items.insert(50, item)
    with pytest.raises(kind, match=says) as refused:
        embedder.embed(items)
    assert str(refused.value.param).startswith("inputs.50")
    embedded = embedder.embed(items, on_error="item")
    assert embedded.errors.keys() == {50}
    assert isinstance(embedded.errors[50], kind)
    assert str(embedded.errors[50].param).startswith("inputs.50")
    assert np.isnan(embedded.vectors[50]).all()
    good = np.delete(embedded.vectors, 50, axis=0)
    np.testing.assert_allclose(good, embedder.embed([each for each in items if each is not item]), atol=1e-6)


def test_bad_items_only(embedder: Any) -> None:
    embedded = embedder.embed([b"x", Path("/nowhere")], on_error="item")
    assert np.isnan(embedded.vectors).all()
    assert embedded.vectors.shape == (2, embedder.info().models[0].dimensions)
    assert list(embedded.errors) == [0, 1]
    only_here = embedder.embed([Path("/nowhere")], on_error="item")
    assert only_here.vectors.shape == (1, embedder.info().models[0].dimensions)


@pytest.mark.parametrize(
    "item", [3, None, ["a"], np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_item_is_a_mistake_of_the_program(embedder: Any, item: Any) -> None:
    for on_error in ("fail", "item"):
        with pytest.raises(TypeError, match=r"inputs\.1 is a|an array of a picture is uint8"):
            embedder.embed(["a", item], on_error=on_error)


@pytest.mark.parametrize("items", [3, None, {"text": "a"}])
def test_what_is_no_list_is_a_mistake_of_the_program(embedder: Any, items: Any) -> None:
    with pytest.raises(TypeError, match="items are a list"):
        embedder.embed(items)
    with pytest.raises(ValueError, match="on_error"):
        embedder.embed("a", on_error="skip")


def test_a_string_is_a_text_and_one_that_names_a_picture_is_warned_about(embedder: Any, service: Running) -> None:
    for text in ("cat.jpg", "https://example.com/cat", "photos/a.PNG"):
        with pytest.warns(UserWarning, match="is embedded as a text"):
            np.testing.assert_allclose(embedder.embed(text), native(service, text), atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.embed(["a cat.", "see cat.jpg", "the jpg of a cat", "cat"])


def test_an_image_has_one_source() -> None:
    for arguments, options in (((), {}), (("a.jpg",), {"url": "https://a"})):
        with pytest.raises(TypeError, match="one source"):
            sightword.Image(*arguments, **options)  # type: ignore[arg-type]
    assert repr(sightword.Image(b"0123456789")) == "Image(bytes)"
