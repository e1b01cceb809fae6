"""The graphs of a bundle as onnxruntime runs them on this CPU: optimized, their weights packed, and mapped from files.

What a kernel makes of its weights depends on onnxruntime's version and on the processor: such files are for the
processes of one service, and for nobody later. Weights that a process packs by itself are its own; those that it maps
are in memory once for all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.bundle import Bundle
from model.manifest import IMAGE_GRAPH, MIXTURE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.runtime.processor import cpu_info
from model.runtime.providers import PROVIDERS
from model.runtime.session import session_options
from model.runtime.shared_weights import HeldFiles, SharedWeights, SharedWeightsError

CPU = [PROVIDERS["cpu"]]
# In the files they are as they are and packed, in what they are computed in: fp16 and bf16 mostly in fp32.
BYTES_FOR_BYTES = {"float32": 2.2, "float16": 4.4, "bfloat16": 4.4, "int8": 2.2}
LEAST_BYTES = 1024  # of weights; smaller ones stay in the graph


def hold_mapped(bundle: Bundle, shared: SharedWeights) -> HeldFiles:
    """The files of its graphs; written, and tried, where no process has done so. Raises SharedWeightsError."""
    needed = round(BYTES_FOR_BYTES[bundle.manifest.weights_dtype] * bundle.manifest.files[WEIGHTS].bytes)
    return shared.hold(_key(bundle), needed, lambda folder: _write(bundle, folder))


def open_mapped(files: HeldFiles, graph: FileName, threads: int) -> Any:
    """A session of one of the graphs, whose weights are the pages of the file."""
    options = session_options(threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was, when it was written
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(files.folder))
    return ort.InferenceSession(files.read(graph), options, providers=CPU, enable_fallback=0)


def _key(bundle: Bundle) -> str:
    flags = [value for name, value in cpu_info().items() if name in ("flags", "Features")]  # of x86, of ARM
    return hashlib.sha256(f"{bundle.digest} {ort.__version__} {flags}".encode()).hexdigest()


def _write(bundle: Bundle, folder: Path) -> None:
    weights = bundle.read(WEIGHTS)
    graphs: list[FileName] = [IMAGE_GRAPH, TEXT_GRAPH, *([MIXTURE_GRAPH] if bundle.mixture else ())]
    for graph in graphs:
        try:
            _write_graph(bundle.read(graph), weights, folder, graph)
        except SharedWeightsError:
            raise
        except Exception as error:  # onnxruntime raises a dozen unrelated classes, and for a full disk, too
            raise SharedWeightsError(f"onnxruntime did not write {graph}: {error}") from error


def _write_graph(content: bytes, weights: bytes, folder: Path, graph: FileName) -> None:
    """Write one, and see that it computes what the original does, to the last bit. Raises SharedWeightsError."""
    options = session_options(1)
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    options.optimized_model_filepath = str(folder / graph)
    entries = {
        "session.optimized_model_external_initializers_file_name": f"{graph}.weights",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(LEAST_BYTES),
        "session.save_external_prepacked_constant_initializers": "1",
    }
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(content, options, providers=CPU, enable_fallback=0)
    feeds = _some_inputs(session)
    expected = session.run(None, feeds)[0].tobytes()
    del session
    mapping = session_options(1)
    mapping.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    mapped = ort.InferenceSession(str(folder / graph), mapping, providers=CPU, enable_fallback=0)
    if mapped.run(None, feeds)[0].tobytes() != expected:
        raise SharedWeightsError(f"{graph} computes something else once it is written")


def _some_inputs(session: Any) -> dict[str, npt.NDArray[Any]]:
    """Inputs of two items each; of a text, two ids, or as many as it has to have."""
    rng = np.random.default_rng(0)
    feeds: dict[str, npt.NDArray[Any]] = {}
    for each in session.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in each.shape]
        if "float" in each.type:
            feeds[each.name] = rng.standard_normal(shape, np.float32)
        else:
            is_ids = "int64" in each.type
            feeds[each.name] = rng.integers(0, 2 if is_ids else 256, shape, np.int64 if is_ids else np.uint8)
    return feeds
