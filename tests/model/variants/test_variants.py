"""A variant is a whole bundle, close to the one that it was made from, and says truly how close."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner

from model import smoke_inputs
from model.__main__ import app
from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.networks import load_network
from model.manifest import BundleError
from model.runtime.engine import Engine
from model.variants.inputs import LABELS, photograph_crops
from model.variants.make_variant import make_variant
from model.variants.options import VariantError, VariantOptions
from tests.model.variants.conftest import Make, with_weights

INT8, FP16, BF16 = VariantOptions("int8"), VariantOptions("fp16"), VariantOptions("bf16")
FUSED = VariantOptions("fp32", fused=True)
ALL = [INT8, FP16, BF16, FUSED]


def name(value: object) -> str | None:
    return value.suffix[1:] if isinstance(value, VariantOptions) else None


def embed(bundle: Bundle, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures in batches of 8, texts in batches of 16: ranges of activations in int8 are found for each batch."""
    engine, tokenizer = Engine(bundle, "cpu"), bundle.tokenizer()
    pixels, rows = photograph_crops(bundle.preprocessing), tokenizer.encode(texts)
    images = [engine.embed_images(pixels[i : i + 8]) for i in range(0, len(pixels), 8)]
    return np.concatenate(images), np.concatenate(
        [engine.embed_texts(tokenizer.pad(rows[i : i + 16])) for i in range(0, len(rows), 16)]
    )


@pytest.mark.parametrize("options", ALL, ids=name)
def test_a_variant_is_a_bundle_that_is_served(vit: Bundle, make: Make, options: VariantOptions) -> None:
    variant = Bundle.load(make(vit, options).path)
    Engine(variant, "cpu").warm_up()
    assert variant.id == vit.id + options.suffix
    assert variant.digest != vit.digest
    assert variant.manifest.export == vit.manifest.export
    assert CliRunner().invoke(app, ["verify", str(variant.path)]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "precision", "stored", "dtypes"),
    [
        (INT8, "int8", "int8", {"I8", "F32"}),
        (FP16, "fp16", "float16", {"F16", "I64"}),
        (BF16, "bf16", "bfloat16", {"BF16", "F32"}),
        (FUSED, "fp32", "float32", {"F32"}),
    ],
    ids=name,
)
def test_the_manifest_says_the_precision_and_what_is_stored(
    vit: Bundle, make: Make, options: VariantOptions, precision: str, stored: str, dtypes: set[str]
) -> None:
    manifest = make(vit, options).manifest
    assert (manifest.precision, manifest.weights_dtype) == (precision, stored)
    with safe_open(make(vit, options).path / "weights.safetensors", "np") as weights:
        assert {weights.get_slice(key).get_dtype() for key in weights.keys()} <= dtypes  # noqa: SIM118


@pytest.mark.parametrize(
    ("options", "floor"), [(INT8, 0.98), (FP16, 0.9999), (BF16, 0.999), (FUSED, 0.999999)], ids=name
)
def test_the_report_is_what_one_measures_again(vit: Bundle, make: Make, options: VariantOptions, floor: float) -> None:
    variant = make(vit, options)
    report = variant.manifest.variant
    assert report is not None
    prompts = [f"a photo of a {noun}." for noun in LABELS]
    (image, text), (other_image, other_text) = embed(vit, prompts), embed(variant, prompts)
    cosines = (image * other_image).sum(axis=1)
    assert report.image.compared == len(cosines) == len(np.unique(image.round(4), axis=0))
    assert (report.image.min_cosine, report.image.mean_cosine) == pytest.approx(
        (cosines.min(), cosines.mean()), abs=1e-6
    )
    assert min(report.image.min_cosine, report.text.min_cosine) > floor
    assert (text * other_text).sum(axis=1).min() >= report.text.min_cosine - 1e-6
    same = (image @ text.T).argmax(axis=1) == (other_image @ other_text.T).argmax(axis=1)
    assert report.top1_agreement == pytest.approx(same.mean(), abs=0.02)
    assert (report.made_from, report.made_from_id) == (vit.digest, vit.id)
    assert report.image.speed_ratio > 0
    assert not report.warnings


@pytest.mark.parametrize("options", ALL, ids=name)
def test_graphs_point_into_the_one_weights_file_and_name_no_other(
    vit: Bundle, make: Make, options: VariantOptions
) -> None:
    folder = make(vit, options).path
    size = (folder / "weights.safetensors").stat().st_size
    read: dict[str, set[str]] = {}
    for file in ("image.onnx", "text.onnx"):
        proto = onnx.load(folder / file, load_external_data=False)
        places = [{e.key: e.value for e in tensor.external_data} for tensor in proto.graph.initializer]
        places = [place for place in places if place]
        assert {place["location"] for place in places} == {"weights.safetensors"}
        assert all(0 < int(place["offset"]) <= size - int(place["length"]) for place in places)
        read[file] = {place["offset"] for place in places}
        assert not re.search(rb"/(tmp|home|root|work|usr|var)/", proto.SerializeToString())
    assert read["image.onnx"].isdisjoint(read["text.onnx"])
    assert {file.name for file in folder.iterdir()} == {*vit.manifest.files, "bundle.json"}


def test_altered_weights_are_noticed(vit: Bundle, make: Make, tmp_path: Path) -> None:
    copy = shutil.copytree(make(vit, INT8).path, tmp_path / "copy")
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"weights\.safetensors was altered"):
        Bundle.load(copy)


def test_int8_weights_take_less_space(vit: Bundle, make: Make) -> None:
    sizes = [bundle.manifest.files["weights.safetensors"].bytes for bundle in (make(vit, INT8), vit)]
    # The patch matrix and the last block's projection, applied in parts, stay: much of so small a tower.
    assert sizes[0] < 0.45 * sizes[1]


def test_the_ranges_of_a_convolutional_tower_are_of_pictures_that_it_is_not_compared_on(
    resnet: Bundle, make: Make
) -> None:
    report = make(resnet, INT8).manifest.variant
    assert report is not None
    assert report.image.calibration_pictures + report.image.compared == len(photograph_crops(resnet.preprocessing))
    assert report.image.mean_cosine > 0.98
    assert report.text.calibration_pictures == 0
    assert "--pictures" in report.warnings[0]
    graph = onnx.load(make(resnet, INT8).path / "image.onnx", load_external_data=False).graph
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]


def test_the_bundled_checkpoint_stays_close_in_int8(make: Make) -> None:
    report = make(Bundle.load(bundled()), INT8).manifest.variant
    assert report is not None
    assert min(report.image.min_cosine, report.text.min_cosine) > 0.99
    assert min(report.image.mean_cosine, report.text.mean_cosine) > 0.998
    assert report.top1_agreement > 0.8


def test_a_bad_int8_variant_says_so_loudly(vit: Bundle, tmp_path: Path) -> None:
    def widen(state: dict[str, Tensor]) -> None:
        # One channel a thousand times the others: with one range for all of them, nothing is left of the others.
        for block in ("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"):
            state[f"{block}.ln_2.weight"][3] = 1000
            state[f"{block}.mlp.c_fc.weight"][:, 3] /= 1000

    source = with_weights(vit, tmp_path / "source", widen)
    made = CliRunner().invoke(app, ["optimize", str(source.path), "--precision", "int8"])
    assert made.exit_code == 0, made.output
    assert re.search(r"warning: int8: the mean cosine of pictures .* under 0\.99", made.stderr)
    report = Bundle.load(tmp_path / "source-int8").manifest.variant
    assert report is not None
    assert report.image.mean_cosine < 0.99
    assert "WARNING" in CliRunner().invoke(app, ["inspect", str(tmp_path / "source-int8")]).output


def test_nothing_is_made_from_a_variant(vit: Bundle, make: Make, tmp_path: Path) -> None:
    for options in (INT8, FUSED):
        variant = make(vit, options)
        with pytest.raises(CheckpointError, match=f"variant.*{vit.id}, digest {vit.digest[:12]}"):
            load_network(variant)
        with pytest.raises(CheckpointError, match="variant"):
            make_variant(variant, tmp_path / "to", BF16, lambda step: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (VariantOptions("fp32"), "what the bundle is already"),
        (VariantOptions("int8", name="../etc"), "cannot be an id"),
        (VariantOptions("int8", pictures=Path("no such folder")), "is not a folder"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    vit: Bundle, tmp_path: Path, options: VariantOptions, reason: str
) -> None:
    with pytest.raises(VariantError, match=reason):
        make_variant(vit, tmp_path / "to", options, lambda step: None)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(vit: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(CheckpointError, match="not an empty folder"):
        make_variant(vit, tmp_path, INT8, lambda step: None)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_weights_beyond_half_precision_are_named(vit: Bundle, tmp_path: Path) -> None:
    source = with_weights(vit, tmp_path / "source", lambda state: state["visual.proj"][0].fill_(1e5))
    with pytest.raises(VariantError, match=r"visual\.proj reaches 1e\+05, fp16 ends at 65504"):
        make_variant(source, tmp_path / "to", FP16, lambda step: None)
    assert not (tmp_path / "to").exists()


def test_activations_beyond_half_precision_are_named(vit: Bundle, tmp_path: Path) -> None:
    def grow(state: dict[str, Tensor]) -> None:
        state["transformer.resblocks.0.mlp.c_fc.weight"] *= 1e4
        state["transformer.resblocks.0.mlp.c_fc.bias"][:] = 6.5e4
        state["transformer.resblocks.0.mlp.c_proj.weight"] /= 1e4

    source = with_weights(vit, tmp_path / "source", grow)
    with pytest.raises(VariantError, match=r"transformer\.resblocks\.0\.mlp\.c_fc leaves the range of fp16"):
        make_variant(source, tmp_path / "to", FP16, lambda step: None)


def test_vectors_that_are_not_numbers_are_refused(vit: Bundle, tmp_path: Path) -> None:
    source = with_weights(vit, tmp_path / "source", lambda state: state["text_projection"][0].fill_(float("nan")))
    with pytest.raises(VariantError, match="not numbers"):
        make_variant(source, tmp_path / "to", BF16, lambda step: None)
    assert not (tmp_path / "to").exists()


def test_a_variant_can_take_the_place_of_its_source(vit: Bundle, make: Make) -> None:
    assert make(vit, VariantOptions("bf16", name=vit.id)).id == vit.id


def test_an_extra_picture_changes_no_vector_of_the_others_but_in_int8(vit: Bundle, make: Make) -> None:
    pixels = smoke_inputs.pixels(vit.preprocessing, 5)
    for options in (FP16, BF16, FUSED):
        engine = Engine(make(vit, options), "cpu")
        np.testing.assert_allclose(engine.embed_images(pixels)[:1], engine.embed_images(pixels[:1]), atol=1e-4)
    engine = Engine(make(vit, INT8), "cpu")
    cosine = (engine.embed_images(pixels)[0] * engine.embed_images(pixels[:1])[0]).sum()
    assert cosine > 0.99
