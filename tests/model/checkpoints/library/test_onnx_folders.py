"""ONNX files of others, imported as they are: what a bundle answers is what they answer to those who exported them."""

from __future__ import annotations

import base64
import json
import shutil
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image
from tokenizers import Tokenizer
from typer.testing import CliRunner

from benchmarks.service_process import PATIENCE_S, running
from model import smoke_inputs
from model.__main__ import app
from model.bundle import Bundle
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint
from model.library_config import LibraryConfig
from model.runtime.engine import Engine
from model.variants.make_variant import make_variant
from model.variants.options import VariantError, VariantOptions
from tests.model.checkpoints.library import onnx_folders
from tests.model.checkpoints.library.onnx_folders import Theirs, move_data_out, write
from tests.model.checkpoints.transformers import clip_models
from tests.model.pictures import encoded

TEXTS = [
    "a cat",
    "A temple by the lake, photographed in 1999!",
    "",
    "dogs, birds, and a very long walk " * 4,
    "naïve 猫",
]
HALF = [0.5, 0.5, 0.5]
Encode = Callable[[Sequence[str]], list[Any]]


def fast(folder: Path, length: int | None, longest: int, clean: Callable[[str], str] = str) -> Encode:
    """Texts as immich and fastembed encode them: tokenizer.json cut to the longest, padded to a length or not."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    named = json.loads((folder / "tokenizer_config.json").read_text())["pad_token"]
    tokenizer.enable_truncation(max_length=longest)
    tokenizer.enable_padding(length=length, pad_token=named, pad_id=tokenizer.token_to_id(named))
    return lambda texts: [tokenizer.encode(clean(text)) for text in texts]


def expect_same(
    bundle: Bundle, theirs: Theirs, encode: Encode, *, mean: Any, std: Any, tolerance: float = 1e-5
) -> None:
    engine, tokenizer = Engine(bundle, "cpu"), bundle.tokenizer()
    pixels = smoke_inputs.pixels(bundle.preprocessing, 5)
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(TEXTS)]
    images, texts = engine.embed_images(pixels), engine.embed_texts(tokenizer.pad(rows))
    np.testing.assert_allclose(images, theirs.images(pixels, mean, std), atol=tolerance)
    np.testing.assert_allclose(texts, theirs.texts(encode(TEXTS)), atol=tolerance)


def library(bundle: Bundle) -> LibraryConfig:
    config = bundle.manifest.config
    assert isinstance(config, LibraryConfig)
    assert config.library == "onnx"
    return config


@pytest.fixture(scope="module")
def immich(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.immich(open_clip, tmp_path_factory.mktemp("immich") / "ViT-B-32__openai")


@pytest.fixture(scope="module")
def transformers_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.transformers_js(tmp_path_factory.mktemp("js") / "clip", whole=True)


@pytest.fixture
def copied(immich: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(immich, tmp_path / "copied"))


@pytest.mark.parametrize("how", ["one file", "weights beside it", "torch's new exporter"])
def test_a_folder_of_immich_embeds_as_its_service_does(copied: Path, open_clip: Any, tmp_path: Path, how: str) -> None:
    theirs = Theirs(copied / "visual" / "model.onnx", copied / "textual" / "model.onnx")
    if how == "torch's new exporter":
        onnx_folders.immich(open_clip, copied, dynamo=True)
    if how == "weights beside it":
        move_data_out(theirs.image, "model.onnx.data")
        move_data_out(theirs.text, "model.onnx.data")
    (copied / "visual" / "rknpu").mkdir()
    (copied / "visual" / "rknpu" / "model.rknn").write_bytes(b"another's")
    bundle, warnings = import_checkpoint(copied, tmp_path / "bundle", Options())
    expect_same(bundle, theirs, fast(copied / "textual", 16, 16), mean=onnx_folders.MEAN, std=onnx_folders.STD)
    text = library(bundle).text
    assert (text.context_length, text.fixed_length, text.tokenizer, text.pad_id) == (16, True, "clip", 1023)
    assert bundle.manifest.source["passed_over"] == "visual/rknpu/model.rknn"
    assert [warning for warning in warnings if "visual/model.onnx takes pictures one at a time" in warning]
    with pytest.raises(VariantError, match=r"image.onnx runs each row by itself: only --precision bf16"):
        make_variant(bundle, tmp_path / "int8", VariantOptions("int8"), print)


def test_a_folder_of_immich_is_served(immich: Path, tmp_path: Path) -> None:
    scores = "--logit-scale", "50", "--logit-bias=-7"
    done = CliRunner().invoke(app, ["import", str(immich), "--to", str(tmp_path / "bundle"), *scores])
    assert done.exit_code == 0, done.output
    assert "warning: visual/model.onnx takes pictures one at a time" in done.output
    theirs = Theirs(immich / "visual" / "model.onnx", immich / "textual" / "model.onnx")
    pixels = smoke_inputs.pixels(Bundle.load(tmp_path / "bundle").preprocessing, 3)
    files = [encoded(Image.fromarray(picture), "PNG") for picture in pixels]
    texts = ["a cat", "two dogs", "猫"]
    inputs = [*texts, *({"image": base64.b64encode(file).decode()} for file in files)]
    with running(tmp_path, tmp_path / "bundle") as service:
        answer = httpx.post(f"{service.url}/embed", json={"inputs": inputs}, timeout=PATIENCE_S).json()
        info = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()
    [served] = info["models"]
    assert (served["logit_scale"], served["logit_bias"]) == (50, -7)
    assert (served["library"], served["architecture"]) == ("onnx", immich.name)
    vectors = np.array([row["embedding"] for row in answer["data"]])
    np.testing.assert_allclose(vectors[:3], theirs.texts(fast(immich / "textual", 16, 16)(texts)), atol=1e-5)
    np.testing.assert_allclose(vectors[3:], theirs.images(pixels), atol=1e-5)


def _whitespace(text: str) -> str:
    return " ".join(text.split())


def _canonicalize(text: str) -> str:
    return _whitespace(text).translate(str.maketrans("", "", string.punctuation)).lower()


@pytest.mark.parametrize("clean", [_whitespace, _canonicalize])
def test_a_multilingual_folder_of_immich_has_its_mask_in_the_graph(
    open_clip: Any, tmp_path: Path, clean: Callable[[str], str]
) -> None:
    folder = onnx_folders.immich_multilingual(open_clip, tmp_path / "model")
    cfg = json.loads((folder / "config.json").read_text())
    cfg["text_cfg"]["tokenizer_kwargs"] = {"clean": clean.__name__[1:]}
    write(folder / "config.json", cfg)
    bundle, _ = import_checkpoint(folder, tmp_path / "bundle", Options())
    theirs = Theirs(folder / "visual" / "model.onnx", folder / "textual" / "model.onnx")
    encode = fast(folder / "textual", 16, 16, clean)
    expect_same(bundle, theirs, encode, mean=onnx_folders.MEAN, std=onnx_folders.STD)
    text = library(bundle).text
    assert (text.pad_id, text.tokenizer, text.clean) == (1, "hugging_face", clean.__name__[1:])
    assert text.vocab_size == Tokenizer.from_file(str(folder / "textual" / "tokenizer.json")).get_vocab_size()


def test_a_folder_of_transformers_js_takes_batches_and_short_rows(transformers_js: Path, tmp_path: Path) -> None:
    bundle, warnings = import_checkpoint(transformers_js, tmp_path / "bundle", Options())
    place = transformers_js / "onnx"
    theirs = Theirs(place / "vision_model.onnx", place / "text_model.onnx")
    expect_same(bundle, theirs, fast(transformers_js, None, 40), mean=onnx_folders.MEAN, std=onnx_folders.STD)
    assert not warnings
    assert library(bundle).text.fixed_length is False
    assert bundle.manifest.source["logit_scale_from"] == "model.onnx, measured"
    assert bundle.logit_scale == pytest.approx(np.exp(3.3), rel=1e-5)


def test_two_folders_of_qdrant_are_two_towers(tmp_path: Path) -> None:
    folder = onnx_folders.qdrant(tmp_path / "model")
    vision, text = folder / "clip-ViT-B-32-vision", folder / "clip-ViT-B-32-text"
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    theirs = Theirs(vision / "model.onnx", text / "model.onnx")
    expect_same(bundle, theirs, fast(text, None, 40), mean=onnx_folders.MEAN, std=onnx_folders.STD)
    assert not warnings  # it is OpenAI's, whose scale is known
    with pytest.raises(CheckpointError, match=r"into one folder, and name that"):
        import_checkpoint(vision, tmp_path / "half", Options())


def test_siglip_is_padded_and_has_the_scale_and_bias_of_its_logits(tmp_path: Path) -> None:
    folder = onnx_folders.siglip(tmp_path / "model", whole=True)
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    theirs = Theirs(folder / "onnx" / "vision_model.onnx", folder / "onnx" / "text_model.onnx")
    expect_same(bundle, theirs, fast(folder, 64, 64), mean=HALF, std=HALF)
    assert not warnings
    assert library(bundle).text.fixed_length is True
    assert bundle.logit_scale == pytest.approx(np.exp(3.3), rel=1e-4)
    assert bundle.logit_bias == pytest.approx(-4.5, rel=1e-4)


def test_a_scale_that_nothing_tells_is_assumed_aloud_or_named(transformers_js: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_js, tmp_path / "model", ignore=shutil.ignore_patterns("model.onnx")))
    bundle, warnings = import_checkpoint(folder, tmp_path / "assumed", Options())
    assert bundle.logit_scale == 100
    assert any("hold no logit scale: 100 is assumed" in warning for warning in warnings)
    named, warnings = import_checkpoint(folder, tmp_path / "named", Options(logit_scale=27.5, logit_bias=-3.0))
    assert (named.logit_scale, named.logit_bias, warnings) == (27.5, -3.0, [])
    with pytest.raises(CheckpointError, match=r"--logit-scale -1"):
        import_checkpoint(folder, tmp_path / "none", Options(logit_scale=-1))
    with pytest.raises(CheckpointError, match=r"--logit-bias is of use beside --logit-scale only"):
        import_checkpoint(folder, tmp_path / "none", Options(logit_bias=-1))


def test_one_graph_for_both_towers_is_taken_apart(transformers_js: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_js, tmp_path / "model", ignore=shutil.ignore_patterns("*_model.onnx")))
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    place = transformers_js / "onnx"
    theirs = Theirs(place / "vision_model.onnx", place / "text_model.onnx")
    expect_same(bundle, theirs, fast(transformers_js, None, 40), mean=onnx_folders.MEAN, std=onnx_folders.STD)
    assert not warnings
    inputs = [value.name for value in onnx.load(bundle.path / "image.onnx", load_external_data=False).graph.input]
    assert inputs == ["pixels"]


def test_quantised_graphs_give_a_picture_the_vector_that_it_has_alone(transformers_js: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_js, tmp_path / "model", ignore=shutil.ignore_patterns("*.onnx")))
    for name, kind in (("vision_model", QuantType.QUInt8), ("text_model", QuantType.QInt8)):
        quantize_dynamic(
            transformers_js / "onnx" / f"{name}.onnx",
            folder / "onnx" / f"{name}_quantized.onnx",
            weight_type=kind,
            op_types_to_quantize=["MatMul", "Gather", "Gemm"],
        )
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert bundle.precision == "int8"
    assert any("only rounded graphs are there, vision_model_quantized.onnx" in warning for warning in warnings)
    assert any("gives other vectors for pictures in a batch" in warning for warning in warnings)
    place = folder / "onnx"
    theirs = Theirs(place / "vision_model_quantized.onnx", place / "text_model_quantized.onnx")
    expect_same(bundle, theirs, fast(folder, 40, 40), mean=onnx_folders.MEAN, std=onnx_folders.STD)


def test_graphs_in_half_precision_are_served_in_it(transformers_js: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_js, tmp_path / "model", ignore=shutil.ignore_patterns("*.onnx")))
    for name in ("vision_model", "text_model"):
        half = convert_float_to_float16(onnx.load(transformers_js / "onnx" / f"{name}.onnx"), keep_io_types=True)
        onnx.save(half, folder / "onnx" / f"{name}_fp16.onnx")
    bundle, _ = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert (bundle.precision, bundle.manifest.weights_dtype) == ("fp16", "float16")
    place = folder / "onnx"
    theirs = Theirs(place / "vision_model_fp16.onnx", place / "text_model_fp16.onnx")
    encode = fast(folder, None, 40)
    expect_same(bundle, theirs, encode, mean=onnx_folders.MEAN, std=onnx_folders.STD, tolerance=1e-3)


def test_graphs_stand_in_for_weights_that_are_refused(transformers_js: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(transformers_js, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"model_type": "jina_clip", "auto_map": {"AutoModel": "theirs.Model"}})
    (folder / "model.safetensors").write_bytes(b"\0" * 64)
    _, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert warnings[0].startswith("its ONNX graphs are taken, since its weights are not: ")
    (folder / "onnx" / "text_model.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"config.json.*; and its ONNX graphs are no way round it: .* is missing"):
        import_checkpoint(folder, tmp_path / "none", Options())


def test_half_an_export_beside_weights_is_in_nobodys_way(tmp_path: Path) -> None:
    folder = clip_models.save(onnx_folders.clip_model(), tmp_path / "model", clip_models.clip_tokenizer(1024))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "text_model.onnx").write_bytes(b"half")
    bundle, _ = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert bundle.manifest.source["format"] == "transformers folder"


def test_files_in_the_cache_of_the_hub_are_links_and_are_read(transformers_js: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--small-clip"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    shutil.copytree(transformers_js, snapshot)
    move_data_out(snapshot / "onnx" / "vision_model.onnx", "vision_model.onnx_data")
    blobs.mkdir()
    for number, file in enumerate(sorted(path for path in snapshot.glob("**/*") if path.is_file())):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    bundle, _ = import_checkpoint(snapshot, tmp_path / "bundle", Options())
    assert bundle.id == "small-clip"
    assert ort.InferenceSession(str(bundle.path / "image.onnx")).get_inputs()[0].name == "pixels"
