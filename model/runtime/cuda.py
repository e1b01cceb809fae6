"""What a provider of NVIDIA's needs beside onnxruntime, and why one cannot be used: the cause, and what to do."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from io import StringIO

import onnxruntime as ort

from model.requirements import pip_install
from model.runtime.gpu import GpuError, find_gpu

log = logging.getLogger(__name__)
DOCUMENT = "docs/gpu.md"
# What the libraries of the providers are linked to, by `readelf -d`; cuDNN is opened by the first convolution.
CUDA_LIBRARIES = ("libcudart.so.{}", "libcublasLt.so.{}", "libcublas.so.{}", "libcurand.so.10", "libcudnn.so.9")
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
INSTALL_CUDA = f"{pip_install('gpu')} brings CUDA and cuDNN"
# Newer ones on PyPI are TensorRT 11, whose libraries have other names.
INSTALL_TENSORRT = 'pip install "tensorrt-cu13-libs<11" brings TensorRT 10, from NVIDIA\'s own index'
# Which build has code for what, by `cuobjdump --list-elf libonnxruntime_providers_cuda.so`: sm_75, 80, 86, 89, 90a and
# 120a, and no PTX from which the driver could make code for others.
KNOWN_BUILD = "1.31."
COMPILED_FOR = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
RUNS_ON = "7.5, 8.0, 8.6, 8.9, 9.0 and 12.0 (T4, RTX 20; A100, A10, RTX 30; L4, L40S, RTX 40; H100, H200; RTX 50)"
WITHOUT_CODE = f"this onnxruntime has code for the compute capabilities {RUNS_ON}, and no other"

# A part of what onnxruntime or CUDA says, and what that means.
_MEANINGS = (
    ("no kernel image is available", f"there is no code for this GPU: {WITHOUT_CODE}"),
    ("driver version is insufficient", "the NVIDIA driver is older than this onnxruntime's CUDA wants"),
    ("not supported in the installed CUDA driver", "the NVIDIA driver is older than this onnxruntime's CUDA wants"),
    ("unsupported toolchain", "the NVIDIA driver is older than the CUDA libraries that are installed"),
    ("no CUDA-capable device", "the NVIDIA driver shows this process no GPU"),
    ("invalid device ordinal", "there is no GPU of the number in SIGHTWORD_DEVICE"),
    ("Invalid device ID", "there is no GPU of the number in SIGHTWORD_DEVICE"),
    ("cuDNN is not available", f"cuDNN is missing: {INSTALL_CUDA}"),
    ("libcudnn", f"cuDNN is missing, or not all of it: {INSTALL_CUDA}"),
    ("install TensorRT libraries", f"TensorRT is missing, or not of the right version: {INSTALL_TENSORRT}"),
    ("cannot open shared object file", f"a library is missing: {INSTALL_CUDA}"),
    ("out of memory", "the memory of the GPU is not enough"),
    (
        "Failed to allocate memory",
        "the memory of the GPU is not enough, or what SIGHTWORD_GPU_MEMORY_BYTES leaves of it",
    ),
    ("Available memory of", "the memory of the GPU is not enough, or what SIGHTWORD_GPU_MEMORY_BYTES leaves of it"),
)


def problem(key: str, device: int) -> str:
    """Why "cuda" or "tensorrt" cannot run on the GPU of that index: all there is to mend; "" where nothing is seen."""
    if sys.platform != "linux":  # the libraries have other names there, and onnxruntime says itself what it lacks
        return ""
    causes = []
    try:
        gpu = find_gpu(device, cuda_major())
        if not has_code_for(gpu.capability):
            causes.append(f"{gpu} cannot be used: {WITHOUT_CODE}")
    except GpuError as error:
        causes.append(str(error))
    load_libraries(key)
    if missing := _missing(name.format(cuda_major()) for name in CUDA_LIBRARIES):
        causes.append(f"{missing}: {INSTALL_CUDA}")
    if key == "tensorrt" and (missing := _missing(TENSORRT_LIBRARIES)):
        causes.append(f"{missing}: {INSTALL_TENSORRT}")
    return f"{'; and '.join(causes)} ({DOCUMENT})" if causes else ""


def explain(error: str) -> str:
    """What an error of onnxruntime or CUDA means, or "" where that is not known."""
    return next((f"{meaning} ({DOCUMENT})" for part, meaning in _MEANINGS if part.lower() in error.lower()), "")


def cuda_major() -> int:
    """The major version of CUDA that this onnxruntime is built for."""
    return int((ort.cuda_version or "13").partition(".")[0])


def has_code_for(capability: tuple[int, int]) -> bool:
    """Whether the provider has kernels for a compute capability; of a build that is not known here, that is assumed.

    Code runs on later minor versions of its major version, too, but for that of 9.0 and 12.0, which is for them alone.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility
    """
    if not ort.__version__.startswith(KNOWN_BUILD) or platform.machine() != "x86_64":
        return True
    major, minor = capability
    return capability in COMPILED_FOR or any(major == each < 9 and minor > least for each, least in COMPILED_FOR)


def load_libraries(key: str) -> None:
    """Load the CUDA, cuDNN and TensorRT that pip installed, where the loader of the system does not look.

    What is missing is told in the log; those of the system are found without.
    """
    with redirect_stdout(StringIO()) as complaints:  # it prints them
        ort.preload_dlls()
    if text := complaints.getvalue().strip():
        log.warning("CUDA libraries: %s", " ".join(text.split()))
    if key == "tensorrt":
        # There is no option for it: https://github.com/microsoft/onnxruntime/issues/26029. It is read when a library of
        # NVIDIA's is first used, so it holds for the whole process.
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        with suppress(ImportError):
            importlib.import_module("tensorrt_libs")  # loads all that is in its folder


def _missing(libraries: Iterable[str]) -> str:
    """What the loader says of those that it cannot open."""
    complaints = []
    for name in libraries:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            complaints.append(str(error))
    return ", ".join(dict.fromkeys(complaints))
