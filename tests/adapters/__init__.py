"""The adapters with the real packages that they are for."""

from __future__ import annotations

from pathlib import Path

PROBE_DATA = Path(__file__).parents[2] / "model" / "probe_data"
PICTURES = {path.stem: path for path in sorted(PROBE_DATA.glob("*.jpg"))}
# What each is found by.
SEARCHES = {"a cat": "chelsea", "coffee": "coffee", "an astronaut": "astronaut"}
LONG = "a cat " * 200
KEY = "what-the-service-wants-to-see"
