"""Stand-ins for the libraries of NVIDIA that onnxruntime-gpu wants, so that it opens sessions where no GPU is.

Every function is there, says that it went well and computes nothing; what allocates or copies does so in the memory of
the host. Which nodes go to which provider, and which options a provider knows, is then what onnxruntime itself says. A
run gives zeros.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import onnxruntime as ort

CAPI = Path(ort.__file__).parent / "capi"
PROVIDERS = [CAPI / f"libonnxruntime_providers_{name}.so" for name in ("cuda", "tensorrt")]
# Opened when they are called, or named without a version in what wants them.
UNVERSIONED = {
    "cuTensorMapEncodeTiled": "libcuda.so.1",
    "createInfer": "libnvinfer.so.10",
    "getInferLibVersion": "libnvinfer.so.10",
    "getPluginRegistry": "libnvinfer.so.10",
    "createNvOnnxParser": "libnvonnxparser.so.10",
}
COMPUTE_CAPABILITY = 9  # of an H100
WRITTEN_OUT = {
    "cudaGetDeviceCount": "int f(int *count) { *count = 1; return 0; }",
    "cudaGetDevice": "int f(int *device) { *device = 0; return 0; }",
    # The name is the first field, the memory the 36th word, the compute capability the 45th.
    "cudaGetDeviceProperties": "int f(long *all) { memset(all, 0, 1008); strcpy((char *)all, \"a stand-in\"); "
    f"all[36] = 1l << 34; all[45] = {COMPUTE_CAPABILITY}; return 0; }}",
    # Attributes 75 and 76 are the compute capability; of the others, which are switches and counts, each is 1.
    "cudaDeviceGetAttribute": "int f(int *value, int which) "
    f"{{ *value = which == 75 ? {COMPUTE_CAPABILITY} : which != 76; return 0; }}",
    "cudaMemGetInfo": "int f(long *free, long *total) { *free = *total = 1l << 34; return 0; }",
    "cudaRuntimeGetVersion": "int f(int *version) { *version = 13000; return 0; }",
    "cudaDriverGetVersion": "int f(int *version) { *version = 13000; return 0; }",
    "cudaMalloc": "int f(void **at, long bytes) { *at = calloc(bytes + 1, 1); return 0; }",
    "cudaMallocHost": "int f(void **at, long bytes) { *at = calloc(bytes + 1, 1); return 0; }",
    "cudaHostAlloc": "int f(void **at, long bytes) { *at = calloc(bytes + 1, 1); return 0; }",
    "cudaFree": "int f(void *at) { free(at); return 0; }",
    "cudaFreeHost": "int f(void *at) { free(at); return 0; }",
    "cudaMemcpy": "int f(void *to, void *from, long bytes) { memcpy(to, from, bytes); return 0; }",
    "cudaMemcpyAsync": "int f(void *to, void *from, long bytes) { memcpy(to, from, bytes); return 0; }",
    "cudaMemset": "int f(void *at, int value, long bytes) { memset(at, value, bytes); return 0; }",
    "cudaMemsetAsync": "int f(void *at, int value, long bytes) { memset(at, value, bytes); return 0; }",
    "__cudaRegisterFatBinary": "void *f(void *binary) { static void *handle; return &handle; }",
    "getInferLibVersion": "int f(void) { return 101400; }",
}  # fmt: skip


def load(folder: Path) -> None:
    """Compile the stand-ins into a folder and load them: the provider's library then finds them by their names."""
    for library in build(folder):
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def build(folder: Path) -> list[Path]:
    """Compile a library with every function that the providers' libraries want of it."""
    functions = _wanted()
    return [_compile(folder, library, sorted(names)) for library, names in sorted(functions.items())]


def _wanted() -> dict[str, set[str]]:
    """Names of functions by the library that they are looked for in; some libraries need only be there."""
    wanted: dict[str, set[str]] = {}
    for provider in PROVIDERS:
        dynamic = _readelf("-d", provider)
        for library in re.findall(r"\[(lib(?:cu|nv)[^]]+)]", dynamic):
            wanted.setdefault(library, set())
        for name, library in re.findall(r" UND (\w+)@?(lib(?:cu|nv)\S+)?", _readelf("--dyn-syms", provider)):
            found = library or next((there for start, there in UNVERSIONED.items() if name.startswith(start)), None)
            if found:
                wanted.setdefault(found, set()).add(name)
    return wanted


def _readelf(what: str, library: Path) -> str:
    return subprocess.run(["readelf", "-W", what, library], check=True, capture_output=True, text=True).stdout


def _compile(folder: Path, library: str, names: list[str]) -> Path:
    source, versions, output = folder / f"{library}.c", folder / f"{library}.map", folder / library
    source.write_text("\n".join(["#include <stdlib.h>", "#include <string.h>", *map(_function, names)]))
    versions.write_text(f"{library} {{ global: *; }};\n")
    script = [f"-Wl,--version-script={versions}"] if not library.startswith(("libcuda.", "libnv")) else []
    command = ["gcc", "-w", "-shared", "-fPIC", "-o", output, source, f"-Wl,-soname,{library}", *script]
    subprocess.run(command, check=True)
    return output


def _function(name: str) -> str:
    if body := WRITTEN_OUT.get(name):
        return body.replace(" f(", f" {name}(").replace("*f(", f"*{name}(")
    if name.endswith(("Name", "String")):
        return f'const char *{name}(void) {{ return "a stand-in"; }}'
    if re.search(r"Create(WithFlags|_v2)?$", name):
        return f"int {name}(void **handle) {{ *handle = handle; return 0; }}"
    return f"int {name}(void) {{ return 0; }}"
