"""The programs of others, unchanged, against the real service. Each is skipped where it is not installed."""

from __future__ import annotations

from tests.service.conftest import bundle, bundle_path, client, service

__all__ = ["bundle", "bundle_path", "client", "service"]
