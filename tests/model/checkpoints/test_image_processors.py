"""Every family's image processor: its own code and ours, by the settings of published models and by its defaults."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, Options
from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing
from model.images.preprocessing import load_image, preprocess
from tests.model.checkpoints.test_pixels_parity import in_every_mode, normalised
from tests.model.pictures import encoded

SIZES = [(1, 1), (3, 400), (400, 3), (225, 224), (333, 217)]
IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
MODULES = {"Siglip": "siglip", "OwlViT": "owlvit", "ViT": "vit", "DeiT": "deit", "VideoMAE": "videomae"} | {
    "CLIP": "clip",
    "ChineseCLIP": "chinese_clip",
    "Bit": "bit",
    "Blip": "blip",
    "Flava": "flava",
    "EfficientNet": "efficientnet",
}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


# Processor, the file of a published model, and the size of its tower.
PUBLISHED: dict[str, tuple[str, dict[str, Any], int]] = {
    "CLIP, Meta CLIP 2, AIMv2, AltCLIP, GroupViT": (
        "CLIP",
        {"size": {"shortest_edge": 224}, "crop_size": square(224), "do_center_crop": True, "resample": 3},
        224,
    ),
    "CLIP with a square size": ("CLIP", {"size": square(378), "crop_size": square(378)}, 378),
    "Chinese-CLIP": ("ChineseCLIP", {"size": square(224), "do_center_crop": False, "crop_size": square(224)}, 224),
    "SigLIP 2": ("Siglip", {"size": square(256), "resample": 2, "image_mean": [0.5] * 3}, 256),
    "CLIPSeg": ("ViT", {"size": 352, "resample": 2, **IMAGENET}, 352),
    "ALIGN": (
        "EfficientNet",
        {
            "size": square(346),
            "do_center_crop": True,
            "crop_size": square(289),
            "resample": 2,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "do_normalize": False,
            "include_top": False,
        },
        289,
    ),
    "EfficientNet with a top": (
        "EfficientNet",
        {"size": square(80), "include_top": True, "rescale_offset": False, **IMAGENET},
        80,
    ),
    "BLIP": ("Blip", {"size": square(384)}, 384),
    "BLIP-2": ("Blip", {"size": square(224), "do_pad": False}, 224),
    "FLAVA": ("Flava", {"size": 224, "crop_size": 224, "codebook_resample": 1}, 224),
    "OWL-ViT": ("OwlViT", {"size": [96, 96], "crop_size": 96, "do_center_crop": False}, 96),
    "X-CLIP": ("VideoMAE", {"size": {"shortest_edge": 224}, "resample": 2, **IMAGENET}, 224),
    "pairs with a ViT": ("ViT", {"size": 224, "resample": 2}, 224),
    "pairs with a DeiT": ("DeiT", {"size": 256, "crop_size": 224, **IMAGENET}, 224),
    "pairs with a DINOv2": ("Bit", {"size": {"shortest_edge": 256}, "crop_size": square(224), **IMAGENET}, 224),
    "without normalising": ("CLIP", {"do_normalize": False}, 224),
}


def original(name: str, cfg: dict[str, Any]) -> Any:
    module = MODULES[name]
    found = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    return getattr(found, f"{name}ImageProcessorPil")(**cfg)


def ours(name: str, cfg: dict[str, Any], size: int) -> Preprocessing:
    cfg = {"image_processor_type": f"{name}ImageProcessor", **cfg}
    return pixels.from_transformers(cfg, size, Options(exact_pixels=True))


def theirs(processor: Any, image: Image.Image) -> Any:
    """What the original computes, of video's processor for one frame: float32 [size, size, 3]."""
    values = np.asarray(processor(image)["pixel_values"])
    return values.reshape(-1, *values.shape[-3:])[0].transpose(1, 2, 0)


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_settings(case: str, cat: Image.Image) -> None:
    name, cfg, size = PUBLISHED[case]
    processor, config = original(name, cfg), ours(name, cfg, size)
    for shape in SIZES:
        image = cat.resize(shape)
        values = normalised(load_image(encoded(image, "PNG"), config), config)
        # A level of 8 bits is 0.004 or more; rounding of float32 is all that may differ.
        assert np.abs(values - theirs(processor, image)).max() < 4e-6, shape
        assert values.shape == (size, size, 3)
    if processor.do_convert_rgb:  # without, the original takes no picture that is not RGB
        for mode, image in in_every_mode(cat.resize((65, 53))):
            values = normalised(preprocess(image, config), config)
            assert np.abs(values - theirs(processor, image)).max() < 4e-6, mode


@pytest.mark.parametrize("name", MODULES)
def test_defaults_are_those_of_the_class(name: str) -> None:
    processor = original(name, {})
    written = processor.to_dict()
    cropped = processor.crop_size if processor.do_center_crop else processor.size
    size = cropped["height"] or cropped["shortest_edge"]
    assert ours(name, {}, size) == ours(name, written, size)
    # And as a file has it that names nothing else, or the older class.
    for ending in ("ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor"):
        cfg = {"image_processor_type": f"{name}{ending}"}
        assert pixels.from_transformers(cfg, size, Options(exact_pixels=True)) == ours(name, {}, size)


def test_tipsv2_whose_processor_needs_torchvision(temple: Image.Image) -> None:
    config = ours("Tipsv2", {}, 448)
    assert config == Preprocessing(
        size=448,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        interpolation="bilinear",
        resize_mode="squash",
        exif_orientation=False,
        crop="floor",
    )
    # torchvision resizes tensors by torch, whose fixed-point weights are of another length than Pillow's.
    tensor = torch.from_numpy(np.array(temple)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(tensor, (448, 448), mode="bilinear", antialias=True)
    expected = resized[0].permute(1, 2, 0).numpy()
    assert np.abs(preprocess(temple, config).astype(int) - expected).max() <= 1


def dual_encoders() -> list[str]:
    """The model_type of every class of transformers with get_image_features and get_text_features."""
    folder, found = Path(transformers.__file__).parent / "models", []
    for file in folder.glob("*/modeling_*.py"):
        source = file.read_text("utf-8")
        if "def get_image_features" in source and "def get_text_features" in source:
            configuration = file.with_name(file.name.replace("modeling_", "configuration_")).read_text("utf-8")
            types = re.findall(r'model_type = "([^"]+)"', configuration)
            found.append(min(types, key=len))  # the others are of its towers
    return sorted(found)


READ = {
    *("aimv2", "align", "altclip", "blip", "blip-2", "chinese_clip", "clip", "clipseg", "flava", "groupvit"),
    *("metaclip_2", "owlvit", "siglip", "tipsv2"),
}
REFUSED = {"owlv2": "scikit-image", "siglip2": "NaFlex", "vision-text-dual-encoder": "image_processor_type None"}


def test_every_dual_encoder_of_transformers_is_read_or_refused_with_a_reason() -> None:
    found = dual_encoders()
    assert set(found) == READ | set(REFUSED), "a release has others: say here what becomes of them"
    for model_type in READ:
        name = IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["torchvision"]
        cfg = {"resample": 3, "crop_size": 97, "size": {"height": 97, "width": 97}}  # a file that names no processor
        named = pixels.from_transformers(cfg | {"image_processor_type": name}, 97, Options())
        assert pixels.from_transformers(cfg, 97, Options(), model_type) == named, model_type
    for model_type, reason in REFUSED.items():
        with pytest.raises(CheckpointError, match=reason):
            pixels.from_transformers({"resample": 3}, 224, Options(), model_type)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Siglip2ImageProcessorFast", "NaFlex.*siglip2-base-patch16-256"),
        ("Owlv2ImageProcessor", "floating point.*owlvit-base-patch32"),
        ("BridgeTowerImageProcessor", "keep their shape"),
        ("TimmWrapperImageProcessor", "transform of timm"),
        ("ConvNextImageProcessor", "must be one of .*CLIPImageProcessor"),
        ("", "must be one of"),
        (7, "image_processor_type 7"),
    ],
)
def test_processors_that_are_refused(name: Any, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        pixels.from_transformers({"image_processor_type": name}, 224, Options())


def test_without_a_file_the_defaults_fit_the_tower_or_it_is_refused() -> None:
    assert pixels.from_transformers(None, 336, Options(), "altclip").size == 336
    assert pixels.from_transformers(None, 256, Options(), "siglip").resize_mode == "squash"
    assert pixels.from_transformers(None, 352, Options(), "clipseg").interpolation == "bilinear"
    with pytest.raises(CheckpointError, match=r"no preprocessor_config.json"):
        pixels.from_transformers(None, 289, Options(), "align")


def test_early_files_of_owlvit_name_the_rescaling_otherwise() -> None:
    with pytest.raises(CheckpointError, match="do_rescale False"):
        ours("OwlViT", {"rescale": False}, 768)
    assert ours("OwlViT", {"rescale": True}, 768).mean == OPENAI_MEAN
    assert ours("OwlViT", {"size": 64}, 64).std == OPENAI_STD
