"""Which bundles a GPU computes, and which nodes of a graph a provider left to the CPU."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.manifest import BundleError, Manifest, read_manifest
from model.runtime.providers import NVIDIA, PROVIDERS, EngineError

log = logging.getLogger(__name__)
RECORD = "session.record_ep_graph_assignment_info"
# Of these CUDA has a kernel for every type of ours. Where they work on shapes, onnxruntime puts them beside the caller,
# who needs the result there: nothing is copied, and nothing waits for it.
SHAPE_OPERATORS = frozenset({"Concat", "Gather", "Shape", "Size", "Slice", "Squeeze", "Unsqueeze"})
MAX_FOLDERS = 1000  # that are searched for a variant


def suited(chosen: Sequence[str], provider: str, bundle: Bundle) -> list[str]:
    """Those of the chosen keys of PROVIDERS that compute the bundle, in their order.

    CUDA has MatMulInteger for int8 by int8 only and no DynamicQuantizeLinear: of our int8 graphs, which multiply uint8
    by int8, it would copy every activation to the CPU and back. Raises EngineError where such a provider was asked for
    by name; `auto` becomes the CPU, with a warning.
    """
    if bundle.precision != "int8" or not any(PROVIDERS[key] in NVIDIA for key in chosen):
        return list(chosen)
    reason = f"{bundle.id} is int8, for which NVIDIA's providers have no kernels"
    if provider == "auto":
        log.warning("%s: it is served on the CPU, although this onnxruntime has CUDA. %s", reason, _instead(bundle))
        return [key for key in chosen if PROVIDERS[key] not in NVIDIA]
    raise EngineError(f"{reason}: the CPU would compute it. {_instead(bundle)}; or set SIGHTWORD_PROVIDER=cpu")


def _instead(bundle: Bundle) -> str:
    variant = bundle.manifest.variant
    if found := _fp16_variant(bundle):
        return f"For the GPU serve its variant in fp16: SIGHTWORD_MODEL={found}"
    source = f"the folder of {variant.made_from_id}" if variant else "the folder that it was made from"
    return (
        f"For the GPU make a variant in fp16 and serve that: python -m model optimize SOURCE --precision fp16, "
        f"where SOURCE is {source}"
    )


def _fp16_variant(bundle: Bundle) -> Path | None:
    """The folder beside the bundle that holds, in fp16, what was made from the same source; None if there is none."""
    made_from = bundle.manifest.variant.made_from if bundle.manifest.variant else None
    try:
        folders = sorted(bundle.path.resolve().parent.iterdir())[:MAX_FOLDERS]
    except OSError:
        return None
    for folder in folders:
        manifest = _manifest(folder)
        variant = manifest.variant if manifest else None
        if manifest and manifest.precision == "fp16" and variant and variant.made_from == made_from:
            return folder
    return None


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except BundleError:
        return None


def record_placement(options: Any) -> None:
    """Have sessions opened with these options remember where their nodes run."""
    options.add_session_config_entry(RECORD, "1")


def nodes_on_cpu(session: Any) -> dict[str, int]:
    """How many nodes of a recording session its provider left to the CPU, by operator; not those that compute shapes.

    Nothing for a session that runs on the CPU throughout.
    """
    if session.get_providers()[0] == PROVIDERS["cpu"]:
        return {}
    operators = (
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == PROVIDERS["cpu"]
        for node in part.get_nodes()
    )
    return dict(sorted(Counter(name for name in operators if name not in SHAPE_OPERATORS).items()))


def report_fallback(bundle: Bundle, provider: str, by_tower: Mapping[str, Mapping[str, int]]) -> None:
    """Warn of each tower some of whose nodes the provider left to the CPU."""
    for tower, counts in by_tower.items():
        if counts:
            log.warning(
                "%s: of the %s tower %s left %d of its nodes to the CPU, and each waits for a copy: %s. A bundle that "
                "an earlier release made may have none of them when this release makes it",
                bundle.id, tower, provider, sum(counts.values()),
                ", ".join(f"{count} {operator}" for operator, count in counts.items()),
            )  # fmt: skip
