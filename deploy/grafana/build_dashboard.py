"""Makes dashboards/sightword.json of panels.yml: `python deploy/grafana/build_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OUTPUT = HERE / "dashboards" / "sightword.json"
SOURCE = {"type": "prometheus", "uid": "sightword-prometheus"}
CHOSEN = '{job=~"$job", instance=~"$instance"}'
WIDTH = 24  # of Grafana's grid
KINDS = {"stat": "stat", "lines": "timeseries", "table": "table"}
OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}},
    "lines": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {},
}


def dashboard() -> dict[str, Any]:
    """All of it, in the schema of Grafana 12."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in yaml.safe_load((HERE / "panels.yml").read_text("utf-8")):
        panels.append({"type": "row", "title": row["question"], "collapsed": False, "panels": []})
        panels[-1]["gridPos"] = _position(0, top, WIDTH, 1)
        width = WIDTH // len(row["panels"])
        for index, each in enumerate(row["panels"]):
            panels.append({**panel(each), "gridPos": _position(index * width, top + 1, width, row["height"])})
        top += row["height"] + 1
    return {
        "uid": "sightword",
        "title": "Sightword",
        "tags": ["sightword"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_menu("job"), _menu("instance")]},
        "panels": [{"id": number, **each} for number, each in enumerate(panels, 1)],
    }


def panel(described: dict[str, Any]) -> dict[str, Any]:
    """One panel of panels.yml in Grafana's own words."""
    [kind] = KINDS.keys() & described.keys()
    return {
        "type": KINDS[kind],
        "title": described[kind],
        "description": described.get("description", ""),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": _defaults(described), "overrides": []},
        "options": OPTIONS[kind],
        "targets": [
            _target(index, legend, expression, now=kind != "lines", table=kind == "table")
            for index, (legend, expression) in enumerate(described["queries"].items())
        ],
    }


def _defaults(described: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": described.get("unit", "short"), "min": 0}
    if "most" in described:
        defaults["max"] = described["most"]
    good, bad = {"color": "green"}, {"color": "red"}
    if "red_above" in described:
        steps = [{**good, "value": None}, {**bad, "value": described["red_above"]}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if "red_below" in described:
        steps = [{**bad, "value": None}, {**good, "value": described["red_below"]}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return defaults


def _target(index: int, legend: str, expression: str, *, now: bool, table: bool) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": expression.replace("{ME}", CHOSEN),
        "legendFormat": legend,
        "instant": now,
        "range": not now,
        "format": "table" if table else "time_series",
    }


def _menu(label: str) -> dict[str, Any]:
    """A menu at the top of the page: the values of that label."""
    query = f"label_values(sightword_ready, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _position(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(dashboard(), indent=1) + "\n", "utf-8")
