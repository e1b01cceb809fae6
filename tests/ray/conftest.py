"""One cluster for all tests: to start it takes half a minute. The last test kills a node of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.service.conftest import bundle, bundle_path, other_bundle

if TYPE_CHECKING:
    from tests.ray.cluster import LocalCluster

# Before ray is imported, which reads them then; what the tests start inherits them.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
__all__ = ["bundle", "bundle_path", "other_bundle"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    from tests.ray.cluster import local_cluster

    with local_cluster() as cluster:
        yield cluster
