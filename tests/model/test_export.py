"""The graphs compute what the network does, for any batch and length, and an export that does not is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from model import smoke_inputs
from model.bundle import Bundle
from model.config import Preprocessing
from model.export import bundle as export
from model.manifest import BundleError
from model.network import CLIP
from model.runtime.engine import Engine, EngineError
from model.tokenizers.clip import Tokenizer
from tests.model.conftest import TINY_VIT, random_network


def test_report_covers_batches_and_lengths(exported: tuple[CLIP, Bundle]) -> None:
    report = exported[1].manifest.export
    assert (min(report.batch_sizes), max(report.batch_sizes)) == (1, 33)
    assert report.text_lengths == (3, 77)
    assert max(report.image_max_abs_diff, report.text_max_abs_diff) < 1e-5
    assert min(report.image_min_cosine, report.text_min_cosine) > 0.99999


def test_engine_matches_torch_on_pictures_it_was_not_measured_on(exported: tuple[CLIP, Bundle]) -> None:
    network, bundle = exported
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (7, bundle.image_size, bundle.image_size, 3), np.uint8)
    mean, std = torch.tensor(bundle.preprocessing.mean), torch.tensor(bundle.preprocessing.std)
    with torch.no_grad():
        normalised = ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)
        expected = torch.nn.functional.normalize(network.encode_image(normalised), dim=-1).numpy()
    got = Engine(bundle, "cpu").embed_images(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_padded_among_others(exported: tuple[CLIP, Bundle]) -> None:
    _, bundle = exported
    engine, tokenizer = Engine(bundle, "cpu"), bundle.tokenizer()
    rows = tokenizer.encode(["a cat", "a much longer sentence about two dogs and one cat in the rain", ""])
    together = engine.embed_texts(tokenizer.pad(rows))
    alone = np.concatenate([engine.embed_texts(tokenizer.pad([row])) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_weights_are_stored_once_and_can_be_trained_further(exported: tuple[CLIP, Bundle]) -> None:
    network, bundle = exported
    state = load_file(bundle.path / "weights.safetensors")
    widened = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    restored = CLIP(bundle.manifest.config)
    restored.load_state_dict(widened)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(restored.state_dict()[name], tensor, rtol=0, atol=0)
    graphs = sum((bundle.path / name).stat().st_size for name in ("image.onnx", "text.onnx"))
    assert graphs < 100_000


def test_graphs_name_nothing_outside_the_bundle(exported: tuple[CLIP, Bundle]) -> None:
    for name in ("image.onnx", "text.onnx"):
        proto = onnx.load(exported[1].path / name, load_external_data=False)
        places = {e.value for i in proto.graph.initializer for e in i.external_data if e.key == "location"}
        assert places == {"weights.safetensors"}
        assert str(Path(__file__).parents[2]).encode() not in proto.SerializeToString()


def test_an_export_that_differs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(export.ExportError, match="differ from the network"):
        export.export_bundle(
            random_network(TINY_VIT),
            tmp_path,
            tokenizer=Tokenizer.clip(TINY_VIT.text.vocab_size),
            preprocessing=Preprocessing(size=48),
            tolerance=1e-12,
        )
    with pytest.raises(BundleError, match="is missing"):
        Bundle.load(tmp_path)


def test_an_export_with_vectors_that_are_not_numbers_is_refused(tmp_path: Path) -> None:
    network = random_network(TINY_VIT)
    network.positional_embedding.data[40:] = float("nan")
    with pytest.raises(export.ExportError, match="nan"):
        export.export_bundle(
            network,
            tmp_path,
            tokenizer=Tokenizer.clip(TINY_VIT.text.vocab_size),
            preprocessing=Preprocessing(size=48),
        )


def test_smoke_inputs_have_as_many_different_pictures_as_asked_for() -> None:
    pixels = smoke_inputs.pixels(Preprocessing(size=32), 33)
    assert pixels.shape == (33, 32, 32, 3)
    assert len({picture.tobytes() for picture in pixels}) == 33


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino"])
def test_a_provider_that_is_not_active_stops_the_start(exported: tuple[CLIP, Bundle], provider: str) -> None:
    import onnxruntime as ort

    if any(provider in name.lower() for name in ort.get_available_providers()):
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(EngineError, match="pip"):
        Engine(exported[1], provider)


def test_engine_says_which_provider_is_active(exported: tuple[CLIP, Bundle]) -> None:
    engine = Engine(exported[1], "cpu")
    engine.warm_up()
    assert engine.provider == "CPUExecutionProvider"
    with pytest.raises(EngineError, match="choose auto"):
        Engine(exported[1], "abacus")
