"""Execution providers of onnxruntime: their names, the options that matter here, and how to get them."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime as ort

from model.hub.errors import HubError
from model.requirements import pip_install
from model.runtime import cuda
from model.runtime.gpu import GpuError
from model.runtime.processor import multiplies_bf16
from model.runtime.tensorrt import InputShapes, tensorrt_options

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
INSTALL = {
    "cpu": pip_install("cpu"),
    "cuda": f"pip uninstall onnxruntime, then {cuda.INSTALL_CUDA}",
    "tensorrt": f"pip uninstall onnxruntime, then {cuda.INSTALL_CUDA}; {cuda.INSTALL_TENSORRT}",
    "openvino": f"pip uninstall onnxruntime, then {pip_install('openvino')}",
}
# What runs the nodes that the first cannot.
FALLBACK = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu"), "openvino": ("cpu",)}
NVIDIA = (PROVIDERS["cuda"], PROVIDERS["tensorrt"])
ON_CPU = (PROVIDERS["cpu"], PROVIDERS["openvino"])

CUDA_OPTIONS = {
    # The default rounds the factors of fp32 to 10 bits, errors of 1e-3; what a bundle does not say is not rounded.
    "use_tf32": "0",
    # The default times every algorithm for every new batch size: seconds, for the one convolution of a ViT.
    "cudnn_conv_algo_search": "HEURISTIC",
    # The default doubles what it takes, and holds it.
    "arena_extend_strategy": "kSameAsRequested",
    "do_copy_in_default_stream": "1",
}


@dataclass(frozen=True, slots=True)
class Device:
    """Which GPU, and how it is used; of no account to a provider that runs on the CPU."""

    index: int = 0
    # Most memory for one session's arena, in bytes. An arena for both towers would need onnxruntime's allocators to be
    # shared between sessions that run at the same time, which only a GPU can prove right.
    arena_bytes: int | None = None
    largest_batch: int = 128  # TensorRT's engines take no larger one


class EngineError(RuntimeError):
    """The engine cannot run as asked; the message says what to install or change."""


def available_providers() -> list[str]:
    """The providers that this onnxruntime was built with, by its names, whether or not this machine can run them."""
    return list(ort.get_available_providers())


def choose(provider: str) -> list[str]:
    """The keys of PROVIDERS to open a session with, in order. Raises EngineError."""
    available = available_providers()
    if provider == "auto":
        return [key for key in ("cuda", "cpu") if PROVIDERS[key] in available]
    if provider not in PROVIDERS:
        raise EngineError(f"unknown provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        raise EngineError(f"{PROVIDERS[provider]} is not in this onnxruntime: {INSTALL[provider]}")
    return [provider, *(key for key in FALLBACK[provider] if PROVIDERS[key] in available)]


def usable(keys: Sequence[str], provider: str, device: int) -> tuple[list[str], str]:
    """What `choose` gave, less what this machine cannot run; and why `auto` leaves out the GPU it would take, or "".

    Raises EngineError, with the cause, where what is named cannot run.
    """
    if PROVIDERS[keys[0]] not in NVIDIA:
        return list(keys), ""
    cause = cuda.problem(keys[0], device)
    if cause and provider != "auto":
        raise EngineError(f"{PROVIDERS[provider]} was asked for, but {cause}")
    return (["cpu"] if cause else list(keys)), cause


def options(
    key: str, precision: str, digest: str, threads: int, device: Device, shapes: InputShapes | None
) -> dict[str, str]:
    """The options of a provider for a graph of a bundle of that precision, run on so many cores. Raises EngineError.

    TensorRT alone wants the shapes of its input.
    """
    if key == "openvino":
        return {"device_type": "CPU", "load_config": json.dumps({"CPU": _openvino_options(precision, threads)})}
    if key == "cpu":
        return {}
    limit = device.arena_bytes
    if key == "cuda":
        memory = {} if limit is None else {"gpu_mem_limit": str(limit)}
        return CUDA_OPTIONS | {"device_id": str(device.index)} | memory
    assert shapes is not None
    workspace = {} if limit is None else {"trt_max_workspace_size": str(limit)}
    try:
        return tensorrt_options(precision, digest, device.index, shapes) | workspace
    except (HubError, OSError) as error:
        raise EngineError(f"no place for TensorRT's engines, set SIGHTWORD_HOME to a folder: {error}") from error
    except GpuError as error:
        raise EngineError(str(error)) from error


def _openvino_options(precision: str, threads: int) -> dict[str, str]:
    return {
        "INFERENCE_PRECISION_HINT": _openvino_precision(precision),
        "INFERENCE_NUM_THREADS": str(threads),
        # Threads that may not leave their core would wait there for the one that decodes pictures.
        "ENABLE_CPU_PINNING": "NO",
    }


def computation(provider: str, precision: str) -> str:
    """What a provider, by onnxruntime's name, computes a bundle of that precision in: vectors differ where this does.

    Neither CUDA nor TensorRT rounds fp32 to TF32 ("ieee", as PyTorch calls it): vectors that were kept of a release
    that did are others. OpenVINO's bf16 depends on the processor. The int8 of our variants is the same on all of them.
    """
    key = next(key for key, name in PROVIDERS.items() if name == provider)
    if key == "openvino":
        return f"openvino-{_openvino_precision(precision)}"
    if provider in NVIDIA:
        return f"{key}-{'fp16' if precision == 'fp16' else 'ieee'}"
    # x86 widens fp16 to fp32; ARM has kernels for it.
    return f"cpu-fp16-{platform.machine()}" if (key, precision) == ("cpu", "fp16") else key


def _openvino_precision(precision: str) -> str:
    # What the bundle promises in fp32 is not rounded. A processor without the instructions would only imitate bf16.
    return "bf16" if precision == "bf16" and multiplies_bf16() else "f32"
