"""The engine: an onnxruntime session for each graph of a bundle, on the device that was asked for and no other."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.bundle import Bundle
from model.manifest import IMAGE_GRAPH, MIXTURE_GRAPH, TEXT_GRAPH, WEIGHTS, FileName
from model.runtime.cuda import DOCUMENT, cuda_major, explain
from model.runtime.gpu import Gpu, GpuError, find_gpu
from model.runtime.mapped_graphs import hold_mapped, open_mapped
from model.runtime.mixture_session import MixtureSession
from model.runtime.placement import nodes_on_cpu, record_placement, report_fallback, suited
from model.runtime.processor import usable_cores
from model.runtime.providers import (
    INSTALL,
    NVIDIA,
    PROVIDERS,
    Device,
    EngineError,
    choose,
    computation,
    options,
    usable,
)
from model.runtime.session import TowerSession, session_options
from model.runtime.shared_weights import HeldFiles, SharedWeights, SharedWeightsError
from model.runtime.tensorrt import InputShapes, Shape

log = logging.getLogger(__name__)
__all__ = ["Engine", "EngineError", "trim_heap"]
# Raised when the same picture becomes other pixels than before, by our code or by Pillow's, so that vectors that were
# kept of those before are not used any more. tests/model/test_vectors_version.py notices.
PIXELS_VERSION = 1


DEVICE = Device()
TYPICAL_BATCH, TYPICAL_TEXT_TOKENS = 32, 16  # for which TensorRT chooses its kernels
SHORTEST_ROW = 2  # ids: what the text tower is exported for


class Engine:
    """Embeds pixels and token ids. Thread-safe: onnxruntime sessions may be run from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int | None = None,
        device: Device = DEVICE,
        shared: SharedWeights | None = None,
    ) -> None:
        """Open the graphs of `bundle`.

        `provider` is auto, cpu, cuda, tensorrt or openvino; `threads` is how many cores one run may use, by default all
        that the process has; `device` says which GPU, and how much of it. On the CPU, weights are in memory once for
        all engines of the same `shared`; where that cannot be, the log says why. Raises EngineError when the provider
        is not active: onnxruntime falls back in silence. Where auto has to leave out a GPU, `problem` and the log say
        why.
        """
        self._bundle, self._threads, self._device = bundle, threads or usable_cores(), device
        self._shared = shared
        self._mapped: HeldFiles | None = None
        keys, self.problem = usable(suited(choose(provider), provider, bundle), provider, device.index)
        try:
            self._open(keys)
        except EngineError as error:
            if provider != "auto" or keys == ["cpu"]:
                raise
            self.problem = explain(str(error)) or str(error)
            self._open(["cpu"])
        # Of each tower, how many nodes run on the CPU although the provider is another, by operator.
        sessions = {"image": self.image_session.session, "text": self.text_session.session}
        self.fallback_nodes = {name: nodes_on_cpu(session) for name, session in sessions.items()}
        report_fallback(bundle, self.provider, self.fallback_nodes)
        self.gpu = self._find_gpu()
        self._log()
        computations = (
            computation(session.provider, bundle.precision) for session in (self.image_session, self.text_session)
        )
        # What vectors depend on beside the bundle: kept ones are used only where digest and this are the same.
        self.vectors_id = f"{'-'.join(dict.fromkeys(computations))}-{PIXELS_VERSION}"

    def embed_images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Pixels [batch, size, size, 3], uint8 -> embeddings [batch, dimensions], of unit length.

        They are [batch, tokens, dimensions] of a bundle whose pictures have several vectors, which `cosines` mixes.
        """
        return self.image_session.run(pixels)

    def embed_texts(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids [batch, length <= context], padded -> embeddings [batch, dimensions], of unit length."""
        return self.text_session.run(token_ids)

    def cosines(self, images: npt.NDArray[np.float32], texts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """How alike embeddings of images and of texts are: [images, texts].

        Where images have several vectors, they are mixed for each text, in bounded memory.
        """
        if self.mixture_session is None:
            cosines: npt.NDArray[np.float32] = images @ texts.T
            return cosines
        return self.mixture_session.run(images, texts)

    def warm_up(self) -> None:
        """Run each graph once, so that the first request does not pay for allocation and kernel choice.

        Raises EngineError if a graph does not take what the manifest says, or gives something else.
        """
        size, dimensions = self._bundle.image_size, self._bundle.dimensions
        ids = token_row(self._bundle, SHORTEST_ROW)
        try:
            image, text = self.embed_images(np.zeros((1, size, size, 3), np.uint8)), self.embed_texts(ids)
            found = {
                IMAGE_GRAPH: (image, (1, *self._bundle.image_shape)),
                TEXT_GRAPH: (text, (1, dimensions)),
                MIXTURE_GRAPH: (self.cosines(image, text), (1, 1)),
            }
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            if self.provider in NVIDIA and (cause := explain(str(error))):
                raise EngineError(f"{self.provider} does not run: {cause}; it says: {error}") from error
            raise EngineError(f"{self._bundle.path} does not run as its manifest says: {error}") from error
        for graph, (numbers, shape) in found.items():
            if numbers.shape != shape or not np.isfinite(numbers).all():
                raise EngineError(f"{graph} gives {numbers.shape}, not finite numbers of the shape {shape}")

    @property
    def shares_weights(self) -> bool:
        """Whether its weights are in memory once for all processes that share them."""
        return self._mapped is not None

    def close(self) -> None:
        """Give back the memory of all graphs, once no run goes on and none follows."""
        for session in (self.image_session, self.text_session, self.mixture_session):
            if session is not None:
                session.close()
        if self._mapped is not None:
            self._mapped.close()

    def _open(self, keys: Sequence[str]) -> None:
        """Open all graphs with the first of these providers. Raises EngineError where it is not active."""
        size, row = self._bundle.image_size, self._bundle.row_length
        pixels = (size, size, 3)
        context = self._bundle.context_length
        images = self._shapes("pixels", pixels, pixels, pixels)
        texts = self._shapes("token_ids", (row(SHORTEST_ROW),), (row(TYPICAL_TEXT_TOKENS),), (context,))
        self._mapped = self._map(keys)
        weights = self._bundle.read(WEIGHTS) if self._mapped is None else b""
        self.image_session = self._open_tower(IMAGE_GRAPH, weights, keys, images)
        self.text_session = self._open_tower(TEXT_GRAPH, weights, keys, texts)
        self.mixture_session = self._open_mixture(weights, keys)
        del weights
        trim_heap()
        self.provider = self.image_session.provider
        expected = PROVIDERS[keys[0]]
        if any(session.provider != expected for session in (self.image_session, self.text_session)):
            raise EngineError(f"{expected} was asked for but is not active: {INSTALL[keys[0]]}")

    def _shapes(self, name: str, smallest: Shape, typical: Shape, largest: Shape) -> InputShapes:
        most = self._device.largest_batch
        return InputShapes(name, (1, *smallest), (min(TYPICAL_BATCH, most), *typical), (most, *largest))

    def _open_tower(self, graph: FileName, weights: bytes, keys: Sequence[str], shapes: InputShapes) -> TowerSession:
        return TowerSession(self._open_graph(graph, weights, keys, shapes), shapes.name, self._threads)

    def _open_mixture(self, weights: bytes, keys: Sequence[str]) -> MixtureSession | None:
        """What mixes pictures for texts; None where they have one vector. It is too small for TensorRT to be of use."""
        bundle = self._bundle
        if bundle.mixture is None:
            return None
        session = self._open_graph(MIXTURE_GRAPH, weights, [key for key in keys if key != "tensorrt"], None)
        return MixtureSession(session, bundle.mixture)

    def _open_graph(self, graph: FileName, weights: bytes, keys: Sequence[str], shapes: InputShapes | None) -> Any:
        bundle, threads = self._bundle, self._threads
        if self._mapped is not None:
            return open_mapped(self._mapped, graph, threads)
        providers = [
            (PROVIDERS[key], options(key, bundle.precision, bundle.digest, threads, self._device, shapes))
            for key in keys
        ]
        return _open(bundle, graph, weights, session_options(threads), providers)

    def _map(self, keys: Sequence[str]) -> HeldFiles | None:
        """The files that the graphs are mapped from; None where this process is to have weights of its own."""
        if self._shared is None or keys[0] != "cpu":
            return None
        try:
            files = hold_mapped(self._bundle, self._shared)
        except (SharedWeightsError, OSError) as error:
            log.warning("%s: this process has weights of its own, and does not share them: %s", self._bundle.id, error)
            return None
        log.info("%s: its weights are those in %s, which all workers map", self._bundle.id, files.folder)
        return files

    def _find_gpu(self) -> Gpu | None:
        with suppress(GpuError):  # the provider found it; it is wanted for its name
            return find_gpu(self._device.index, cuda_major()) if self.provider in NVIDIA else None
        return None

    def _log(self) -> None:
        if self.problem:
            advice = "if that is meant, set SIGHTWORD_PROVIDER=cpu"
            log.warning("this onnxruntime could use a GPU, but computes on the CPU: %s; %s", self.problem, advice)
        if self.gpu:
            log.info("%s computes on %s", self.provider, self.gpu)
        if self.provider == PROVIDERS["tensorrt"]:
            log.warning("TensorRT is experimental: what is not yet known of it is in %s", DOCUMENT)


def token_row(bundle: Bundle, tokens: int) -> npt.NDArray[np.int64]:
    """Ids [1, length of a row for so many tokens] of no text: none is padding, and the largest is the last."""
    text = bundle.manifest.config.text
    row = np.full((1, bundle.row_length(tokens)), 1 if text.pad_id == 0 else 0, np.int64)
    row[:, -1] = text.vocab_size - (2 if text.pad_id == text.vocab_size - 1 else 1)
    return row


def _open(bundle: Bundle, graph: FileName, weights: bytes, options: Any, providers: Sequence[Any]) -> Any:
    # Handed over in memory, external data can come from the verified weights and from no other file.
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    content = bundle.read(graph)
    if providers[0][0] != PROVIDERS["cpu"]:
        record_placement(options)
    try:
        # By itself it would print why a provider fails, and go on with the next, at the start and in mid-run.
        return ort.InferenceSession(content, options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        if providers[0][0] in NVIDIA and (cause := explain(str(error))):
            raise EngineError(f"{providers[0][0]} cannot be used: {cause}; it says: {error}") from error
        raise EngineError(f"{bundle.path / graph} cannot be opened: {error}") from error


def trim_heap() -> None:
    """Return freed memory to the system; of what opening a model takes for a moment, glibc would keep part."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
