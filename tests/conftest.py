"""For all tests: what the libraries of others must know before they are imported."""

from __future__ import annotations

import os

os.environ.update(DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1", LANGSMITH_TRACING="false")
