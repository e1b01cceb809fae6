"""Stand-ins, compiled from C, for NVIDIA's driver and libraries, on machines without a GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_driver.c")
NAME = "libcuda.so.1"


def compile_driver(folder: Path) -> Path:
    """Compile it into `folder`, or skip the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here for the fake driver")
    library = folder / NAME
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=120)
    return library


# What each function of a stand-in returns: CUDA's error 35, of a driver that is too old.
_CODE, _ERROR = 35, "CUDA driver version is insufficient for CUDA runtime version"
_TEXTS = ("cudaGetErrorString", "cudaGetErrorName", "cublasGetStatusString")


def compile_libraries(folder: Path, provider: Path) -> None:
    """Compile stand-ins for the driver and for all of NVIDIA's libraries that a provider of onnxruntime is linked to.

    With `folder` in LD_LIBRARY_PATH, the provider's own library is loaded, reads its options, and fails at CUDA.
    """
    compile_driver(folder)
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm here, to read which functions the stand-ins must have")
    listed = subprocess.run([nm, "-D", "--undefined-only", provider], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1].partition("@") for line in listed.splitlines()]
    linked = {library for _, _, library in symbols if library.startswith("libcu")}
    # Of the one nothing is taken, and the other is opened by name: both are asked for all the same.
    for library in linked | {"libcurand.so.10", "libcudnn.so.9"}:
        _compile_library(folder, library, sorted({name for name, _, of in symbols if of == library}))


def _compile_library(folder: Path, library: str, names: Iterable[str]) -> None:
    source, versions = folder / f"{library}.c", folder / f"{library}.map"
    source.write_text("".join(map(_function, names)))
    versions.write_text(f"{library} {{ global: *; }};\n")
    command = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", f"-Wl,-soname,{library}"]
    command += [f"-Wl,--version-script={versions}", "-o", str(folder / library), str(source)]
    subprocess.run(command, check=True, timeout=120)


def _function(name: str) -> str:
    if name in _TEXTS:
        return f'const char *{name}(void) {{ return "{_ERROR}"; }}\n'
    if name == "__cudaRegisterFatBinary":  # returns a handle, and the library is told nothing of a failure
        return f"void *{name}(void) {{ static char handle[64]; return handle; }}\n"
    return f"long {name}(void) {{ return {_CODE}; }}\n"
