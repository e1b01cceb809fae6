"""Networks and bundles of random weights, small enough to build in every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import pytest
import skimage.data
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from model.bundle import Bundle
from model.config import MixtureConfig, ModelConfig, Preprocessing, ResNetConfig, TextConfig, ViTConfig
from model.export import graphs
from model.export.bundle import export_bundle
from model.network import CLIP
from model.tokenizers.clip import Tokenizer

TEXT = TextConfig(width=64, heads=2, layers=2, vocab_size=1024)
TINY_VIT = ModelConfig(
    name="tiny-vit",
    embed_dim=32,
    activation="quick_gelu",
    image=ViTConfig(image_size=48, patch_size=16, width=64, layers=2, heads=2),
    text=TEXT,
)
TINY_LLIP = TINY_VIT.model_copy(update={"name": "tiny-llip", "mixture": MixtureConfig(tokens=3, heads=2)})
TINY_RESNET = ModelConfig(
    name="tiny-resnet",
    embed_dim=32,
    activation="gelu",
    image=ResNetConfig(image_size=64, width=8, layers=(1, 2, 1, 1), heads=4),
    text=TEXT,
)


def random_network(config: ModelConfig, seed: int = 0) -> CLIP:
    """A network in which nothing is left at a value that hides a mistake, batch statistics included."""
    torch.manual_seed(seed)
    network = CLIP(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or "ln_" in name or name.startswith("mixture."):
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Each graph is traced once in a run, which takes seconds: it depends on sizes and settings, not on weights.

    Whatever is exported is still compared with its own network, through the engine.
    """
    traced: dict[str, bytes] = {}
    trace = graphs.export_graph

    def once(graph: nn.Module, example: Tensor, name: str, dims: dict[int, Any]) -> onnx.ModelProto:
        pictures = isinstance(graph, graphs.ImageGraph)
        config = graph.network.config.model_dump_json(exclude={"name", "text" if pictures else "image"})
        modules = [module for name, module in graph.network.named_children() if (name == "visual") == pictures]
        shapes = [(name, tensor.shape, tensor.dtype) for name, tensor in graphs.used_state(graph, example).items()]
        constants = [buffer.tolist() for buffer in graph.buffers(recurse=False)]
        key = repr((config, modules, shapes, constants, example.shape))
        if key not in traced:
            traced[key] = trace(graph, example, name, dims).SerializeToString()
        return onnx.ModelProto.FromString(traced[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "export_graph", once)
        yield


@pytest.fixture(scope="session", params=[TINY_VIT, TINY_RESNET], ids=lambda config: config.name)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIP, Bundle]:
    """A network and the bundle it was exported to, weights stored in half precision."""
    config: ModelConfig = request.param
    network = random_network(config)
    bundle = export_bundle(
        network,
        tmp_path_factory.mktemp(config.name),
        tokenizer=Tokenizer.clip(config.text.vocab_size, config.text.context_length),
        preprocessing=Preprocessing(size=config.image.image_size),
        weights_dtype="float16",
    )
    return network, bundle


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    """A photograph, 451 x 300."""
    return Image.fromarray(skimage.data.chelsea())


@pytest.fixture(scope="session")
def temple() -> Image.Image:
    """A photograph full of detail, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))
