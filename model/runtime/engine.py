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

from model.bundle import Bundle
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.runtime.placement import nodes_on_cpu, record_placement, report_fallback, suited
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
from model.runtime.session import TowerSession, session_options

__all__ = ["Engine", "EngineError", "trim_heap", "usable_cores"]
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
            (PROVIDERS[key], options(key, bundle.precision, bundle.digest, threads))
            for key in suited(choose(provider), provider, bundle)
        ]
        if any(name in NVIDIA for name, _ in providers):
            load_cuda_libraries()
        weights = bundle.read(WEIGHTS)
        image = _open(bundle, IMAGE_GRAPH, weights, session_options(threads), providers)
        text = _open(bundle, TEXT_GRAPH, weights, session_options(threads), providers)
        self.image_session, self.text_session = (
            TowerSession(image, "pixels", threads),
            TowerSession(text, "token_ids", threads),
        )
        del weights
        trim_heap()
        self.provider = self.image_session.provider
        self._require(provider)
        # Of each tower, how many nodes run on the CPU although the provider is another, by operator.
        self.fallback_nodes = {"image": nodes_on_cpu(image), "text": nodes_on_cpu(text)}
        report_fallback(bundle, self.provider, self.fallback_nodes)
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


def _open(bundle: Bundle, graph: FileName, weights: bytes, options: Any, providers: Sequence[Any]) -> Any:
    # Handed over in memory, external data can come from the verified weights and from no other file.
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    content = bundle.read(graph)
    if providers[0][0] != PROVIDERS["cpu"]:
        record_placement(options)
    try:
        return ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise EngineError(f"{bundle.path / graph} cannot be opened: {error}") from error


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def trim_heap() -> None:
    """Return freed memory to the system; of what opening a model takes for a moment, glibc would keep part."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
