"""What computes, and whether it computes right: providers, GPU, and each model with one picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from model.bundle import Bundle, bundled
from model.embedder import Embedder
from model.hub.errors import HubError
from model.hub.folders import find_bundle
from model.manifest import BundleError
from model.requirements import pip_install
from model.runtime import cuda
from model.runtime.engine import EngineError
from model.runtime.gpu import GpuError, find_gpu
from model.runtime.providers import NVIDIA, PROVIDERS, available_providers, choose, usable
from service.settings import Settings
from sightword.command.doctor.finding import Finding, fail, ok, warn

PICTURE = Path(bundled()).parents[1] / "probe_data" / "coffee.jpg"
# Of that picture by the bundled model: the first components of its vector. Those of other pictures differ by 0.1.
KNOWN = (-0.1588, 0.1826, 0.0885, 0.0695, -0.0419, -0.0277, -0.0084, 0.0391)
TOLERANCE = 0.01  # providers round differently


def check_computing(settings: Settings) -> Iterator[Finding]:
    """Opens each model that the service would serve."""
    available = available_providers()
    try:
        keys, cause = usable(choose(settings.provider), settings.provider, settings.device)
    except EngineError as error:
        yield fail("provider", str(error), "see docs/gpu.md, or set SIGHTWORD_PROVIDER=cpu")
        return
    seen = f"{PROVIDERS[keys[0]]} is used; there are {', '.join(available)}"
    yield warn("provider", seen, f"the GPU is left out: {cause}") if cause else ok("provider", seen)
    yield from _gpu(settings.device, available)
    for name in settings.model or (None,):
        yield _model(name, settings.provider)


def _gpu(device: int, available: list[str]) -> Iterator[Finding]:
    """Also one that nothing uses."""
    uses_gpu = any(provider in available for provider in NVIDIA)
    with suppress(GpuError):  # said of the provider already, or of no interest
        gpu = find_gpu(device, cuda.cuda_major() if uses_gpu else 0)
        if uses_gpu:
            yield ok("gpu", str(gpu))
        else:
            yield warn("gpu", f"{gpu} is not used", f"pip uninstall --yes onnxruntime, then {pip_install('gpu')}")


def _model(name: str | None, provider: str) -> Finding:
    about = f"model {name}" if name else "model"
    try:
        bundle = Bundle.load(_folder(name))
    except (BundleError, HubError, OSError) as error:
        return fail(about, str(error), "pull or export it again: python -m model pull, python -m model verify")
    try:
        [vector] = Embedder(bundle, provider).embed_images([PICTURE])
    except (EngineError, BundleError) as error:
        return fail(about, str(error), "set SIGHTWORD_PROVIDER=cpu to see whether it is the provider")
    lengths = np.atleast_1d(np.linalg.norm(vector, axis=-1))  # of several vectors, where a model mixes them for texts
    length = float(lengths[np.abs(lengths - 1).argmax()])
    if not abs(length - 1) < TOLERANCE:
        return fail(about, f"{bundle.id} gives a vector of length {length:.3f}, not 1", "export it again")
    if name is None and float(np.abs(vector[: len(KNOWN)] - np.array(KNOWN)).max()) > TOLERANCE:
        return fail(
            about,
            f"{bundle.id} gives another vector for a picture than it should: this provider computes wrongly here",
            "set SIGHTWORD_PROVIDER=cpu, and report this with all that is above",
        )
    return ok(about, f"{bundle.id}: files as recorded ({bundle.digest[:12]}), and a picture embedded as it should be")


def _folder(name: str | None) -> Path:
    if name is None:
        return bundled()
    return Path(name) if Path(name).is_dir() else find_bundle(name) or Path(name)
