"""A bundle is served whole and unaltered, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle, bundled, write_manifest
from model.export.bundle import measure
from model.manifest import BundleError
from model.network import CLIP
from model.runtime.engine import Engine, EngineError

FILES = ["image.onnx", "text.onnx", "tokenizer.json", "weights.safetensors"]


@pytest.fixture
def copy(exported: tuple[CLIP, Bundle], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[1].path, tmp_path / "copy"))


def test_an_untouched_copy_loads_with_the_same_digest(exported: tuple[CLIP, Bundle], copy: Path) -> None:
    assert Bundle.load(copy).digest == exported[1].digest


@pytest.mark.parametrize("name", [*FILES, "bundle.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(BundleError, match=f"{name} has {len(data) - 1} bytes instead of {len(data)}"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", FILES)
def test_one_altered_bit_is_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format"),
        ({"logit_scale": -1}, "logit_scale"),
        ({"unknown": 1}, "unknown"),
        ({"files": {"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "files.*passwd"),
        ({"export": {"image_max_abs_diff": "NaN"}}, "export"),
        ({"files": {}}, "does not list image.onnx"),
    ],
)
def test_a_bad_manifest_is_refused_by_field(copy: Path, change: dict[str, object], named: str) -> None:
    manifest = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(BundleError, match=named):
        Bundle.load(copy)


def test_a_manifest_that_is_not_json_is_refused(copy: Path) -> None:
    (copy / "bundle.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(copy)


def test_the_digest_names_what_decides_a_vector(exported: tuple[CLIP, Bundle], copy: Path) -> None:
    manifest = exported[1].manifest.model_dump(mode="json", exclude={"files"})
    preprocessing = {**manifest["preprocessing"], "alpha": "drop"}
    text = {**manifest["config"]["text"], "context_length": 20}
    assert write_manifest(copy, {**manifest, "scores": {"x": 1}}).digest == exported[1].digest
    assert write_manifest(copy, {**manifest, "preprocessing": preprocessing}).digest != exported[1].digest
    assert (
        write_manifest(copy, {**manifest, "config": {**manifest["config"], "text": text}}).digest != exported[1].digest
    )


def test_a_tokenizer_of_another_model_is_refused(exported: tuple[CLIP, Bundle], copy: Path) -> None:
    manifest = exported[1].manifest.model_dump(mode="json", exclude={"files"})
    manifest["config"]["text"]["vocab_size"] = 2048
    with pytest.raises(BundleError, match="different models"):
        write_manifest(copy, manifest).tokenizer()


def test_the_command_line_inspects_and_verifies(copy: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["verify", str(copy)]).exit_code == 0
    assert "logit scale" in run(app, ["inspect", str(copy)]).output
    assert json.loads(run(app, ["inspect", str(copy), "--json"]).output)["format"] == 1
    (copy / "text.onnx").unlink()
    for command in ("inspect", "verify"):
        result = run(app, [command, str(copy)])
        assert result.exit_code == 1
        assert "text.onnx is missing" in result.output


@pytest.mark.parametrize("name", FILES)
def test_no_file_goes_unhashed(copy: Path, name: str) -> None:
    manifest = json.loads((copy / "bundle.json").read_text())
    del manifest["files"][name]
    (copy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=f"does not list {name}"):
        Bundle.load(copy)


@pytest.mark.parametrize("location", ["../outside.bin", "other.safetensors", "/etc/hostname"])
def test_graphs_can_read_no_file_but_the_verified_weights(
    exported: tuple[CLIP, Bundle], copy: Path, location: str
) -> None:
    graph = onnx.load(copy / "image.onnx", load_external_data=False)
    for entry in (e for i in graph.graph.initializer for e in i.external_data if e.key == "location"):
        entry.value = location
    weights = (copy / "weights.safetensors").read_bytes()
    (copy / "other.safetensors").write_bytes(weights)
    (copy.parent / "outside.bin").write_bytes(weights)
    onnx.save(graph, copy / "image.onnx")
    hostile = write_manifest(copy, exported[1].manifest.model_dump(mode="json", exclude={"files"}))
    with pytest.raises(EngineError, match=r"image\.onnx cannot be opened"):
        Engine(hostile, "cpu")


@pytest.mark.parametrize("change", [{"embed_dim": 999}, {"preprocessing": {"size": 8}}, {"text": {"vocab_size": 2048}}])
def test_verify_says_that_a_manifest_does_not_fit_its_graphs(
    exported: tuple[CLIP, Bundle], copy: Path, change: dict[str, Any]
) -> None:
    manifest = exported[1].manifest.model_dump(mode="json", exclude={"files"})
    manifest["preprocessing"] |= change.get("preprocessing", {})
    manifest["config"]["text"] |= change.get("text", {})
    manifest["config"]["embed_dim"] = change.get("embed_dim", manifest["config"]["embed_dim"])
    write_manifest(copy, manifest)
    result = CliRunner().invoke(app, ["verify", str(copy)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception


def test_the_bundled_checkpoint_is_whole_small_and_computes_what_torch_does() -> None:
    bundle = Bundle.load(bundled())
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) <= 20_000_000
    network = CLIP(bundle.manifest.config)
    state = load_file(bundle.path / "weights.safetensors")
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    assert measure(network.eval(), bundle).image_max_abs_diff <= 1e-4
