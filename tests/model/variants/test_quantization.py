"""Our int8 graphs compute what those of onnxruntime's own dynamic quantiser do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantType, quantize_dynamic

from model.bundle import Bundle
from model.runtime.engine import Engine
from model.variants.dynamic_quantization import MAX_MATRIX_INT8, quantize
from model.variants.inputs import photograph_crops
from model.variants.options import VariantOptions
from tests.model.variants.conftest import Make


def with_folded_constants(file: Path) -> onnx.ModelProto:
    """Their quantiser sees a matrix only where it is an initialiser."""
    proto = onnx.load(file)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in list(proto.graph.node):
        if node.input and all(name in values for name in node.input):
            made = ReferenceEvaluator(node).run(None, {name: values[name] for name in node.input})
            values |= zip(node.output, made, strict=True)
            proto.graph.initializer.extend(
                numpy_helper.from_array(np.ascontiguousarray(values[name]), name) for name in node.output
            )
            proto.graph.node.remove(node)
    return proto


def theirs(source: Bundle, file: str, folder: Path) -> ort.InferenceSession:
    quantize_dynamic(
        with_folded_constants(source.path / file),
        folder / file,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return ort.InferenceSession(folder / file, providers=["CPUExecutionProvider"])


def test_vectors_are_those_of_onnxruntimes_quantiser(vit: Bundle, make: Make, tmp_path: Path) -> None:
    pixels = photograph_crops(vit.preprocessing)[:8]
    expected = theirs(vit, "image.onnx", tmp_path).run(None, {"pixels": pixels})[0]
    got = Engine(make(vit, VariantOptions("int8")), "cpu").embed_images(pixels)
    exact = Engine(vit, "cpu").embed_images(pixels)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.abs(exact - expected).max() > 1e-3  # or the comparison would show nothing


def test_the_token_embedding_is_quantised_by_rows(vit: Bundle, make: Make, tmp_path: Path) -> None:
    tokenizer = vit.tokenizer()
    ids = tokenizer.pad(tokenizer.encode(["a photo of a cat.", "two dogs", "rain"]))
    expected = theirs(vit, "text.onnx", tmp_path).run(None, {"token_ids": ids})[0]
    cosine = (Engine(make(vit, VariantOptions("int8")), "cpu").embed_texts(ids) * expected).sum(axis=1)
    assert 0.99 < cosine.min() < 1 - 1e-7


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_is_symmetric_and_off_by_half_a_step_at_most(axis: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    matrix[:, 4] = matrix[5] = 0
    integers, scales = quantize(matrix, axis, 64)
    assert integers.dtype == np.int8
    assert (integers.min(), integers.max()) == (-64, 64)
    assert (np.abs(integers * scales - matrix) <= scales / 2 * 1.0001).all()


def test_two_products_of_any_activations_fit_into_sixteen_bits() -> None:
    largest_sum = 2 * 255 * MAX_MATRIX_INT8
    assert largest_sum <= np.iinfo(np.int16).max
