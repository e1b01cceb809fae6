"""A clock that is set back or forward changes no deadline, limit or pause: those are measured on the monotonic one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
# Where a moment is written down for people or other programs; none of these is ever subtracted from another.
WRITTEN_DOWN = {
    "service/logs.py": "time of a log line",
    "service/histogram.py": "when a series began, and time of an exemplar",
    "service/tracing.py": "start of a span",
    "service/routes/label_sets.py": "`updated` of a label set",
    "service/routes/health.py": "`unix` of an answer",
    "service/routes/compat/infinity.py": "`created` of an answer",
    "model/export/bundle.py": "`created` of a bundle",
    "model/checkpoints/onnx_exports/write.py": "`created` of a bundle",
    "model/variants/make_variant.py": "`created` of a variant",
    "training/publishing/served_folder.py": "name of a folder that gives way",
    "training/loop/trainer.py": "time of a line of metrics",
    "training/report/loggers.py": "time of the last step, for Prometheus",
}
ROOT = Path(__file__).parents[1]


def reads_the_wall_clock(file: Path) -> bool:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in WALL:
                return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and {each.name for each in node.names} & {"time"}:
            return True
    return False


@pytest.mark.parametrize("package", ["service", "model", "training"])
def test_only_what_is_written_down_reads_the_wall_clock(package: str) -> None:
    found = {str(file.relative_to(ROOT)) for file in (ROOT / package).rglob("*.py") if reads_the_wall_clock(file)}
    assert found == {file for file in WRITTEN_DOWN if file.startswith(f"{package}/")}
