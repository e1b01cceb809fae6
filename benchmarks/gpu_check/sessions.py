"""Bare sessions of onnxruntime for the sections: one tower on the device, with the options of the provider changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.inputs import sentences
from benchmarks.speed.bare import GRAPHS
from model.bundle import Bundle
from model.manifest import WEIGHTS
from model.runtime.engine import Engine
from model.runtime.processor import usable_cores

Run = Callable[[], object]


def open_session(bundle: Bundle, tower: str, provider: str, record_placement: bool = False, **changes: str) -> Any:
    """A session as the engine opens one, but for `changes` of the options of its provider, the first of several."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = usable_cores(), 1
    chosen.enable_mem_pattern = False
    chosen.log_severity_level = 3
    if record_placement:
        chosen.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    weights = bundle.read(WEIGHTS)
    chosen.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    (first, its), *others = _providers(bundle.path, provider)
    session = ort.InferenceSession(bundle.read(GRAPHS[tower][0]), chosen, providers=[(first, its | changes), *others])
    if (active := session.get_providers()[0]) != first:
        raise RuntimeError(f"{first} was asked for with {changes}, and {active} runs the {tower} tower")
    return session


@cache
def _providers(path: Path, provider: str) -> list[tuple[str, dict[str, str]]]:
    """With which options the engine opens its providers, in their order: onnxruntime tells, and takes them again."""
    session = Engine(Bundle.load(path), provider).image_session.session
    given = session.get_provider_options()
    return [(name, given[name]) for name in session.get_providers()]


def inputs(bundle: Bundle, tower: str, count: int) -> NDArray[Any]:
    """Random pixels [count, size, size, 3], or the token ids of texts of about ten words."""
    if tower == "image":
        shape = (count, bundle.image_size, bundle.image_size, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tokenizer = bundle.tokenizer()
    return tokenizer.pad(tokenizer.encode(sentences(count)))


def plain(session: Any, tower: str, value: NDArray[Any]) -> Run:
    """A run with arrays of pageable memory, which onnxruntime copies."""
    return lambda: session.run(None, {GRAPHS[tower][1]: value})


def resident(session: Any, tower: str, value: NDArray[Any], device: str, run_options: Any = None) -> Run:
    """A run with input and output held in the memory of the device: nothing but the kernels is left.

    It is also what a CUDA graph needs: the same addresses in each run.
    """
    binding = session.io_binding()
    held = ort.OrtValue.ortvalue_from_numpy(value, device, 0)
    dimensions = session.get_outputs()[0].shape[1]
    output = ort.OrtValue.ortvalue_from_shape_and_type([len(value), dimensions], np.float32, device, 0)
    binding.bind_ortvalue_input(GRAPHS[tower][1], held)
    binding.bind_ortvalue_output("embeddings", output)

    def run() -> NDArray[np.float32]:
        binding.synchronize_inputs()
        session.run_with_iobinding(binding, run_options)
        binding.synchronize_outputs()
        vectors: NDArray[np.float32] = output.numpy()
        return vectors

    return run


def first_ms(run: Run) -> float:
    """Milliseconds of a run of a shape that was not run before."""
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)
