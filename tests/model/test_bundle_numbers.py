"""Numbers of bundle.json: within their range, or refused by the name of their field, before anything is opened."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle import Bundle, bundled
from model.manifest import MANIFEST, MAX_LOGIT, MAX_MANIFEST_BYTES, BundleError, read_manifest
from model.zeroshot import label_vs_background, probabilities

NO_NUMBER = ["NaN", "Infinity", "-Infinity", "1e400", "true", '"5"', "[5]", "null", "9" * 5000]
FIELDS = {
    "logit_scale": [*NO_NUMBER, "0", "-1", "1e308", "1e10", "1e-400"],
    "logit_bias": [each for each in NO_NUMBER if each != "null"] + ["1e308", "-1e10"],
    "preprocessing.size": [*NO_NUMBER, "0", "-1", "1000000000", "96.0", "4097"],
    "preprocessing.mean": ["[NaN, 0, 0]", "[1e308, 0, 0]", "[0, 0]", "[0, 0, 0, 0]", "0.5"],
    "preprocessing.std": ["[0, 1, 1]", "[-1, 1, 1]", "[NaN, 1, 1]", "[Infinity, 1, 1]", "[1e308, 1, 1]", "[1, 1]"],
    "config.embed_dim": [*NO_NUMBER, "0", "-1", "1000000000", "256.5"],
    "config.image.image_size": [*NO_NUMBER, "0", "-32", "1000000000", "97"],
    "config.image.heads": ["0", "-1", "5", "1000000000"],
    "config.text.context_length": [*NO_NUMBER, "0", "2", "1000000000"],
    "config.text.vocab_size": [*NO_NUMBER, "0", "1000000000"],
    "config.text.norm_eps": ["NaN", "0", "-1", "1", "Infinity"],
    "export.tolerance": ["NaN", "Infinity", "1e400"],
    "export.pictures": ["-1", "1.5", "true", "1" + "0" * 30],
    "files.image.onnx.bytes": ["-1", "1e400", "true", "1" + "0" * 30],
}


def with_number(path: str, number: str) -> str:
    content: Any = json.loads((bundled() / MANIFEST).read_text("utf-8"))
    names = path.replace("image.onnx", "image:onnx").split(".")
    inner = content
    for name in names[:-1]:
        inner = inner[name.replace(":", ".")]
    inner[names[-1]] = "the number"
    return json.dumps(content).replace('"the number"', number)


@pytest.mark.parametrize(
    ("path", "number"),
    [(path, number) for path, numbers in FIELDS.items() for number in numbers],
    ids=lambda value: value[:24],
)
def test_a_nonsense_number_is_refused_by_name(tmp_path: Path, path: str, number: str) -> None:
    (tmp_path / MANIFEST).write_text(with_number(path, number), "utf-8")
    # Of more digits than any number has, JSON's parser tells the column.
    named = "Invalid JSON: number out of range" if len(number) > 4300 else path.rpartition(".")[2]
    with pytest.raises(BundleError, match=named) as caught:
        read_manifest(tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", ["[" * 100_000, '{"id":' * 100_000, "1" * 100_000, "", "\x00", "null", "\ud800"])
def test_what_is_no_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError, match=MANIFEST):
        read_manifest(tmp_path)


def test_an_endless_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"over the limit of {MAX_MANIFEST_BYTES} bytes"):
        read_manifest(tmp_path)


def test_a_file_of_another_size_is_not_read(bundle_copy: Path) -> None:
    with (bundle_copy / "weights.safetensors").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"weights.safetensors has {2**40} bytes"):
        Bundle.load(bundle_copy)


@pytest.fixture
def bundle_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled(), tmp_path / "copy"))


@pytest.mark.parametrize("scale", [math.ulp(0.0), 1.0, MAX_LOGIT])
@pytest.mark.parametrize("bias", ["null", "-1e9", "1e9"])
def test_what_is_let_in_gives_probabilities(bundle_copy: Path, scale: float, bias: str) -> None:
    content = json.loads(with_number("logit_bias", bias)) | {"logit_scale": scale}
    (bundle_copy / MANIFEST).write_text(json.dumps(content), "utf-8")
    bundle = Bundle.load(bundle_copy)
    cosine = np.array([[-1, -0.5, 0, 0.5, 1], [1, 1, 1, 1, 1]], np.float32)
    with np.errstate(over="raise", invalid="raise"):
        for found in (probabilities(cosine, bundle), label_vs_background(cosine, bundle)):
            assert np.isfinite(found).all()
            assert ((found >= 0) & (found <= 1)).all()
