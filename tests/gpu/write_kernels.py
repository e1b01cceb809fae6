"""Write the kernels that onnxruntime-gpu registers for CUDA into cuda_kernels.json: `make cuda-kernels`.

They are asked of the library itself, which needs no GPU to say them, but libraries of NVIDIA: stand-ins do.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from tests.gpu import nvidia_stand_ins

FILE = Path(__file__).parent / "cuda_kernels.json"
OPSETS = {"": 20, "com.microsoft": 1}  # of our graphs; kernels of others are left out


def table() -> dict[str, list[dict[str, list[str]]]]:
    """By operator, with its domain before it: types by parameter, of each kernel that CUDA has for that opset.

    Kernels that differ in the type of their only parameter are one.
    """
    found: dict[str, list[dict[str, list[str]]]] = {}
    for kernel in state.get_all_opkernel_def():
        first, last = kernel.version_range
        opset = OPSETS.get(kernel.domain, -1)
        if kernel.provider == "CUDAExecutionProvider" and first <= opset <= last:
            types = {name: sorted(map(_short, kinds)) for name, kinds in kernel.type_constraints.items()}
            found.setdefault(f"{kernel.domain}.{kernel.op_name}".removeprefix("."), []).append(types)
    return {operator: _merged(found[operator]) for operator in sorted(found)}


def _short(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")")


def _merged(kernels: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    names = {name for kernel in kernels for name in kernel}
    if len(names) != 1 or not all(kernels):
        return [kernel for index, kernel in enumerate(kernels) if kernel not in kernels[:index]]
    [name] = names
    return [{name: sorted({kind for kernel in kernels for kind in kernel[name]})}]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nvidia_stand_ins.load(Path(folder))
        found = table()
    lines = [f"  {json.dumps(operator)}: {json.dumps(kernels)}" for operator, kernels in found.items()]
    source = f"onnxruntime-gpu {ort.__version__}, get_all_opkernel_def()"
    start = f'{{"source": {json.dumps(source)}, "opsets": {json.dumps(OPSETS)}, "kernels": {{'
    FILE.write_text("\n".join([start, ",\n".join(lines), "}}", ""]))


if __name__ == "__main__":
    main()
