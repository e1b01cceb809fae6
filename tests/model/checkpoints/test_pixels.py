"""Preprocessing settings of open_clip and transformers: read, and refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, Options
from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing
from tests.model.pictures import DEFAULT, REFERENCE

HALF = (0.5, 0.5, 0.5)
EXACT = Options(exact_pixels=True)
FROM_CLIP = Preprocessing(size=224, crop="floor")
SQUASHED = Preprocessing(size=224, resize_mode="squash")
FROM_SIGLIP = Preprocessing(size=224, mean=HALF, std=HALF, resize_mode="squash", crop="floor")

# What the files of published models say, from the oldest form to the newest.
OLD_CLIP = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": list(OPENAI_MEAN),
    "image_std": list(OPENAI_STD),
    "resample": 3,
    "size": 224,
}
NEW_CLIP = OLD_CLIP | {
    "crop_size": {"height": 224, "width": 224},
    "do_convert_rgb": True,
    "do_rescale": True,
    "image_processor_type": "CLIPImageProcessorFast",
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
    "data_format": "channels_first",
}
SIGLIP = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(HALF),
    "image_processor_type": "SiglipImageProcessor",
    "image_std": list(HALF),
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}


def changed(config: Preprocessing, **fields: Any) -> Preprocessing:
    return config.model_copy(update=fields)


def test_openai() -> None:
    assert pixels.from_openclip({}, 224, Options()) == DEFAULT
    assert pixels.from_openclip({}, 224, EXACT) == REFERENCE
    assert pixels.from_openclip({}, 224, Options(image_size=336)).size == 336
    assert (DEFAULT.draft_size, REFERENCE.draft_size) == (224, None)


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        ({}, DEFAULT),
        ({"size": [224, 224], "mode": "RGB", "interpolation": None, "fill_color": 255, "num_channels": 3}, DEFAULT),
        (
            {"size": 224, "mean": list(HALF), "std": list(HALF), "resize_mode": "squash"},
            changed(FROM_SIGLIP, crop="round"),
        ),
        (
            {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear"},
            changed(DEFAULT, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear"),
        ),
        ({"mean": 0.5, "std": 0.5, "interpolation": "random"}, changed(DEFAULT, mean=HALF, std=HALF)),
        ({"mean": 0, "std": 0.5}, changed(DEFAULT, std=HALF)),  # a zero is open_clip's default
        ({"resize_mode": "longest"}, changed(DEFAULT, resize_mode="longest")),
        ({"resize_mode": "longest", "fill_color": 255}, changed(DEFAULT, resize_mode="longest", fill_color=255)),
        # immich's preprocess_cfg.json
        ({"size": [224, 224], "mode": "RGB", "resize_mode": "squash", "fill_color": 9}, SQUASHED),
    ],
)
def test_openclip_settings(cfg: dict[str, Any], expected: Preprocessing) -> None:
    assert pixels.from_openclip(cfg, 224, Options()) == expected
    exact = changed(expected, exif_orientation=False, alpha="drop")
    assert pixels.from_openclip(cfg, 224, EXACT) == exact


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (None, FROM_CLIP),
        ({}, FROM_CLIP),
        (OLD_CLIP, FROM_CLIP),
        (NEW_CLIP, FROM_CLIP),
        ({"image_processor": NEW_CLIP, "processor_class": "CLIPProcessor"}, FROM_CLIP),
        ({"image_processor_type": "CLIPImageProcessorPil"}, FROM_CLIP),
        (SIGLIP, FROM_SIGLIP),
        (SIGLIP | {"image_processor_type": "SiglipImageProcessorFast"}, FROM_SIGLIP),
        (SIGLIP | {"resample": 2, "size": [224, 224]}, changed(FROM_SIGLIP, interpolation="bilinear")),
        ({"image_processor_type": "SiglipImageProcessor"}, FROM_SIGLIP),
        (NEW_CLIP | {"do_normalize": False}, changed(FROM_CLIP, mean=(0, 0, 0), std=(1, 1, 1))),
        (NEW_CLIP | {"size": {"height": 224, "width": 224}}, changed(FROM_CLIP, resize_mode="squash")),
        (
            NEW_CLIP | {"size": {"height": 224, "width": 224}, "do_center_crop": False, "crop_size": 9},
            changed(FROM_CLIP, resize_mode="squash"),
        ),
        (NEW_CLIP | {"image_mean": 0.5, "image_std": None}, changed(FROM_CLIP, mean=HALF)),
    ],
)
def test_transformers_settings(cfg: dict[str, Any] | None, expected: Preprocessing) -> None:
    assert pixels.from_transformers(cfg, 224, Options()) == expected
    # transformers 5.23 composites on white itself; older versions drop alpha.
    exact = pixels.from_transformers(cfg, 224, EXACT)
    assert exact == changed(expected, exif_orientation=False)
    assert exact.draft_size is None


def test_defaults_follow_the_family_where_the_file_names_no_processor() -> None:
    assert pixels.from_transformers(None, 256, Options(), "siglip") == changed(FROM_SIGLIP, size=256)
    assert pixels.from_transformers({"resample": 2}, 224, Options(), "siglip").interpolation == "bilinear"
    assert pixels.from_transformers(NEW_CLIP, 224, Options(), "siglip") == FROM_CLIP


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": [224, 256]}, "size [224, 256]"),
        ({"size": "224"}, "size '224'"),
        ({"size": {}}, "size {}"),
        ({"size": 224.0}, "size 224.0"),
        ({"size": True}, "size True"),
        ({"size": []}, "size []"),
        ({"size": 5000}, "5000 pixels"),
        ({"mode": "L"}, "mode 'L'"),
        ({"size": [224, 256]}, "must be equal"),
        ({"resize_mode": "shorter"}, "resize_mode 'shorter'"),
        ({"resize_mode": "longest", "fill_color": 256}, "fill_color 256"),
        ({"resize_mode": "longest", "fill_color": -1}, "fill_color -1"),
        ({"resize_mode": "longest", "fill_color": [0, 0, 0]}, "fill_color [0, 0, 0]"),
        ({"resize_mode": "longest", "fill_color": True}, "fill_color True"),
        ({"resize_mode": ["longest"]}, "resize_mode ['longest']"),
        ({"interpolation": "nearest"}, "interpolation 'nearest'"),
        ({"mean": [0.5, 0.5]}, "mean [0.5, 0.5]"),
        ({"mean": ["a", 0, 0]}, "mean ['a', 0, 0]"),
        ({"mean": [float("nan"), 0, 0]}, "mean [nan, 0, 0]"),
        ({"std": [0.0, 1, 1]}, "std [0.0, 1, 1]"),
        ({"std": []}, "std []"),
    ],
)
def test_openclip_settings_that_are_refused(change: dict[str, Any], named: str) -> None:
    image_size = 5000 if change.get("size") == 5000 else 224
    with pytest.raises(CheckpointError) as error:
        pixels.from_openclip(change, image_size, Options())
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"do_resize": False}, "do_resize False"),
        ({"do_rescale": False}, "do_rescale False"),
        ({"do_pad": True}, "do_pad True"),
        ({"rescale_factor": 0}, "rescale_factor 0"),
        ({"rescale_factor": -1 / 255}, "rescale_factor -0.0039"),
        ({"rescale_factor": 10**400}, "rescale_factor 1000"),
        ({"rescale_factor": float("nan")}, "rescale_factor nan"),
        ({"rescale_factor": 1e-5, "image_mean": 1e5}, "image_mean divided by rescale_factor"),
        ({"rescale_factor": 1e5, "image_std": 5e-324}, "image_std divided by rescale_factor"),
        ({"rescale_factor": "1/255"}, "rescale_factor '1/255'"),
        ({"resample": 1}, "resample 1"),
        ({"resample": "bicubic"}, "resample 'bicubic'"),
        ({"resample": [3]}, "resample [3]"),
        ({"crop_size": 192}, "crops to 192"),
        ({"crop_size": 256}, "crops to 256: black"),
        ({"size": {"shortest_edge": 5000}}, "pictures of 5000 pixels"),
        ({"crop_size": {"height": 224, "width": 200}}, "crop_size {'height': 224, 'width': 200}"),
        ({"do_center_crop": False}, "do_center_crop False"),
        ({"size": {"shortest_edge": 224, "longest_edge": 448}}, "size {'shortest_edge': 224, 'longest_edge': 448}"),
        ({"size": {"longest_edge": 224}}, "size {'longest_edge': 224}"),
        ({"size": {"height": 224, "width": 256}}, "size {'height': 224, 'width': 256}"),
        ({"image_mean": "0.5"}, "image_mean '0.5'"),
        ({"image_std": [0.5, 0.5, -0.5]}, "image_std [0.5, 0.5, -0.5]"),
        ({"image_processor_type": "SamImageProcessor"}, "image_processor_type 'SamImageProcessor'"),
        ({"image_processor_type": "SamImageProcessor"}, "ChineseCLIPImageProcessor"),  # among what it must be
        ({"image_processor_type": "Siglip2ImageProcessor"}, "image_processor_type 'Siglip2ImageProcessor'"),
        ({"image_processor_type": ["CLIPImageProcessor"]}, "image_processor_type ['CLIPImageProcessor']"),
        ({"image_processor": [NEW_CLIP]}, "image_processor is a list"),
    ],
)
def test_transformers_settings_that_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as error:
        pixels.from_transformers(NEW_CLIP | change, 224, Options())
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("read", "cfg"),
    [
        (pixels.from_openclip, {"size": 256}),
        (pixels.from_transformers, NEW_CLIP | {"size": {"shortest_edge": 256}, "crop_size": 256}),
    ],
)
def test_another_size_than_the_towers_is_refused_unless_a_size_was_said(read: Any, cfg: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"256 pixels.*image tower takes 336.*--image-size"):
        read(cfg, 336, Options())
    assert read(cfg, 336, Options(image_size=448)).size == 448


def test_a_crop_of_what_was_resized() -> None:
    cfg = NEW_CLIP | {"size": {"shortest_edge": 256}}
    expected = changed(FROM_CLIP, resize_size=256)
    assert pixels.from_transformers(cfg, 224, Options()) == expected
    assert expected.draft_size == 256
    # The picture that another size shows is the same part.
    resized = pixels.from_transformers(cfg, 224, Options(image_size=448))
    assert (resized.size, resized.resize_size) == (448, 512)
    with pytest.raises(CheckpointError, match="4681 pixels"):
        pixels.from_transformers(cfg, 224, Options(image_size=4096))


@pytest.mark.parametrize("options", [Options(), EXACT])
def test_jina_clip_has_open_clips_fields(options: Options) -> None:
    fields = {
        "size": 512,
        "mean": list(OPENAI_MEAN),
        "std": list(OPENAI_STD),
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    file = fields | {"interpolation": "bicubic", "image_processor_type": "JinaCLIPImageProcessor", "auto_map": {}}
    assert pixels.from_transformers(file, 512, options) == pixels.from_openclip(fields, 512, options)
    with pytest.raises(CheckpointError, match="512 pixels"):
        pixels.from_transformers(file, 224, options)


def test_any_scale_of_pixels_goes_into_mean_and_deviation() -> None:
    scaled = pixels.from_transformers(NEW_CLIP | {"rescale_factor": 1 / 127.5, "image_mean": 1.0}, 224, Options())
    assert scaled.mean == pytest.approx(HALF)
    assert scaled.std == pytest.approx([number / 2 for number in OPENAI_STD])


ODD = [None, True, 0, 1, -1, 224, 257, 10**400, 0.5, 1 / 127.5, 5e-324, float("nan"), float("inf"), "", "longest", []]
ODD += [[224, 224], [224, 256], [0.5] * 3, ["a"] * 3, {}, {"shortest_edge": 257}, {"shortest_edge": None}, {1: 2}]
ODD += [
    {"height": 10**400, "width": 10**400},
    "EfficientNetImageProcessor",
    "SiglipImageProcessor",
    "FlavaImageProcessor",
]
FIELDS = ["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color", "crop_size", "do_center_crop"]
FIELDS += ["do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "resample", "rescale_offset"]
FIELDS += ["default_to_square", "include_top", "image_processor_type", "image_processor"]


@given(
    cfg=st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD), max_size=5),
    read=st.sampled_from([pixels.from_openclip, pixels.from_transformers]),
    image_size=st.sampled_from([None, 1, 4096]),
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_file_says_is_read_or_refused(cfg: dict[str, Any], read: Any, image_size: int | None) -> None:
    try:
        config = read(cfg, 224, Options(image_size=image_size))
    except CheckpointError:
        return
    assert Preprocessing.model_validate_json(config.model_dump_json(), strict=True) == config


def test_a_number_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(CheckpointError, match="mean"):
        pixels.from_openclip({"mean": 10**400}, 224, Options())
    with pytest.raises(CheckpointError, match="rescale_factor"):
        pixels.from_transformers({"rescale_factor": 10**400}, 224, Options())
