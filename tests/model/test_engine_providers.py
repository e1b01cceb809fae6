"""Which providers are chosen, with which options, and runs whose tensors are bound to a device."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle, bundled
from model.requirements import pip_install
from model.runtime import providers, tensorrt
from model.runtime.engine import Engine, EngineError
from model.runtime.gpu import Gpu
from model.runtime.providers import Device, choose, options
from model.runtime.session import TowerSession, run_bound
from model.runtime.tensorrt import InputShapes

L4 = Gpu(0, "NVIDIA L4", (8, 9), 24 * 2**30)
TEXTS = InputShapes("token_ids", (1, 2), (32, 16), (128, 77))
ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def bound(tower: TowerSession, input_name: str, given: NDArray[Any]) -> NDArray[np.float32]:
    embeddings = np.full((len(given), 256), np.nan, np.float32)
    run_bound(tower.session, input_name, given, embeddings)
    return embeddings


def test_bound_runs_give_the_same_vectors() -> None:
    bundle = Bundle.load(bundled())
    engine, size = Engine(bundle, "cpu"), bundle.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (6, size, size, 3), np.uint8)
    ids = np.random.default_rng(0).integers(1, 1000, (5, 9))
    ids[:, -1] = 1023
    for given in (pixels, pixels[::2], pixels[:, :, ::-1]):
        np.testing.assert_array_equal(bound(engine.image_session, "pixels", given), engine.embed_images(given))
    np.testing.assert_array_equal(bound(engine.text_session, "token_ids", ids), engine.embed_texts(ids))


def test_bound_runs_in_several_threads_keep_apart() -> None:
    bundle = Bundle.load(bundled())
    engine, size = Engine(bundle, "cpu"), bundle.image_size
    batches = [np.full((1 + i % 3, size, size, 3), 10 * i, np.uint8) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda batch: bound(engine.image_session, "pixels", batch), batches))
    for batch, vectors in zip(batches, got, strict=True):
        np.testing.assert_allclose(vectors, engine.embed_images(batch), atol=1e-6)


def test_during_a_bound_run_other_threads_go_on() -> None:
    tower = Engine(Bundle.load(bundled()), "cpu", 1).image_session
    pixels, turns = np.zeros((64, 96, 96, 3), np.uint8), 0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bound, tower, "pixels", pixels)
        while not running.done():
            time.sleep(0.001)
            turns += 1
    assert turns > 5  # one, if the run held the interpreter's lock


@pytest.mark.parametrize(
    ("provider", "available", "chosen"),
    [
        ("auto", ALL, ["cuda", "cpu"]),
        ("auto", ALL[2:], ["cpu"]),
        ("cpu", ALL, ["cpu"]),
        ("cuda", ALL, ["cuda", "cpu"]),
        ("tensorrt", ALL, ["tensorrt", "cuda", "cpu"]),
        ("openvino", ["OpenVINOExecutionProvider", *ALL[2:]], ["openvino", "cpu"]),
    ],
)
def test_providers_are_chosen_in_order(
    monkeypatch: pytest.MonkeyPatch, provider: str, available: list[str], chosen: list[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    assert choose(provider) == chosen


@pytest.mark.parametrize(("provider", "extra"), [("cuda", "gpu"), ("tensorrt", "gpu"), ("openvino", "openvino")])
def test_a_provider_that_is_not_there_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, provider: str, extra: str
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ALL[2:])
    with pytest.raises(EngineError, match=rf"is not in this onnxruntime: .*{re.escape(pip_install(extra))}"):
        choose(provider)


def test_cuda_options() -> None:
    expected = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "device_id": "0",
        "use_tf32": "0",
    }
    for precision in ("fp32", "fp16", "bf16"):
        assert options("cuda", precision, "digest", 2, Device(), TEXTS) == expected
    assert options("cpu", "fp32", "digest", 2, Device(3, 2**30), TEXTS) == {}


def test_the_device_and_its_memory_reach_the_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))
    asked: list[int] = []
    monkeypatch.setattr(tensorrt, "find_gpu", lambda index, _: asked.append(index) or L4)
    on_cuda = options("cuda", "fp16", "digest", 2, Device(3, 2**30), TEXTS)
    assert (on_cuda["device_id"], on_cuda["gpu_mem_limit"]) == ("3", "1073741824")
    on_tensorrt = options("tensorrt", "fp16", "digest", 2, Device(3, 2**30), TEXTS)
    assert (on_tensorrt["device_id"], on_tensorrt["trt_max_workspace_size"]) == ("3", "1073741824")
    assert "trt_max_workspace_size" not in options("tensorrt", "fp16", "digest", 2, Device(3), TEXTS)
    assert set(asked) == {3}


def test_tensorrt_rounds_to_half_only_what_is_half_and_keeps_engines_by_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tensorrt, "find_gpu", lambda *_: L4)
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))
    half, whole = (
        options("tensorrt", precision, digest, 2, Device(), TEXTS)
        for precision, digest in (("fp16", "one"), ("fp32", "other"))
    )
    assert (half["trt_fp16_enable"], whole["trt_fp16_enable"]) == ("True", "False")
    assert half["trt_layer_norm_fp32_fallback"] == "True"
    assert half["trt_engine_cache_path"].startswith(str(tmp_path / "tensorrt" / "one" / "NVIDIA-L4-8.9-tensorrt-"))
    assert whole["trt_engine_cache_path"].startswith(str(tmp_path / "tensorrt" / "other"))
    assert Path(half["trt_engine_cache_path"]).is_dir()
    monkeypatch.setenv("SIGHTWORD_HOME", "/proc/nowhere")
    with pytest.raises(EngineError, match="SIGHTWORD_HOME"):
        options("tensorrt", "fp16", "one", 2, Device(), TEXTS)


def test_tensorrt_is_told_the_shapes_between_which_inputs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorrt, "find_gpu", lambda *_: L4)
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))
    given = options("tensorrt", "fp32", "digest", 2, Device(), TEXTS)
    profiles = [given[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert profiles == ["token_ids:1x2", "token_ids:32x16", "token_ids:128x77"]


def test_engines_of_another_gpu_version_or_range_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))

    def folder(gpu: Gpu, version: int, shapes: InputShapes) -> str:
        monkeypatch.setattr(tensorrt, "find_gpu", lambda *_: gpu)
        monkeypatch.setattr(tensorrt, "_version", lambda: version)
        return options("tensorrt", "fp32", "digest", 2, Device(), shapes)["trt_engine_cache_path"]

    hopper = Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 80 * 2**30)
    larger = TEXTS._replace(largest=(256, 77))
    cases = [(L4, 101601, TEXTS), (hopper, 101601, TEXTS), (L4, 101500, TEXTS), (L4, 101601, larger)]
    assert len({folder(*case) for case in cases}) == len(cases)
    assert folder(*cases[0]) == folder(replace(L4, index=1), *cases[0][1:])


def test_the_engine_gives_the_range_of_each_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, given = Bundle.load(bundled()), []

    def record(
        key: str, precision: str, digest: str, threads: int, device: Device, shapes: InputShapes
    ) -> dict[str, str]:
        given.append(shapes)
        return {}

    monkeypatch.setattr("model.runtime.engine.options", record)
    opened = Engine(bundle, "cpu", device=Device(largest_batch=24))
    size, context = bundle.image_size, bundle.context_length
    assert given == [
        InputShapes("pixels", (1, size, size, 3), (24, size, size, 3), (24, size, size, 3)),
        InputShapes("token_ids", (1, 2), (24, 16), (24, context)),
    ]
    for session, shapes in zip((opened.image_session, opened.text_session), given, strict=True):
        [taken] = session.session.get_inputs()
        assert taken.name == shapes.name
        fixed = [isinstance(length, int) for length in taken.shape]
        assert [low == high for low, high in zip(shapes.smallest, shapes.largest, strict=True)] == fixed


@pytest.mark.parametrize(
    ("precision", "multiplies", "hint"),
    [("fp32", True, "f32"), ("int8", True, "f32"), ("bf16", True, "bf16"), ("bf16", False, "f32")],
)
def test_openvino_rounds_only_what_is_bf16_and_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, precision: str, multiplies: bool, hint: str
) -> None:
    monkeypatch.setattr(providers, "multiplies_bf16", lambda: multiplies)
    given = options("openvino", precision, "digest", 3, Device(), TEXTS)
    assert given["device_type"] == "CPU"
    told = json.loads(given["load_config"])["CPU"]
    assert (told["INFERENCE_PRECISION_HINT"], told["INFERENCE_NUM_THREADS"]) == (hint, "3")


def test_the_libraries_of_cuda_are_loaded_for_what_needs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A stand-in for the GPU build's function, which prints; this build's own has nothing to load."""
    loaded = []

    def preload() -> None:
        loaded.append(True)
        print("Failed to load libcublas.so.13")

    monkeypatch.setattr(ort, "preload_dlls", preload)
    Engine(Bundle.load(bundled()), "cpu")
    assert not loaded
    monkeypatch.setattr(ort, "get_available_providers", lambda: ALL[1:])
    with pytest.raises(EngineError, match=re.escape(pip_install("gpu"))):
        Engine(Bundle.load(bundled()), "cuda")
    assert loaded
    assert "libcublas.so.13" in caplog.text
    assert capsys.readouterr().out == ""
