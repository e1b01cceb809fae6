"""Every field of a configuration and of bundle.json that is read, and the test in which changing it changes a thing."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle
from model.category_config import CategoriesConfig
from model.config import (
    MixtureConfig,
    ModelConfig,
    Preprocessing,
    ResNetConfig,
    SiglipTextConfig,
    SiglipViTConfig,
    TextConfig,
    ViTConfig,
)
from model.export.graphs import ImageGraph
from model.images.preprocessing import load_image
from model.manifest import MANIFEST, Manifest
from model.network import CLIP, build_network
from tests.category_models import category_config
from tests.model.conftest import TINY_LLIP, TINY_RESNET, TINY_VIT
from tests.settings_table import check_table

SIGLIP = ModelConfig(
    name="tiny-siglip",
    embed_dim=64,
    activation="gelu_tanh",
    image=SiglipViTConfig(image_size=48, patch_size=16, width=64, layers=2, heads=2),
    text=SiglipTextConfig(width=64, layers=2, heads=2, vocab_size=64),
)
TOWER: dict[str, Any] = {"width": 128, "layers": 3, "heads": 4, "mlp_width": 96, "norm_eps": 0.05}
# By class: a configuration that has it, which part of that it is, and the field's other value.
CHANGES: dict[type[BaseModel], tuple[ModelConfig, str, dict[str, Any]]] = {
    ModelConfig: (
        TINY_VIT,
        "",
        {
            "embed_dim": 16,
            "activation": "gelu",
            "text_activation": "gelu",
            "image": TINY_RESNET.image.model_dump(),
            "text": {**TINY_VIT.text.model_dump(), "width": 32},
            "mixture": TINY_LLIP.mixture.model_dump() if TINY_LLIP.mixture else None,
        },
    ),
    MixtureConfig: (TINY_LLIP, "mixture", {"tokens": 4, "heads": 4, "temperature": 50.0}),
    ViTConfig: (TINY_VIT, "image", {**TOWER, "image_size": 64, "patch_size": 8}),
    TextConfig: (TINY_VIT, "text", {**TOWER, "context_length": 20, "vocab_size": 600}),
    ResNetConfig: (
        TINY_RESNET,
        "image",
        {
            "block": "basic",
            "stem": "strided",
            "image_size": 96,
            "width": 16,
            "layers": (1, 1, 1, 1),
            "heads": 8,
        },
    ),
    CategoriesConfig: (category_config(9), "text", {"categories": 20}),
    SiglipViTConfig: (SIGLIP, "image", {**TOWER, "image_size": 64, "patch_size": 8}),
    SiglipTextConfig: (SIGLIP, "text", {**TOWER, "context_length": 20, "vocab_size": 600}),
}
HERE = "tests/model/test_settings_table.py::"
NETWORK = ("the network", HERE + "test_a_field_of_the_configuration_changes_the_network")
TOKENIZER = "tests/model/test_sentence_tokenizer.py::"
# Those that are read elsewhere; `kind` decides which class reads the rest.
ELSEWHERE: dict[type[BaseModel], dict[str, tuple[str, str]]] = {
    ModelConfig: {"name": ("the name of the bundle", HERE + "test_the_name_of_a_configuration_becomes_the_id")},
    SiglipTextConfig: {
        "eos_id": ("how a text ends", TOKENIZER + "test_rows_are_cut_and_padded_to_the_context"),
        "pad_id": ("how a row is filled", TOKENIZER + "test_rows_are_cut_and_padded_to_the_context"),
        "clean": ("what becomes of a text", TOKENIZER + "test_open_clip_parts_words_at_underscores_and_repairs_texts"),
    },
}
PREPROCESSING: dict[str, Any] = {
    "size": 32,
    "interpolation": "bilinear",
    "resize_mode": "squash",
    "resize_size": 64,
    "fill_color": 255,
    "exif_orientation": False,
    "alpha": "drop",
    "crop": "floor",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.1, 0.2, 0.3),
}
INSPECTED: dict[str, Any] = {
    "id": "another",
    "created": "2001-01-01T00:00:00+00:00",
    "weights_dtype": "bfloat16",
    "logit_scale": 3.5,
    "precision": "bf16",
    "export": {"pictures": 12_345},
    "source": {"kind": "of another making"},
    "scores": {"another-task": {"top1": 0.5}},
}
BUNDLE = {
    "format": ("whether it is read", "tests/model/test_bundle.py::test_a_bad_manifest_is_refused_by_field"),
    "files": ("what may be served", "tests/model/test_bundle.py::test_one_altered_bit_is_named"),
    "preprocessing": ("pixels", HERE + "test_a_field_of_the_preprocessing_changes_what_the_tower_sees"),
    "matryoshka_dimensions": (
        "what /info says",
        "tests/service/test_matryoshka.py::test_a_model_says_which_lengths_it_was_trained_for",
    ),
    "logit_bias": ("scores", "tests/service/test_siglip.py::test_probabilities_are_the_sigmoids_of_transformers"),
    "variant": ("warnings", "tests/service/test_variants.py::test_a_variant_is_shown_and_warned_of"),
    **dict.fromkeys(INSPECTED, ("what is shown", HERE + "test_what_inspect_shows")),
    "config": NETWORK,
    "logit_scale": ("scores", "tests/service/test_reload.py::test_a_changed_logit_scale_is_a_change"),
    "precision": ("what computes", "tests/service/test_cache_sharing.py::test_what_computes_has_a_name"),
}


def test_every_field_has_a_test() -> None:
    for schema, (_, _, changes) in CHANGES.items():
        fields = schema.model_fields.keys() - {"kind"}
        check_table({**dict.fromkeys(changes, NETWORK), **ELSEWHERE.get(schema, {})}, fields)
    pixels = BUNDLE["preprocessing"]
    check_table(dict.fromkeys(PREPROCESSING, pixels), Preprocessing.model_fields)
    check_table(BUNDLE, Manifest.model_fields)


@torch.no_grad()
def signature(config: ModelConfig) -> tuple[dict[str, Any], list[list[float]]]:
    """Shapes of the parameters, and the vectors of a picture and a text where each parameter is set in a fixed way.

    And their cosine where the network has a mixture.
    """
    network = build_network(config).eval()
    for parameter in network.parameters():
        parameter.copy_(torch.sin(torch.arange(parameter.numel()) * 0.7).view(parameter.shape) * 0.2)
    size = config.image.image_size
    pixels = torch.sin(torch.arange(3 * size * size) * 0.01).view(1, 3, size, size)
    ids = torch.tensor([[5, 7, 9, 11] + [config.text.vocab_size - 1] * (config.text.context_length - 4)])
    image, text = network(pixels, ids)
    vectors = [network.encode_image(pixels)[0].tolist(), network.encode_text(ids)[0].tolist()]
    if network.mixture is not None:
        vectors.append(network.cosines(image, text)[0].tolist())
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}, vectors


@pytest.mark.parametrize(("schema", "name"), [(schema, name) for schema in CHANGES for name in CHANGES[schema][2]])
def test_a_field_of_the_configuration_changes_the_network(schema: type[BaseModel], name: str) -> None:
    base, part, changes = CHANGES[schema]
    dumped = base.model_dump()
    holder = dumped[part] if part else dumped
    assert holder[name] != changes[name]
    holder[name] = changes[name]
    if (schema, name) == (SiglipViTConfig, "width"):
        dumped["embed_dim"] = changes[name]
    assert signature(ModelConfig.model_validate(dumped)) != signature(base)


def _picture() -> bytes:
    """Turned by its EXIF, half transparent, and of a size of which an odd number of pixels is cut off."""
    y, x = np.mgrid[0:128, 0:179]
    values = np.stack([x * 255 // 179, y * 255 // 128, (x * y) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(values, "RGBA").save(stream, "PNG", exif=exif)
    return stream.getvalue()


@torch.no_grad()
@pytest.mark.parametrize("name", PREPROCESSING)
def test_a_field_of_the_preprocessing_changes_what_the_tower_sees(name: str) -> None:
    torch.manual_seed(0)
    network, picture = CLIP(TINY_VIT).eval(), _picture()

    def seen(preprocessing: Preprocessing) -> tuple[tuple[int, ...], bytes, list[float]]:
        pixels = load_image(picture, preprocessing)
        fixed = torch.full((1, TINY_VIT.image.image_size, TINY_VIT.image.image_size, 3), 77, dtype=torch.uint8)
        return pixels.shape, pixels.tobytes(), ImageGraph(network, preprocessing)(fixed)[0].tolist()

    base = Preprocessing(size=48, resize_mode="longest" if name == "fill_color" else "shortest")
    changed = base.model_copy(update={name: PREPROCESSING[name]})
    assert getattr(base, name) != PREPROCESSING[name]
    assert seen(changed) != seen(base)


def test_the_name_of_a_configuration_becomes_the_id(exported: tuple[CLIP, Bundle]) -> None:
    """Of two configurations, one after the other."""
    network, bundle = exported
    assert bundle.id == network.config.name in (TINY_VIT.name, TINY_RESNET.name)


@pytest.mark.parametrize("name", INSPECTED)
def test_what_inspect_shows(name: str, exported: tuple[CLIP, Bundle], tmp_path: Path) -> None:
    """Of what describes a bundle and changes no vector."""
    copy = shutil.copytree(exported[1].path, tmp_path / "copy")
    before = CliRunner().invoke(app, ["inspect", str(copy)])
    manifest = json.loads((copy / MANIFEST).read_text())
    change = INSPECTED[name]
    manifest[name] = {**manifest[name], **change} if isinstance(change, dict) else change
    (copy / MANIFEST).write_text(json.dumps(manifest))
    after = CliRunner().invoke(app, ["inspect", str(copy)])
    assert (before.exit_code, after.exit_code) == (0, 0), after.output
    assert before.output != after.output
