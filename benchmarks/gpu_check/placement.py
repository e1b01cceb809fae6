"""Placement: which nodes the device does not run, by operator. Each is a copy, and a wait, in every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.models import bundles, families
from benchmarks.gpu_check.sessions import open_session
from model.runtime.placement import SHAPE_OPERATORS
from model.runtime.providers import PROVIDERS

EXACT_OR_HALF = ("fp32", "fp16")
COLUMNS = ("model", "tower", "nodes", "not on the device, by operator")


def run(options: Options, findings: Findings) -> None:
    """Open every tower of every bundle, and read where its nodes went."""
    for family in families(options):
        for bundle in bundles(family):
            for tower in ("image", "text"):
                session = open_session(bundle, tower, options.device, record_placement=True)
                placed = Counter(
                    (part.ep_name, node.op_type)
                    for part in session.get_provider_graph_assignment_info()
                    for node in part.get_nodes()
                )
                name = f"{bundle.manifest.config.name} {bundle.path.name}"
                judge(findings, options, name, tower, bundle.precision, placed)


def judge(
    findings: Findings, options: Options, name: str, tower: str, precision: str, placed: Mapping[tuple[str, str], int]
) -> None:
    """The promise about one tower. `placed` is the number of nodes by provider and operator."""
    fallen = {
        operator: count for (provider, operator), count in placed.items() if provider != PROVIDERS[options.device]
    }
    listed = ", ".join(f"{operator} {count}" for operator, count in sorted(fallen.items())) or "none"
    findings.row("Nodes", COLUMNS, name, tower, sum(placed.values()), listed)
    others = {operator: count for operator, count in fallen.items() if operator not in SHAPE_OPERATORS}
    promise = f"{name}, {tower} tower: every node on the device, but for those of shapes"
    if precision in EXACT_OR_HALF:
        findings.promise(promise, bool(placed) and not others, others or f"{sum(placed.values())} nodes")
