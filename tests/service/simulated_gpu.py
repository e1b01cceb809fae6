"""A device with a GPU's habits, and an engine on it: the real warm-up, batcher, admission and supervisor run them.

Time is slept, on no core: what takes the device's time takes none of the machine's. Vectors are cheap, each depends on
its own item alone; nothing here shows what a GPU computes.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from model.bundle import Bundle
from model.manifest import WEIGHTS
from model.runtime.device_memory import DeviceMemory
from model.runtime.engine import Engine
from model.runtime.providers import PROVIDERS, EngineError

# As onnxruntime says it: its arena, CUDA's own, and the libraries on it.
NO_MEMORY = {
    "arena": RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
        "Name:'/patches/Conv' Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal("
        "size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 805306368\n"
    ),
    "limit": RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
        "Name:'/patches/Conv' Status Message: Available memory of 52428800 is smaller than requested bytes of 805306368"
    ),
    "cuda": Fail(
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=gpu ; file=cuda_allocator.cc "
        "; line=47 ; expr=cudaMalloc((void**)&p, size); "
    ),
    "cublas": Fail(
        "[ONNXRuntimeError] : 1 : FAIL : CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=gpu ; "
        "file=cuda_execution_provider.cc ; line=183 ; expr=cublasCreate(&cublas_handle_); "
    ),
}
LOST = Fail(
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=gpu"
)


class SimulatedRun(NamedTuple):
    """One run of a tower: the shape of its input, and whether the device met it for the first time."""

    tower: str
    shape: tuple[int, ...]
    cold: bool


class AssignedNode(NamedTuple):
    """As onnxruntime's OrtEpAssignedNode."""

    domain: str
    name: str
    op_type: str


@dataclass
class AssignedSubgraph:
    """As onnxruntime's OrtEpAssignedSubgraph."""

    ep_name: str
    nodes: Sequence[AssignedNode]

    def get_nodes(self) -> list[AssignedNode]:
        return list(self.nodes)


@dataclass
class SimulatedGpu:
    """The device, with the habits that a test sets; bytes are what engines on it hold."""

    plan_s: float = 0.03  # more for the first run of a shape: algorithms are chosen, plans are built
    latency_s: float = 0.001  # of any run, however small
    item_s: Mapping[str, float] = field(default_factory=lambda: {"image": 100e-6, "text": 20e-6})
    largest: Mapping[str, int] = field(default_factory=dict)  # items by tower, beyond which memory runs out
    no_memory: str = "arena"  # which of NO_MEMORY is raised
    fallback_nodes: Sequence[str] = ()  # types of operators that run on the CPU
    fallback_s: float = 0.0005  # each: a copy there, a wait, and a copy back
    total_bytes: int = 16 * 10**9
    taken_bytes: int = 0  # by other processes
    working_bytes: int = 100_000_000  # of an engine, beside its weights
    lost: bool = False  # every run fails
    hangs: bool = False  # no run comes back
    sleep: Callable[[float], None] = time.sleep
    runs: list[SimulatedRun] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)  # by engine
    busy: threading.Lock = field(default_factory=threading.Lock)  # one run at a time

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.taken_bytes - sum(self.held.values())

    def memory(self, device: int = 0) -> DeviceMemory:
        """As `read_device_memory`."""
        return DeviceMemory(self.total_bytes, self.free_bytes)

    def cold_runs(self, since: int = 0) -> list[SimulatedRun]:
        """Those that met a shape for the first time, from the run of that number on."""
        return [run for run in self.runs[since:] if run.cold]

    def run(self, tower: str, shape: tuple[int, ...], known: set[tuple[str, tuple[int, ...]]]) -> None:
        """Take the time of one run; `known` are the shapes that the engine has met. Raises what onnxruntime does."""
        if self.hangs:
            threading.Event().wait()
        if self.lost:
            raise LOST
        with self.busy:
            if shape[0] > self.largest.get(tower, shape[0]):
                raise NO_MEMORY[self.no_memory]
            cold = (tower, shape) not in known
            known.add((tower, shape))
            self.runs.append(SimulatedRun(tower, shape, cold))
            fallback_s = self.fallback_s * len(self.fallback_nodes)
            self.sleep(cold * self.plan_s + self.latency_s + fallback_s + shape[0] * self.item_s[tower])

    def assignment_info(self) -> list[AssignedSubgraph]:
        """As `InferenceSession.get_provider_graph_assignment_info`."""
        on_gpu = AssignedSubgraph(PROVIDERS["cuda"], [AssignedNode("", "/MatMul", "MatMul")])
        fallen_back = [AssignedNode("", f"/{kind}", kind) for kind in self.fallback_nodes]
        return [on_gpu, *([AssignedSubgraph(PROVIDERS["cpu"], fallen_back)] if fallen_back else [])]


class Clock:
    """A clock of its own for a device: seconds pass where it sleeps, and nowhere else."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now


class SimulatedEngine(Engine):
    """An engine on `gpu`, of the class: `on` makes one for a device. Its graphs are opened on the CPU, and not run."""

    simulated: SimulatedGpu

    @classmethod
    def on(cls, gpu: SimulatedGpu) -> type[SimulatedEngine]:
        """A class whose engines are on that device."""
        return type("SimulatedEngine", (cls,), {"simulated": gpu})

    def __init__(self, bundle: Bundle, *_: Any, **__: Any) -> None:
        """Whatever provider, device and limits are asked for. Raises EngineError where the weights do not fit."""
        needed = bundle.manifest.files[WEIGHTS].bytes + self.simulated.working_bytes
        if needed > self.simulated.free_bytes:
            raise EngineError(f"{bundle.path} cannot be opened: {NO_MEMORY['cuda']}")
        super().__init__(bundle, "cpu")
        self.simulated.held[id(self)] = needed
        self._release = weakref.finalize(self, self.simulated.held.pop, id(self))
        self.provider = PROVIDERS["cuda"]
        self._known: set[tuple[str, tuple[int, ...]]] = set()

    def close(self) -> None:
        super().close()
        self._release()

    def embed_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.simulated.run("image", pixels.shape, self._known)
        return unit_vectors(pixels, self._bundle.dimensions)

    def embed_texts(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.simulated.run("text", token_ids.shape, self._known)
        return unit_vectors(token_ids, self._bundle.dimensions)


def unit_vectors(rows: NDArray[Any], dimensions: int) -> NDArray[np.float32]:
    """[batch, ...] -> [batch, dimensions], of unit length; zeros at the end of a row change nothing."""
    flat = rows.reshape(len(rows), -1)
    sums = flat.astype(np.float64) @ np.sqrt(np.arange(1, flat.shape[1] + 1))
    angles = (sums[:, None] % 1000.0) * np.arange(1, dimensions + 1)
    vectors = np.cos(angles) + 0.1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
