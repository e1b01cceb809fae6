"""The engine: two onnxruntime sessions, one per tower, on the device that was asked for and no other."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.bundle import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS, Bundle, FileName
from model.providers import INSTALL, NVIDIA, PROVIDERS, EngineError, choose, options

__all__ = ["Engine", "EngineError", "usable_cores"]


class Engine:
    """Embeds pixels and token ids. Thread-safe: onnxruntime sessions may be run from several threads."""

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None) -> None:
        """Open both graphs of `bundle`.

        `provider` is auto, cpu, cuda, tensorrt or openvino; `threads` is how many cores one run may use, by default all
        that the process has. Raises EngineError when the provider is not active: onnxruntime falls back in silence.
        """
        self._bundle = bundle
        providers = [(PROVIDERS[key], options(key, bundle.precision, bundle.digest)) for key in choose(provider)]
        weights = bundle.read(WEIGHTS)
        self._image = _open(bundle, IMAGE_GRAPH, weights, _session_options(threads), providers)
        self._text = _open(bundle, TEXT_GRAPH, weights, _session_options(threads), providers)
        del weights
        _give_back_freed_memory()
        self.provider: str = self._image.get_providers()[0]
        self._insist(provider)

    def embed_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Pixels [batch, size, size, 3], uint8 -> embeddings [batch, dimensions], of unit length."""
        return self._run(self._image, "pixels", pixels)

    def embed_texts(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids [batch, length <= context], padded with 0 -> embeddings [batch, dimensions], of unit length."""
        return self._run(self._text, "token_ids", token_ids)

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

    def _run(self, session: Any, name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if self.provider in NVIDIA:
            return run_bound(session, name, value, "cuda")
        embeddings: npt.NDArray[np.float32] = session.run(None, {name: value})[0]
        return embeddings

    def _insist(self, asked: str) -> None:
        if asked == "auto":
            return
        expected = PROVIDERS[asked]
        for session in (self._image, self._text):
            if session.get_providers()[0] != expected:
                raise EngineError(f"{expected} was asked for but is not active: {INSTALL[asked]}")


def _session_options(threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    # Memory patterns are kept per input shape and grow with every new batch size (onnxruntime#11118).
    options.enable_mem_pattern = False
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


def _give_back_freed_memory() -> None:
    """Opening takes several times the weights for a moment; glibc would keep part of that for ever."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
