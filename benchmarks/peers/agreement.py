"""Whether a peer computes the vectors of the bundle: one that does not is not timed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.inputs import PHOTOGRAPHS
from benchmarks.peers.peer import PeerServer
from benchmarks.peers.process import PeerError
from model.bundle import Bundle
from model.images.preprocessing import load_image
from model.runtime.engine import Engine

LEAST_COSINE = {"fp32": 0.999, "int8": 0.95}
_TEXTS = ("a photo of a tabby cat", "two red bicycles against a wall")  # short: one of the peers cuts at 20 tokens
_SIDE = 256  # pixels, the short side of the photographs


@dataclass(frozen=True)
class Reference:
    """Two pictures and two texts, with what the bundle makes of them."""

    images: Sequence[bytes]
    texts: Sequence[str]
    image_vectors: npt.NDArray[np.float32]  # [2, dimensions]
    text_vectors: npt.NDArray[np.float32]

    @classmethod
    def of(cls, bundle: Bundle) -> Reference:
        """Computed by the engine, on the CPU."""
        files = [_square(PHOTOGRAPHS / name) for name in ("chelsea.jpg", "rocket.jpg")]
        engine, tokenizer = Engine(bundle, "cpu"), bundle.tokenizer()
        pixels = np.stack([load_image(file, bundle.preprocessing) for file in files])
        rows = tokenizer.pad(tokenizer.encode(list(_TEXTS)))
        return cls(files, _TEXTS, engine.embed_images(pixels), engine.embed_texts(rows))


@dataclass(frozen=True)
class Agreement:
    """The least cosine of each kind between a peer's vectors and the bundle's."""

    images: float
    texts: float


def check_agreement(server: PeerServer, reference: Reference) -> Agreement:
    """Ask a peer for the vectors of the reference. Raises PeerError where they are not those of the bundle."""
    images = [server.vector(server.image(file)) for file in reference.images]
    texts = [server.vector(server.text(text)) for text in reference.texts]
    return Agreement(
        _least_cosine(server, "pictures", np.stack(images), reference.image_vectors),
        _least_cosine(server, "texts", np.stack(texts), reference.text_vectors),
    )


def _least_cosine(
    server: PeerServer, kind: str, theirs: npt.NDArray[np.float32], ours: npt.NDArray[np.float32]
) -> float:
    if theirs.shape != ours.shape:
        raise PeerError(f"{server.peer.name} gives {kind} of {theirs.shape[1]} dimensions, the bundle {ours.shape[1]}")
    cosines = theirs @ ours.T
    own, least = np.diag(cosines), LEAST_COSINE[server.peer.precision]
    # Vectors of untrained towers lie close together: each must also be nearer to its own than to the other's.
    if own.min() < least or (cosines.argmax(axis=1) != np.arange(len(ours))).any():
        cosines_text = ", ".join(f"{cosine:.4f}" for cosine in own)
        raise PeerError(f"{server.peer.name} computes other vectors for {kind}: cosines {cosines_text}, wanted {least}")
    return float(own.min())


def _square(path: Path) -> bytes:
    """A square part of a photograph as a file: of one that is not square, libraries round the centre differently."""
    with Image.open(path) as photograph:
        square = photograph.convert("RGB").crop((0, 0, _SIDE, _SIDE))
    file = io.BytesIO()
    square.save(file, "JPEG", quality=90)
    return file.getvalue()
