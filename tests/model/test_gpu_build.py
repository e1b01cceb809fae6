"""What onnxruntime-gpu itself knows, beside what we take it to know.

The first half always runs, against lists that are kept here. The second asks the libraries of the wheel, and needs it:
`make test-gpu-build`. No GPU is needed: stand-ins for CUDA bring the provider as far as reading its options.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from model.runtime import cuda, tensorrt
from model.runtime.gpu import Gpu
from model.runtime.providers import PROVIDERS, Device, options
from model.runtime.tensorrt import InputShapes
from tests.model.nvidia import compile_libraries

ROOT = Path(__file__).parents[2]
VERSION = "1.31.1"
# Those of onnxruntime's documentation that the library of that version knows, as the second half asks it.
CUDA_OPTIONS = """
    arena_extend_strategy cudnn_conv1d_pad_to_nc1d cudnn_conv_algo_search cudnn_conv_use_max_workspace device_id
    do_copy_in_default_stream enable_cuda_graph enable_cudnn enable_skip_layer_norm_strict_mode fuse_conv_bias
    gpu_external_alloc gpu_external_empty_cache gpu_external_free gpu_mem_limit has_user_compute_stream prefer_nhwc
    sdpa_kernel tunable_op_enable tunable_op_max_tuning_duration_ms tunable_op_tuning_enable
    use_ep_level_unified_stream use_tf32 user_compute_stream
""".split()  # noqa: SIM905
# The words of its library that begin with trt_, and device_id.
TENSORRT_OPTIONS = """
    device_id trt_auxiliary_streams trt_bf16_enable trt_build_heuristics_enable trt_builder_optimization_level
    trt_context_memory_sharing_enable trt_cuda_graph_enable trt_detailed_build_log trt_dla_core trt_dla_enable
    trt_dump_ep_context_model trt_dump_subgraphs trt_engine_cache_enable trt_engine_cache_path
    trt_engine_cache_prefix trt_engine_decryption_enable trt_engine_decryption_lib_path trt_engine_hw_compatible
    trt_ep_context_embed_mode trt_ep_context_file_path trt_extra_plugin_lib_paths trt_force_sequential_engine_build
    trt_force_timing_cache trt_fp16_enable trt_int8_calibration_table_name trt_int8_enable
    trt_int8_use_native_calibration_table trt_layer_norm_fp32_fallback trt_max_partition_iterations
    trt_max_workspace_size trt_min_subgraph_size trt_op_types_to_exclude trt_profile_max_shapes
    trt_profile_min_shapes trt_profile_opt_shapes trt_sparsity_enable trt_tactic_sources trt_timing_cache_enable
    trt_timing_cache_path trt_weight_stripped_engine_enable
""".split()  # noqa: SIM905
# From the metadata of its wheel, and of torch 2.13.0 for CUDA, with the cuda-toolkit 13.0.3 that it wants.
GPU_REQUIREMENTS = [
    "nvidia-cuda-nvrtc~=13.0", "nvidia-cuda-runtime~=13.0", "nvidia-cufft~=12.0", "nvidia-curand~=10.0",
    "nvidia-cudnn-cu13~=9.0",
]  # fmt: skip
TORCH_REQUIREMENTS = [
    "nvidia-cublas==13.1.1.3.*", "nvidia-cuda-nvrtc==13.0.88.*", "nvidia-cuda-runtime==13.0.96.*",
    "nvidia-cudnn-cu13==9.20.0.48", "nvidia-cufft==12.0.0.61.*", "nvidia-curand==10.4.0.35.*",
    "nvidia-nvjitlink<14,>=13.0.88",
]  # fmt: skip
TEXTS = InputShapes("token_ids", (1, 2), (32, 16), (128, 77))
LIBRARIES = Path(ort.__file__).parent / "capi"
of_the_gpu_build = pytest.mark.skipif(
    PROVIDERS["cuda"] not in ort.get_available_providers(), reason="this onnxruntime has no CUDA: make test-gpu-build"
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, set[str]]:
    """The names of all options that we set, by provider."""
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))
    monkeypatch.setattr(tensorrt, "find_gpu", lambda *_: Gpu(0, "NVIDIA L4", (8, 9), 24 * 2**30))
    return {
        key: {
            name
            for precision in ("fp32", "fp16", "bf16", "int8")
            for name in options(key, precision, "digest", 2, Device(1, 2**30), TEXTS)
        }
        for key in ("cuda", "tensorrt")
    }


def test_every_option_is_one_that_the_provider_knows(given: dict[str, set[str]]) -> None:
    assert len(given["cuda"]) >= 6
    assert not given["cuda"] - set(CUDA_OPTIONS)
    assert len(given["tensorrt"]) >= 10
    assert not given["tensorrt"] - set(TENSORRT_OPTIONS)


def test_what_the_extra_brings_is_pinned_to_what_both_onnxruntime_and_torch_accept() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(each.name): each.specifier for each in map(Requirement, lines)}
    assert str(pins["onnxruntime-gpu"]) == f"=={VERSION}"
    for requirement in map(Requirement, (*GPU_REQUIREMENTS, *TORCH_REQUIREMENTS)):
        [pin] = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(Version(pin.version)), requirement
    nvidia = {name for name in pins if name.startswith("nvidia-")}
    assert nvidia == {canonicalize_name(Requirement(each).name) for each in TORCH_REQUIREMENTS}


@of_the_gpu_build
def test_the_wheel_is_the_one_that_is_pinned() -> None:
    assert ort.__version__ == VERSION
    assert VERSION.startswith(cuda.KNOWN_BUILD)
    assert cuda.cuda_major() == 13
    wanted = map(Requirement, importlib.metadata.requires("onnxruntime-gpu") or [])
    nvidia = {f"{each.name}{each.specifier}" for each in wanted if each.name.startswith("nvidia-")}
    assert nvidia == set(GPU_REQUIREMENTS)


@of_the_gpu_build
def test_tensorrts_library_knows_the_options() -> None:
    content = (LIBRARIES / "libonnxruntime_providers_tensorrt.so").read_bytes()
    words = {word.decode() for word in re.findall(rb"\0(trt_[a-z0-9_]+|device_id)(?=\0)", content)}
    assert set(TENSORRT_OPTIONS) <= words


@of_the_gpu_build
def test_for_which_gpus_it_was_compiled() -> None:
    content = (LIBRARIES / "libonnxruntime_providers_cuda.so").read_bytes()
    [found] = set(re.findall(rb"THRUST_\d+_SM_([0-9_]+?)_NS", content))
    architectures = [int(number) for number in found.split(b"_")]
    assert [(number // 100, number // 10 % 10) for number in architectures] == list(cuda.COMPILED_FOR)


@of_the_gpu_build
def test_which_libraries_it_is_linked_to() -> None:
    def wanted(provider: str) -> set[str]:
        path = LIBRARIES / f"libonnxruntime_providers_{provider}.so"
        listed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\[(lib(?:cu|nv)\w+\.so\.\d+)\]", listed))

    libraries = {name.format(13) for name in cuda.CUDA_LIBRARIES}
    assert wanted("cuda") == libraries - {"libcudnn.so.9"} | {"libcuda.so.1"}
    assert b"libcudnn" in (LIBRARIES / "libonnxruntime_providers_cuda.so").read_bytes(), "it is not opened by name"
    assert "libcudnn.so.9" in wanted("tensorrt")
    assert wanted("tensorrt") - libraries == set(cuda.TENSORRT_LIBRARIES)


PROGRAM = """
import json, sys
import onnxruntime as ort
from model.bundle import Bundle, bundled
from model.manifest import IMAGE_GRAPH, WEIGHTS
from model.runtime.engine import Engine
bundle = Bundle.load(bundled())
weights, graph = bundle.read(WEIGHTS), bundle.read(IMAGE_GRAPH)
errors = {}
for name in sys.argv[1:]:
    given = ort.SessionOptions()
    given.log_severity_level = 4
    given.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    try:
        ort.InferenceSession(graph, given, providers=[("CUDAExecutionProvider", {name: "1"})], enable_fallback=0)
    except Exception as error:
        errors[name] = str(error)
engine = Engine(bundle, "auto")
engine.warm_up()
print(json.dumps({"errors": errors, "provider": engine.provider, "problem": engine.problem}))
"""


def child(libraries: Path | None, *names: str) -> dict[str, object]:
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if libraries is not None:
        variables["LD_LIBRARY_PATH"] = str(libraries)
    command = [sys.executable, "-c", PROGRAM, *names]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@of_the_gpu_build
def test_cudas_library_knows_the_options(tmp_path: Path) -> None:
    """It refuses one that it does not know; the others bring it to CUDA, of which it finds a stand-in that fails."""
    compile_libraries(tmp_path, LIBRARIES / "libonnxruntime_providers_cuda.so")
    answer = child(tmp_path, "nonsense", *CUDA_OPTIONS)
    errors: dict[str, str] = answer["errors"]  # type: ignore[assignment]
    refused = {name for name, error in errors.items() if "Unknown provider option" in error}
    assert refused == {"nonsense"}
    assert set(errors) >= {"nonsense", *CUDA_OPTIONS} - {"device_id"}
    assert answer["provider"] == PROVIDERS["cpu"]
    assert "the NVIDIA driver is older" in str(answer["problem"])


@of_the_gpu_build
def test_without_a_driver_auto_tells_it() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a driver here")
    answer = child(None)
    assert answer["provider"] == PROVIDERS["cpu"]
    assert "no NVIDIA driver: libcuda.so.1" in str(answer["problem"])
