"""Where health is asked: under /health/, and where balancers and clients of other services ask.

They have no limits, and are answered whatever else goes on. Only those under /health/ are open where keys are wanted.
"""

from __future__ import annotations

LIVE_ALIASES = ("/v1/health/live", "/v2/health/live", "/.well-known/live")
READY_ALIASES = ("/health", "/healthz", "/ping", "/v1/health/ready", "/v2/health/ready", "/.well-known/ready")
_ALIASES = frozenset((*LIVE_ALIASES, *READY_ALIASES))  # asked of every request


def is_health(path: str) -> bool:
    """Whether health is asked there."""
    return path in _ALIASES or path.startswith("/health/")
