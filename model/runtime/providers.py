"""Execution providers of onnxruntime: their names, the options that matter here, and how to get them."""

from __future__ import annotations

import json
import logging
import platform
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import onnxruntime as ort

from model.hub.errors import HubError
from model.hub.settings import HubSettings
from model.runtime.processor import multiplies_bf16

log = logging.getLogger(__name__)
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
INSTALL = {
    "cpu": 'pip install "sightword[cpu]"',
    "cuda": 'pip uninstall onnxruntime, then pip install "sightword[gpu]", which brings CUDA 13 and cuDNN 9; the '
    "machine needs a driver for them",
    "tensorrt": 'pip uninstall onnxruntime, then pip install "sightword[gpu]" with TensorRT 10 on the machine',
    "openvino": 'pip uninstall onnxruntime, then pip install "sightword[openvino]"',
}
# What runs the nodes that the first cannot.
FALLBACK = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu"), "openvino": ("cpu",)}
NVIDIA = (PROVIDERS["cuda"], PROVIDERS["tensorrt"])
ON_CPU = (PROVIDERS["cpu"], PROVIDERS["openvino"])

CUDA_OPTIONS = {
    # The default times every algorithm for every new batch size: seconds, for the one convolution of a ViT.
    "cudnn_conv_algo_search": "HEURISTIC",
    # The default doubles what it takes, and holds it.
    "arena_extend_strategy": "kSameAsRequested",
    "do_copy_in_default_stream": "1",
}


class EngineError(RuntimeError):
    """The engine cannot run as asked; the message says what to install or change."""


def choose(provider: str) -> list[str]:
    """The keys of PROVIDERS to open a session with, in order. Raises EngineError."""
    available = ort.get_available_providers()
    if provider == "auto":
        return [key for key in ("cuda", "cpu") if PROVIDERS[key] in available]
    if provider not in PROVIDERS:
        raise EngineError(f"unknown provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        raise EngineError(f"{PROVIDERS[provider]} is not in this onnxruntime: {INSTALL[provider]}")
    return [provider, *(key for key in FALLBACK[provider] if PROVIDERS[key] in available)]


def load_cuda_libraries() -> None:
    """Load the CUDA and cuDNN that pip brought with the extra `gpu`, where the loader of the system does not look.

    What is missing is told in the log; the provider then fails to open, or finds those of the system.
    """
    with redirect_stdout(StringIO()) as complaints:  # it prints them
        ort.preload_dlls()
    if text := complaints.getvalue().strip():
        log.warning("CUDA libraries: %s", " ".join(text.split()))


def options(key: str, precision: str, digest: str, threads: int) -> dict[str, str]:
    """The options of a provider for a bundle of that precision, run on so many cores. Raises EngineError."""
    if key == "cuda":
        return dict(CUDA_OPTIONS)
    if key == "openvino":
        return {"device_type": "CPU", "load_config": json.dumps({"CPU": _openvino_options(precision, threads)})}
    if key != "tensorrt":
        return {}
    engines, half = str(_engines(digest)), str(precision == "fp16")
    return {
        # Allowed to any other, it would round what the bundle promises in fp32.
        "trt_fp16_enable": half,
        "trt_layer_norm_fp32_fallback": half,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": engines,
    }


def _openvino_options(precision: str, threads: int) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": _openvino_precision(precision),
        "INFERENCE_NUM_THREADS": str(threads),
        # Threads that may not leave their core would wait there for the one that decodes pictures.
        "ENABLE_CPU_PINNING": "NO",
    }


def computation(provider: str, precision: str) -> str:
    """What a provider, by onnxruntime's name, computes a bundle of that precision in: vectors differ where this does.

    CUDA and TensorRT multiply fp32 matrices in TF32 where the GPU does; OpenVINO's bf16 depends on the processor. The
    int8 of our variants is the same on all processors.
    """
    key = next(key for key, name in PROVIDERS.items() if name == provider)
    if key == "openvino":
        return f"openvino-{_openvino_precision(precision)}"
    if key == "tensorrt":
        return f"tensorrt-{'fp16' if precision == 'fp16' else 'fp32'}"
    # x86 widens fp16 to fp32; ARM has kernels for it.
    return f"cpu-fp16-{platform.machine()}" if (key, precision) == ("cpu", "fp16") else key


def _openvino_precision(precision: str) -> str:
    # What the bundle promises in fp32 is not rounded. A processor without the instructions would only imitate bf16.
    return "bf16" if precision == "bf16" and multiplies_bf16() else "f32"


def _engines(digest: str) -> Path:
    """Where TensorRT keeps what it builds for a bundle: its own names for that tell graphs apart, but not weights."""
    try:
        folder = HubSettings.read().home / "tensorrt" / digest
        folder.mkdir(parents=True, exist_ok=True)
    except (HubError, OSError) as error:
        raise EngineError(f"no place for TensorRT's engines, set SIGHTWORD_HOME to a folder: {error}") from error
    return folder
