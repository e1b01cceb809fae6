"""The engine: two onnxruntime sessions, one per tower, on the device that was asked for and no other."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.bundle import Bundle
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.runtime.providers import (
    INSTALL,
    NVIDIA,
    PROVIDERS,
    EngineError,
    choose,
    computation,
    load_cuda_libraries,
    options,
)

__all__ = ["Engine", "EngineError", "trim_heap", "usable_cores"]
OUTPUTS = ["embeddings"]
# Raised when the same picture becomes other pixels than before, by our code or by Pillow's, so that vectors that were
# kept of those before are not used any more. tests/model/test_vectors_version.py notices.
PIXELS_VERSION = 1


class Engine:
    """Embeds pixels and token ids. Thread-safe: onnxruntime sessions may be run from several threads."""

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None) -> None:
        """Open both graphs of `bundle`.

        `provider` is auto, cpu, cuda, tensorrt or openvino; `threads` is how many cores one run may use, by default all
        that the process has. Raises EngineError when the provider is not active: onnxruntime falls back in silence.
        """
        self._bundle = bundle
        threads = threads or usable_cores()
        providers = [
            (PROVIDERS[key], options(key, bundle.precision, bundle.digest, threads)) for key in choose(provider)
        ]
        if any(name in NVIDIA for name, _ in providers):
            load_cuda_libraries()
        weights = bundle.read(WEIGHTS)
        image = _open(bundle, IMAGE_GRAPH, weights, _session_options(threads), providers)
        text = _open(bundle, TEXT_GRAPH, weights, _session_options(threads), providers)
        self.image_session, self.text_session = (
            TowerSession(image, "pixels", threads),
            TowerSession(text, "token_ids", threads),
        )
        del weights
        trim_heap()
        self.provider = self.image_session.provider
        self._require(provider)
        computations = (
            computation(session.provider, bundle.precision) for session in (self.image_session, self.text_session)
        )
        # What vectors depend on beside the bundle: kept ones are used only where digest and this are the same.
        self.vectors_id = f"{'-'.join(dict.fromkeys(computations))}-{PIXELS_VERSION}"

    def embed_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Pixels [batch, size, size, 3], uint8 -> embeddings [batch, dimensions], of unit length."""
        return self.image_session.run(pixels)

    def embed_texts(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids [batch, length <= context], padded with 0 -> embeddings [batch, dimensions], of unit length."""
        return self.text_session.run(token_ids)

    def warm_up(self) -> None:
        """Run each tower once, so that the first request does not pay for allocation and kernel choice.

        Raises EngineError if a tower does not take what the manifest says, or gives something else.
        """
        size, dimensions = self._bundle.image_size, self._bundle.dimensions
        ids = np.zeros((1, self._bundle.row_length(2)), np.int64)
        ids[:, -1] = self._bundle.manifest.config.text.vocab_size - 1
        try:
            vectors = {
                IMAGE_GRAPH: self.embed_images(np.zeros((1, size, size, 3), np.uint8)),
                TEXT_GRAPH: self.embed_texts(ids),
            }
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise EngineError(f"{self._bundle.path} does not run as its manifest says: {error}") from error
        for graph, vector in vectors.items():
            if vector.shape != (1, dimensions) or not np.isfinite(vector).all():
                raise EngineError(f"{graph} gives {vector.shape}, not a finite vector of {dimensions} dimensions")

    def _require(self, provider: str) -> None:
        if provider == "auto":
            return
        expected = PROVIDERS[provider]
        for session in (self.image_session, self.text_session):
            if session.provider != expected:
                raise EngineError(f"{expected} was asked for but is not active: {INSTALL[provider]}")


class TowerSession:
    """One graph, to be run from several threads at once, and yet never on more threads than it was opened with.

    The first run is done by its caller, with the session's own threads as helpers; one beside it is done by a helper
    instead of its caller. With more threads than cores, each step would end with all others spinning until the one that
    was interrupted comes back.
    """

    def __init__(self, session: Any, input_name: str, threads: int) -> None:
        self.provider: str = session.get_providers()[0]
        self.session, self._input_name = session, input_name
        self._has_pool = threads > 1 and self.provider == PROVIDERS["cpu"]
        self.lock = threading.Lock()

    def run(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one input [batch, ...] -> embeddings [batch, dimensions]."""
        if self.provider in NVIDIA:
            return run_bound(self.session, self._input_name, value, "cuda")
        is_first = self.lock.acquire(blocking=False)
        try:
            return self._run_in_caller(value) if is_first or not self._has_pool else self._run_in_pool(value)
        finally:
            if is_first:
                self.lock.release()

    def _run_in_caller(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = self.session.run(OUTPUTS, {self._input_name: value})[0]
        return embeddings

    def _run_in_pool(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        done: Future[npt.NDArray[np.float32]] = Future()

        def finished(outputs: Any, _: None, error: str) -> None:
            if error:
                done.set_exception(RuntimeError(error))
            else:
                done.set_result(outputs[0])

        feed = {self._input_name: value}  # held until it is done, as is `finished`: onnxruntime does not
        self.session.run_async(OUTPUTS, feed, finished, None)
        error = done.exception()
        if error is not None:  # it itself would lead to this frame and back, and to the batch
            raise RuntimeError(str(error))
        return done.result()


def _session_options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Memory patterns are kept per input shape and grow with every new batch size (onnxruntime#11118).
    options.enable_mem_pattern = False
    # A step ends with its slowest thread: in several small parts, one that was interrupted holds up less.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Spinning idle threads would take the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open(bundle: Bundle, graph: FileName, weights: bytes, options: Any, providers: Sequence[Any]) -> Any:
    # Handed over in memory, external data can come from the verified weights and from no other file.
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    content = bundle.read(graph)
    try:
        return ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise EngineError(f"{bundle.path / graph} cannot be opened: {error}") from error


def run_bound(session: Any, name: str, value: npt.NDArray[Any], device: str) -> npt.NDArray[np.float32]:
    """Run with input and output in the memory of `device`, "cuda" or "cpu": each is copied once."""
    binding = session.io_binding()  # one for each run: several threads may be here
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), device, 0))
    binding.bind_output("embeddings", device)
    session.run_with_iobinding(binding)
    embeddings: npt.NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
    return embeddings


def trim_heap() -> None:
    """Return freed memory to the system; of what opening a model takes for a moment, glibc would keep part."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
