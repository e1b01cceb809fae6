"""Environment: the GPU, its driver, the libraries that were found, and versions; whether the engine can use them."""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError, version

import onnxruntime as ort

from benchmarks.gpu_check.device import gpu
from benchmarks.gpu_check.findings import Findings, Options
from model.bundle import Bundle, bundled
from model.runtime.cuda import RUNS_ON, has_code_for
from model.runtime.engine import Engine, EngineError
from model.runtime.providers import PROVIDERS

# What the wheel of onnxruntime-gpu holds kernels for. It has no code that newer ones could compile.
TENSORRT = ("libnvinfer.so.10", "libnvonnxparser.so.10")
PACKAGES = ("onnxruntime-gpu", "onnxruntime", "torch", "nvidia-cudnn-cu13", "nvidia-cuda-runtime", "numpy")


def run(options: Options, findings: Findings) -> None:
    """Look, and open the bundled model on the device."""
    for package in PACKAGES:
        try:
            findings.figure(package, version(package))
        except PackageNotFoundError:
            findings.figure(package, "not installed")
    findings.figure("onnxruntime that is used", f"{ort.__version__}, {', '.join(ort.get_available_providers())}")
    if options.on_gpu:
        _look_at_gpu(findings)
    else:
        findings.skip("GPU, driver, CUDA and cuDNN", "needs CUDA")
    try:
        engine = Engine(Bundle.load(bundled()), options.device)
        engine.warm_up()
    except EngineError as error:
        findings.promise("the bundled model opens and runs on the device", False, error)
        return
    wanted = PROVIDERS[options.device]
    findings.promise(
        "the bundled model opens and runs on the device",
        {engine.image_session.provider, engine.text_session.provider} == {wanted},
        engine.provider,
    )


def _look_at_gpu(findings: Findings) -> None:
    facts = gpu()
    for name, value in facts.items():
        findings.figure(name, value)
    capability = facts["compute capability"]
    major, minor = map(int, capability.split("."))
    findings.promise(f"onnxruntime-gpu is compiled for it: {RUNS_ON}", has_code_for((major, minor)), capability)
    ort.preload_dlls()  # prints what it does not find
    findings.figure("cuDNN", _cudnn_version())
    for library in TENSORRT:
        findings.figure(library, "found" if loads(library) else "not found")


def _cudnn_version() -> str:
    try:
        library = ctypes.CDLL("libcudnn.so.9")
    except OSError as error:
        return f"not found: {error}"
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return str(library.cudnnGetVersion())


def loads(library: str) -> bool:
    """Whether the system's loader finds it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
