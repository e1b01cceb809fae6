"""As a user does it: a folder of transformers or a file of weights is imported, served, and asked over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor
from typer.testing import CliRunner

from benchmarks.service_process import PATIENCE_S, Running, running
from model.__main__ import app
from model.config import OPENAI_MEAN, OPENAI_STD
from tests.model.checkpoints.transformers.clip_models import (
    clip_tokenizer,
    random_model,
    save,
    small_text,
    small_vision,
)
from tests.model.pictures import encoded, openai_order

TEXTS = ["a cat", "A temple by the lake, photographed in 1999!", "it's nothing", "dogs & birds"]
SIZES = [(451, 300), (1, 1), (64, 64), (65, 64), (97, 301), (640, 427)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = random_model(small_text(), small_vision(image_size=64))
    return save(model, tmp_path_factory.mktemp("huggingface"), clip_tokenizer(1024))


@pytest.fixture(scope="module")
def openai_model(open_clip: Any) -> Any:
    torch.manual_seed(1)
    vision = {"image_size": 64, "patch_size": 16, "width": 128, "layers": 2, "head_width": 64}
    model = open_clip.model.CLIP(32, vision, {"width": 64, "heads": 1, "layers": 2}, quick_gelu=True).eval()
    for name, parameter in model.named_parameters():
        if "ln_" in name or name.endswith("bias"):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def service(folder: Path, openai_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("served")
    torch.save(openai_model.state_dict(), place / "weights.pt")
    sources = {
        "default": (folder,),
        "exact": (folder, "--exact-pixels"),
        "openai": (place / "weights.pt", "--exact-pixels", "--activation", "quick_gelu"),
    }
    for name, (source, *flags) in sources.items():
        done = CliRunner().invoke(app, ["import", str(source), "--to", str(place / name), "--name", name, *flags])
        assert done.exit_code == 0, done.output
    with running(place, Path(",".join(str(place / name) for name in sources))) as service:
        yield service


@pytest.fixture(scope="module")
def original(folder: Path) -> tuple[CLIPModel, CLIPProcessor]:
    return CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)


def asked(service: Running, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{service.url}{path}", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def item(data: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(data).decode()}


def embedded(service: Running, inputs: Sequence[Any], **model: str) -> Any:
    return np.array([row["embedding"] for row in asked(service, "/embed", inputs=list(inputs), **model)["data"]])


def answers(original: tuple[CLIPModel, CLIPProcessor], files: Sequence[bytes]) -> Any:
    """What transformers makes of the files and of TEXTS."""
    model, processor = original
    pictures = [Image.open(io.BytesIO(data)) for data in files]
    with torch.no_grad():
        return model(**processor(text=TEXTS, images=pictures, return_tensors="pt", padding=True))


def assert_same(ours: Any, theirs: Any, cosine: float = 0.99999) -> None:
    assert (ours * theirs).sum(axis=1).min() > cosine
    # Vectors that are all alike would agree with anything.
    assert (theirs @ theirs.T).min() < 0.95


def test_pictures_and_texts(cat: Image.Image, service: Running, original: Any) -> None:
    files = [encoded(cat.resize(size), "PNG") for size in SIZES]
    theirs = answers(original, files)
    assert_same(embedded(service, map(item, files)), theirs.image_embeds.numpy())
    assert_same(embedded(service, TEXTS), theirs.text_embeds.numpy())


def test_similarity(cat: Image.Image, temple: Image.Image, service: Running, original: Any) -> None:
    files = [encoded(cat, "PNG"), encoded(temple, "PNG")]
    theirs = answers(original, files)
    scale = original[0].logit_scale.exp().item()
    by_picture = asked(service, "/similarity", queries=[*map(item, files)], candidates=TEXTS)
    assert np.abs(scale * np.array(by_picture["cosine"]) - theirs.logits_per_image.numpy()).max() < 1e-3
    assert np.abs(by_picture["probability"] - theirs.logits_per_image.softmax(dim=1).numpy()).max() < 1e-4
    by_text = asked(service, "/similarity", queries=TEXTS, candidates=[*map(item, files)])
    assert np.abs(by_text["probability"] - theirs.logits_per_text.softmax(dim=1).numpy()).max() < 1e-4


def odd_files(cat: Image.Image, temple: Image.Image) -> list[bytes]:
    """Pictures that we treat otherwise than transformers unless pixels are exact: turned, and of a camera's size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(cat, "JPEG", exif=exif)
    clear = cat.copy()
    clear.putalpha(Image.linear_gradient("L").resize(cat.size))
    palette = cat.quantize(64)
    files = [encoded(clear, "PNG"), encoded(palette, "PNG", transparency=bytes(range(0, 256, 4)))]
    return [*files, turned, encoded(temple.resize((4000, 2656)), "JPEG", quality=90)]


def test_exact_pixels(cat: Image.Image, temple: Image.Image, service: Running, original: Any) -> None:
    files = odd_files(cat, temple)
    theirs = answers(original, files).image_embeds.numpy()
    assert_same(embedded(service, map(item, files), model="exact"), theirs)
    by_default = (embedded(service, map(item, files)) * theirs).sum(axis=1)
    # The turned one stands upright; only the camera's was decoded at a smaller scale.
    assert by_default[2] < 0.99
    assert 0.9999 < by_default[3] < 0.999999
    assert np.delete(by_default, [2, 3]).min() > 0.99999


def test_weights_in_openais_layout(
    cat: Image.Image, temple: Image.Image, service: Running, openai_model: Any, open_clip: Any
) -> None:
    pictures = [*(cat.resize(size) for size in SIZES), temple.quantize(64), temple.resize((4000, 2656))]
    pixels = np.stack([openai_order(picture, 64, Image.Resampling.BICUBIC) for picture in pictures])
    scaled = (torch.from_numpy(pixels) / 255 - torch.tensor(OPENAI_MEAN)) / torch.tensor(OPENAI_STD)
    tokens = open_clip.tokenizer.SimpleTokenizer()(TEXTS)
    with torch.no_grad():
        images = openai_model.encode_image(scaled.permute(0, 3, 1, 2), normalize=True).numpy()
        texts = openai_model.encode_text(tokens, normalize=True).numpy()
    files = [encoded(picture, "PNG") for picture in pictures]
    assert_same(embedded(service, map(item, files), model="openai"), images)
    assert_same(embedded(service, TEXTS, model="openai"), texts)
