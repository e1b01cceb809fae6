"""ONNX files that are malformed, forged or of another kind: refused by name, with nothing left; old ones are read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint
from model.runtime.engine import Engine
from tests.model.checkpoints.library import onnx_folders
from tests.model.checkpoints.library.onnx_folders import move_data_out


@pytest.fixture(scope="module")
def immich(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folders.immich(open_clip, tmp_path_factory.mktemp("immich") / "ViT-B-32__openai")


@pytest.fixture
def copied(immich: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(immich, tmp_path / "copied"))


def _break_location(location: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "visual" / "model.onnx"
        move_data_out(file, "model.onnx.data")
        proto = onnx.load(file, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        onnx.save(proto, file)

    return change


def _link_out(folder: Path) -> None:
    _break_location("linked.data")(folder)
    (folder / "visual" / "model.onnx.data").rename(folder.parent / "elsewhere.data")
    (folder / "visual" / "linked.data").symlink_to(folder.parent / "elsewhere.data")


def _truncate_data(folder: Path) -> None:
    _break_location("model.onnx.data")(folder)
    data = folder / "visual" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-100])


def _repeat_data(folder: Path) -> None:
    """Forty tensors in the bytes of one."""
    _break_location("model.onnx.data")(folder)
    file = folder / "visual" / "model.onnx"
    proto = onnx.load(file, load_external_data=False)
    largest = max(proto.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    for index in range(40):
        copy = proto.graph.initializer.add()
        copy.CopyFrom(largest)
        copy.name = f"copy {index}"
    onnx.save(proto, file)


def _change(tower: str, edit: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / tower / "model.onnx"
        proto = onnx.load(file)
        edit(proto)
        onnx.save(proto, file)

    return change


def _foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Theirs", ["image"], ["more"], domain="their.own"))
    proto.opset_import.add(domain="their.own", version=1)


def _loop(proto: onnx.ModelProto) -> None:
    true = helper.make_node("Identity", ["condition"], ["again"])
    count, condition, again = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("condition", TensorProto.BOOL), ("again", TensorProto.BOOL))
    )
    body = helper.make_graph([true], "body", [count, condition], [again])
    proto.graph.node.append(helper.make_node("Loop", ["", "embedding"], [], body=body))


def _opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 26


def _ir(proto: onnx.ModelProto) -> None:
    proto.ir_version = 14


def _functions(proto: onnx.ModelProto) -> None:
    proto.functions.add(name="f", domain="their.own")


def _batch_of_four(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def _bytes_for_pixels(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def _two_pictures(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 3, 48, 48]))


def _not_finite(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > 64:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _text(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "one tower": (_without("textual/model.onnx"), r"visual/model.onnx is one tower, and .*textual/model.onnx is"),
    "no ONNX": (_text("visual/model.onnx", b"\x80\x04pickled"), r"visual/model.onnx: it is not an ONNX file"),
    "a pointer": (_text("visual/model.onnx", b"version https://git-lfs"), r"a pointer of Git LFS, whose content"),
    "absolute": (_break_location("/etc/passwd"), r"is in '/etc/passwd', which is not beside the graph"),
    "above": (_break_location("../../secret"), r"is in '../../secret', which is not beside the graph"),
    "a link": (_link_out, r"is in 'linked.data', a link out of"),
    "truncated data": (_truncate_data, r"ends 100 bytes after .*model.onnx.data: that file is truncated"),
    "repeated data": (_repeat_data, r"its tensors have \d+ bytes in files of \d+: it is forged"),
    "missing data": (_break_location("gone.data"), r"gone.data, which cannot be read: No such file"),
    "an operator": (_change("visual", _foreign_operator), r"its operator their.own.Theirs is neither the standard's"),
    "a loop": (_change("visual", _loop), r"it has a Loop, which may have no end"),
    "opset": (_change("textual", _opset), r"needs operators of opset 26, and those of 11 to 25 are run"),
    "IR version": (_change("textual", _ir), r"its IR version is 14, and 3 to 13 are read"),
    "functions": (_change("textual", _functions), r"it has 1 functions of its own, such as 'f'"),
    "a batch": (_change("visual", _batch_of_four), r"visual/model.onnx: it takes batches of 4 only: export it for"),
    "bytes": (_change("visual", _bytes_for_pixels), r"its input image takes UINT8, not normalised pixels in floats"),
    "two inputs": (_change("visual", _two_pictures), r"one input of four dimensions was expected, for pictures"),
    "not finite": (_change("visual", _not_finite), r"its output embedding holds values that are not finite"),
    "no tokenizer": (_without("textual/tokenizer.json"), r"textual/tokenizer.json is missing"),
    "no padding": (_text("textual/tokenizer_config.json", b"{}"), r"neither it nor tokenizer_config.json names a pad"),
    "other dimensions": (_text("config.json", b'{"text_cfg": {}, "embed_dim": 64}'), r"without its projection"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_malformed_or_hostile_is_refused_by_name(copied: Path, tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    change(copied)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(copied, tmp_path / "bundle", Options())
    assert not (tmp_path / "bundle").exists()


def test_a_graph_alone_and_a_size_of_its_own_are_refused(immich: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model.onnx is one graph: name the folder"):
        import_checkpoint(immich / "visual" / "model.onnx", tmp_path / "bundle", Options())
    with pytest.raises(CheckpointError, match=r"--image-size 96: an exported graph keeps its 48 pixels"):
        import_checkpoint(immich, tmp_path / "bundle", Options(image_size=96))
    with pytest.raises(CheckpointError, match=r"leave out --activation and --architecture"):
        import_checkpoint(immich, tmp_path / "bundle", Options(activation="gelu"))


def test_an_old_file_with_graphs_within_is_read(copied: Path, tmp_path: Path) -> None:
    """Weights are listed among its inputs, a branch reads one from outside, and a node comes before what it reads."""
    matrix = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)

    def branch(name: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(f"{name} result", TensorProto.FLOAT, ["batch", 32])
        return helper.make_graph([helper.make_node("MatMul", ["pooled", "matrix"], [result.name])], name, [], [result])

    weights = [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(np.array(True), "condition")]
    graph = helper.make_graph(
        [
            helper.make_node(
                "If", ["condition"], ["embedding"], then_branch=branch("one"), else_branch=branch("other")
            ),
            helper.make_node("Flatten", ["averages"], ["pooled"]),
            helper.make_node("GlobalAveragePool", ["image"], ["averages"]),
        ],
        "old",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 48, 48]),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [3, 32]),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 32])],
        weights,
    )
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=3)
    onnx.save(old, copied / "visual" / "model.onnx")
    bundle, _ = import_checkpoint(copied, tmp_path / "bundle", Options())
    pixels = smoke_inputs.pixels(bundle.preprocessing, 3)
    mean, std = np.array(onnx_folders.MEAN), np.array(onnx_folders.STD)
    vectors = ((pixels / 255 - mean) / std).mean(axis=(1, 2)) @ matrix
    ours = Engine(bundle, "cpu").embed_images(pixels)
    np.testing.assert_allclose(ours, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-5)
