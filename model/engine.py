"""The engine: two onnxruntime sessions, one per tower, on the device that was asked for and no other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.bundle import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS, Bundle, FileName

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
INSTALL = {
    "cpu": 'pip install "sightword[cpu]"',
    "cuda": 'pip uninstall onnxruntime, then pip install "sightword[gpu]" with CUDA 13 and cuDNN 9 on the machine',
    "tensorrt": 'pip uninstall onnxruntime, then pip install "sightword[gpu]" with TensorRT 10 on the machine',
    "openvino": "pip uninstall onnxruntime, then pip install onnxruntime-openvino",
}


class EngineError(RuntimeError):
    """The engine cannot run as asked; the message says what to install or change."""


class Engine:
    """Embeds pixels and token ids. Thread-safe: onnxruntime sessions may be run from several threads."""

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None) -> None:
        """Open both graphs of `bundle`.

        `provider` is auto, cpu, cuda, tensorrt or openvino; `threads` is how many cores one run may use, by default all
        that the process has. Raises EngineError when the provider is not active: onnxruntime falls back in silence.
        """
        self._bundle = bundle
        wanted = _wanted(provider)
        weights = bundle.read(WEIGHTS)
        self._image = _open(bundle, IMAGE_GRAPH, weights, _session_options(threads), wanted)
        self._text = _open(bundle, TEXT_GRAPH, weights, _session_options(threads), wanted)
        self.provider: str = self._image.get_providers()[0]
        self._insist(provider)

    def embed_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Pixels [batch, size, size, 3], uint8 -> embeddings [batch, dimensions], of unit length."""
        return _run(self._image, "pixels", pixels)

    def embed_texts(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids [batch, length <= context], padded with 0 -> embeddings [batch, dimensions], of unit length."""
        return _run(self._text, "token_ids", token_ids)

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

    def _insist(self, asked: str) -> None:
        if asked == "auto":
            return
        expected = PROVIDERS[asked]
        for session in (self._image, self._text):
            if session.get_providers()[0] != expected:
                raise EngineError(f"{expected} was asked for but is not active: {INSTALL[asked]}")


def _wanted(provider: str) -> list[str]:
    available = ort.get_available_providers()
    if provider == "auto":
        return [name for name in (PROVIDERS["cuda"], PROVIDERS["cpu"]) if name in available]
    if provider not in PROVIDERS:
        raise EngineError(f"unknown provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        raise EngineError(f"{PROVIDERS[provider]} is not in this onnxruntime: {INSTALL[provider]}")
    fallback = [] if provider == "cpu" else [PROVIDERS["cpu"]]
    return [PROVIDERS[provider], *fallback]


def _session_options(threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _usable_cores()
    options.inter_op_num_threads = 1
    # Memory patterns are kept per input shape and grow with every new batch size (onnxruntime#11118).
    options.enable_mem_pattern = False
    # Spinning idle threads would take the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open(bundle: Bundle, graph: FileName, weights: bytes, options: Any, providers: Sequence[str]) -> Any:
    # Handed over in memory, external data can come from the verified weights and from no other file.
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    content = bundle.read(graph)
    try:
        return ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise EngineError(f"{bundle.path / graph} cannot be opened: {error}") from error


def _run(session: Any, name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    embeddings: npt.NDArray[np.float32] = session.run(None, {name: value})[0]
    return embeddings
