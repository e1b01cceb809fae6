"""The options of TensorRT: the shapes that its engines are built for before the start ends, and where they are kept."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import NamedTuple

from model.hub.settings import HubSettings
from model.runtime.cuda import TENSORRT_LIBRARIES, cuda_major
from model.runtime.gpu import Gpu, find_gpu

Shape = tuple[int, ...]


class InputShapes(NamedTuple):
    """Between which shapes the one input of a graph is, and which one its kernels are chosen for."""

    name: str
    smallest: Shape
    typical: Shape
    largest: Shape


def tensorrt_options(precision: str, digest: str, device: int, shapes: InputShapes) -> dict[str, str]:
    """Options for one graph of a bundle. Raises GpuError, and OSError or HubError where engines cannot be kept."""
    half = str(precision == "fp16")
    engines = str(_engines(digest, find_gpu(device, cuda_major()), shapes))
    return {
        "device_id": str(device),
        # Allowed to any other, it would round what the bundle promises in fp32.
        "trt_fp16_enable": half,
        "trt_layer_norm_fp32_fallback": half,
        # Without profiles, an engine is built again in the middle of a request that is larger than those before.
        "trt_profile_min_shapes": _profile(shapes.name, shapes.smallest),
        "trt_profile_opt_shapes": _profile(shapes.name, shapes.typical),
        "trt_profile_max_shapes": _profile(shapes.name, shapes.largest),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": engines,
    }


def _profile(name: str, shape: Shape) -> str:
    return f"{name}:{'x'.join(map(str, shape))}"


def _engines(digest: str, gpu: Gpu, shapes: InputShapes) -> Path:
    """Where the engines of a graph are kept: its own names for them tell graphs apart, but neither weights nor GPUs.

    An engine runs on the GPU that it was built on, in the version that built it, within its profile.
    """
    machine = f"{re.sub(r'[^A-Za-z0-9]+', '-', gpu.name)}-{gpu.capability_name}-tensorrt-{_version()}"
    folder = (
        HubSettings.read().home
        / "tensorrt"
        / digest
        / machine
        / _profile(shapes.name, shapes.largest).replace(":", "-")
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _version() -> int:
    """As its library says: 101601 for 10.16.1; 0 where there is none, and so nothing to keep."""
    try:
        return int(ctypes.CDLL(TENSORRT_LIBRARIES[0]).getInferLibVersion())
    except OSError:
        return 0
