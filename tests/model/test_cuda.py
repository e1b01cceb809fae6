"""Why a provider of NVIDIA's is not used: the cause, where it is told, and that the bundle is not blamed for it."""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path
from typing import NoReturn

import onnxruntime as ort
import pytest

from model.bundle import Bundle, bundled
from model.requirements import pip_install
from model.runtime import cuda, engine, gpu
from model.runtime.cuda import explain, has_code_for, problem
from model.runtime.engine import Engine, EngineError
from model.runtime.providers import PROVIDERS, choose, usable
from tests.model.nvidia import compile_driver

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
HERE, GONE = "libc.so.6", "libcudnn-that-is-not-there.so.9"
# As onnxruntime-gpu 1.31.1 says them, with stand-ins for the libraries of CUDA.
NO_LIBRARY = (
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file"
)
OLD_DRIVER = (
    "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=vm ; "
    "file=cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(info_.device_id); "
)
NO_TENSORRT = (
    "void onnxruntime::python::RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const ProviderOptions&) Please "
    "install TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH"
)
NO_CUDNN = (
    "cuDNN is not available. Install cuDNN, update the system library search path, or set enable_cudnn=0 to force "
    "native CUDA paths where available."
)
NO_KERNEL = "CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def machine(library: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One with a GPU, its driver and all libraries, as far as is asked; onnxruntime is that for GPUs by name only."""
    monkeypatch.setattr(gpu, "DRIVER_LIBRARY", str(library))
    monkeypatch.setattr(cuda, "CUDA_LIBRARIES", (HERE,))
    monkeypatch.setattr(cuda, "TENSORRT_LIBRARIES", (HERE,))
    monkeypatch.setattr(ort, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(ort, "__version__", "1.31.1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return monkeypatch


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(bundled())


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False), ((7, 2), False), ((7, 5), True), ((8, 0), True), ((8, 6), True), ((8, 7), True),
        ((8, 9), True),
        ((9, 0), True), ((10, 0), False), ((10, 3), False), ((11, 0), False), ((12, 0), True), ((12, 1), False),
    ],
)  # fmt: skip
def test_for_which_gpus_the_build_has_code(
    capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "__version__", "1.31.1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert has_code_for(capability) == runs
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert has_code_for(capability), "what the build for another processor has is not known"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(ort, "__version__", "1.40.0")
    assert has_code_for(capability), "what another build has is not known"


def test_nothing_speaks_against_a_machine_that_has_everything(machine: pytest.MonkeyPatch) -> None:
    assert problem("cuda", 0) == problem("tensorrt", 1) == ""
    assert usable(choose("auto"), "auto", 0) == (["cuda", "cpu"], "")
    assert usable(choose("tensorrt"), "tensorrt", 0) == (["tensorrt", "cuda", "cpu"], "")


@pytest.mark.parametrize("capability", ["70", "100", "121"])
def test_a_gpu_without_code(machine: pytest.MonkeyPatch, capability: str) -> None:
    machine.setenv("FAKE_CAPABILITY", capability)
    machine.setenv("FAKE_NAME", "Tesla V100-SXM2-16GB")
    cause = problem("cuda", 0)
    assert f"V100-SXM2-16GB (GPU 0, 24 GiB, compute {capability[:-1]}.{capability[-1]}) cannot be used" in cause
    assert "8.9, 9.0 and 12.0" in cause
    assert cuda.DOCUMENT in cause


def test_a_library_that_is_missing_is_named_with_what_brings_it(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(cuda, "CUDA_LIBRARIES", (HERE, GONE))
    cause = problem("cuda", 0)
    assert GONE in cause
    assert pip_install("gpu") in cause
    machine.setattr(cuda, "CUDA_LIBRARIES", (HERE,))
    machine.setattr(cuda, "TENSORRT_LIBRARIES", ("libnvinfer-that-is-not-there.so.10",))
    assert problem("cuda", 0) == ""
    assert "tensorrt-cu13-libs<11" in problem("tensorrt", 0)


def test_all_that_is_to_be_mended_is_told_at_once(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("FAKE_CUDA", "12040")
    machine.setattr(cuda, "CUDA_LIBRARIES", (GONE,))
    cause = problem("cuda", 0)
    assert "too old" in cause
    assert GONE in cause


def test_tf32_is_off_for_tensorrt_before_its_libraries_are_loaded(machine: pytest.MonkeyPatch) -> None:
    machine.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    problem("cuda", 0)
    assert "NVIDIA_TF32_OVERRIDE" not in cuda.os.environ
    machine.setenv("NVIDIA_TF32_OVERRIDE", "1")
    problem("tensorrt", 0)
    assert cuda.os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_what_pip_brought_of_tensorrt_is_loaded(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its package loads its libraries when it is imported."""
    package = tmp_path / "tensorrt_libs"
    package.mkdir()
    (package / "__init__.py").write_text("loaded = True\n")
    machine.syspath_prepend(str(tmp_path))
    machine.delitem(sys.modules, "tensorrt_libs", raising=False)
    problem("cuda", 0)
    assert "tensorrt_libs" not in sys.modules
    problem("tensorrt", 0)
    assert sys.modules.pop("tensorrt_libs").loaded


def test_on_other_systems_onnxruntime_is_left_to_tell(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("FAKE_CUDA", "12040")
    assert problem("cuda", 0)
    machine.setattr(sys, "platform", "win32")
    assert problem("cuda", 0) == ""


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (NO_LIBRARY, "a library is missing"),
        (OLD_DRIVER, "driver is older"),
        (NO_TENSORRT, "TensorRT is missing"),
        (NO_CUDNN, "cuDNN is missing"),
        (NO_KERNEL, "no code for this GPU"),
        ("Failed to allocate memory for requested buffer of size 1048576", "SIGHTWORD_GPU_MEMORY_BYTES"),
        ("CUDA failure 101: invalid device ordinal ; GPU=0", "SIGHTWORD_DEVICE"),
    ],
)
def test_what_errors_of_onnxruntime_mean(error: str, meaning: str) -> None:
    assert meaning in explain(error)
    assert cuda.DOCUMENT in explain(error)


def test_an_error_that_is_not_known_is_not_explained() -> None:
    assert explain("the graph has a cycle") == ""


def test_auto_says_loudly_that_it_leaves_out_a_gpu(
    machine: pytest.MonkeyPatch, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    machine.setenv("FAKE_CUDA", "12040")
    opened = Engine(bundle, "auto")
    assert (opened.provider, opened.gpu) == (PROVIDERS["cpu"], None)
    assert "too old" in opened.problem
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "computes on the CPU" in warning.getMessage()
    assert "too old" in warning.getMessage()
    opened.warm_up()


def test_a_named_one_fails_with_the_same_cause(machine: pytest.MonkeyPatch, bundle: Bundle) -> None:
    machine.setenv("FAKE_CUDA", "12040")
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(EngineError, match=f"{PROVIDERS[provider]} was asked for, but .*too old"):
            Engine(bundle, provider)


def test_where_onnxruntime_falls_back_in_silence_auto_tells_it(
    machine: pytest.MonkeyPatch, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """All seems to be there, and yet the session opens on the CPU: this build has no CUDA."""
    opened = Engine(bundle, "auto")
    assert opened.provider == PROVIDERS["cpu"]
    assert "CUDAExecutionProvider was asked for but is not active" in opened.problem
    assert opened.problem in caplog.text
    with pytest.raises(EngineError, match="CUDAExecutionProvider was asked for but is not active"):
        Engine(bundle, "cuda")


def test_where_the_provider_fails_auto_tells_why(machine: pytest.MonkeyPatch, bundle: Bundle) -> None:
    session = ort.InferenceSession

    def fail(content: bytes, options: object, providers: list[object], **given: object) -> object:
        if len(providers) == 1:
            return session(content, options, providers=providers, **given)
        assert given["enable_fallback"] == 0, "it would print the error, and go on with the CPU"
        raise RuntimeError(OLD_DRIVER)

    machine.setattr(ort, "InferenceSession", fail)
    opened = Engine(bundle, "auto")
    assert opened.provider == PROVIDERS["cpu"]
    assert "driver is older" in opened.problem
    with pytest.raises(EngineError, match="CUDAExecutionProvider cannot be used: the NVIDIA driver is older"):
        Engine(bundle, "cuda")


def test_the_bundle_is_not_blamed_for_what_the_machine_lacks(machine: pytest.MonkeyPatch, bundle: Bundle) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError(NO_CUDNN)

    opened = Engine(bundle, "cpu")
    machine.setattr(engine.Engine, "embed_images", fail)
    with pytest.raises(EngineError, match="does not run as its manifest says"):
        opened.warm_up()
    opened.provider = PROVIDERS["cuda"]
    with pytest.raises(EngineError, match="CUDAExecutionProvider does not run: cuDNN is missing") as error:
        opened.warm_up()
    assert bundle.path.name not in str(error.value)
