"""A tiny Llip bundle with random weights, and what torch gives of it: pictures that are mixed for each text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from model.bundle import Bundle
from model.config import Preprocessing
from model.export.bundle import export_bundle
from model.images.preprocessing import load_image
from model.network import CLIP
from model.tokenizers.clip import Tokenizer
from model.zeroshot import class_vectors, fill
from tests.model.conftest import TINY_LLIP, random_network
from tests.service import pictures

assert TINY_LLIP.mixture is not None
TOKENS, DIMENSIONS = TINY_LLIP.mixture.tokens, TINY_LLIP.embed_dim
PICTURES = ("cat", "coffee", "temple")
TEXTS = ["a cat that sleeps", "a cup of coffee", "two temples", "rain"]
IMAGES = [{"image": pictures.as_base64(name)} for name in PICTURES]
BAD = {"image": "bad!"}
Matrix = np.ndarray


@dataclass(frozen=True)
class Llip:
    """The network, and the bundle that was exported of it."""

    network: CLIP
    bundle: Bundle

    @torch.no_grad()
    def tokens(self, names: Sequence[str] = PICTURES, size: int | None = None) -> Matrix:
        """[pictures, tokens, dimensions], of unit length."""
        config = self.bundle.preprocessing
        pixels = torch.from_numpy(np.stack([load_image(picture(name, size), config) for name in names]))
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        normalised = ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)
        unit: Matrix = F.normalize(self.network.encode_image(normalised), dim=-1).numpy()
        return unit

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Matrix:
        """[texts, dimensions], of unit length, each embedded alone."""
        tokenizer = self.bundle.tokenizer()
        rows = [torch.from_numpy(tokenizer.pad(tokenizer.encode([text]))) for text in texts]
        unit: Matrix = torch.cat([F.normalize(self.network.encode_text(row), dim=-1) for row in rows]).numpy()
        return unit

    def classes(self, labels: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)) -> Matrix:
        """[labels, dimensions]: the normalised means of the templates' vectors."""
        vectors = self.texts([fill(template, label) for label in labels for template in templates])
        return class_vectors(vectors.reshape(len(labels), len(templates), DIMENSIONS))

    @torch.no_grad()
    def cosines(self, tokens: Matrix, texts: Matrix) -> Matrix:
        """[pictures, tokens, dimensions] and [texts, dimensions] -> [pictures, texts], each picture mixed for each."""
        mixed: Matrix = self.network.cosines(torch.from_numpy(tokens), torch.from_numpy(texts)).numpy()
        return mixed


def picture(name: str, size: int | None = None) -> bytes:
    """The file, or a small one made of it."""
    if size is None:
        return pictures.read(name)
    file = io.BytesIO()
    Image.open(pictures.FILES[name]).convert("RGB").resize((size, size)).save(file, "PNG")
    return file.getvalue()


_exported: list[Llip] = []


def exported_llip(folder: Path) -> Llip:
    """One for all tests of a process: tracing its graphs takes seconds."""
    if not _exported:
        _exported.append(export_llip(folder))
    return _exported[0]


def export_llip(folder: Path, seed: int = 0) -> Llip:
    """Random weights, the mixture's far from where it begins: each text mixes in its own way."""
    torch.manual_seed(seed)
    network = random_network(TINY_LLIP, seed)
    assert network.mixture is not None
    for parameter in network.mixture.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    bundle = export_bundle(
        network, folder, tokenizer=Tokenizer.clip(1024, 77), preprocessing=Preprocessing(size=48), bundle_id="llip"
    )
    return Llip(network.eval(), bundle)


def post(client: httpx.Client, path: str, status: int = 200, **body: Any) -> Any:
    """What is answered, which must be of that status."""
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


def close(found: Any, expected: Any) -> None:
    """As torch computes it."""
    np.testing.assert_allclose(np.array(found), expected, atol=1e-4)
