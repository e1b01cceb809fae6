"""Replicas that share Redis share vectors where everything that the vectors depend on is the same, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import running
from model.runtime import providers
from model.runtime.providers import PROVIDERS, computation
from tests.service.test_cache import LOOKUPS, PATIENT, embed, fresh


def test_replicas_that_compute_the_same_share_and_those_of_a_release_with_other_pixels_do_not(
    redis: RedisServer, bundle_path: Path, tmp_path: Path
) -> None:
    items = [{"image": fresh("cat")}, "shared by replicas"]
    later = {**PATIENT, "module": "tests.service.later_service"}
    with (
        running(tmp_path, bundle_path, redis_url=redis.url, **PATIENT) as one,
        running(tmp_path, bundle_path, redis_url=redis.url, **PATIENT) as same,
        running(tmp_path, bundle_path, redis_url=redis.url, **later) as other,
    ):
        embed(one, *items)
        while not redis.client().keys("sightword:*:image:*"):
            pass  # what is stored is stored after the answer
        embed(same, *items)
        assert same.metric(LOOKUPS, tier="redis", outcome="hit") == 2
        embed(other, *items)
        assert other.metric(LOOKUPS, tier="redis", outcome="hit") == 0
        assert other.metric("sightword_inference_items_total", tower="image") == 1


def test_replicas_of_another_decoder_share_texts_and_no_pictures(
    redis: RedisServer, bundle_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cykooz_resizer", reason="the extra simd is not installed")
    items = [{"image": fresh("cat")}, "shared by decoders"]
    with (
        running(tmp_path, bundle_path, redis_url=redis.url, **PATIENT) as one,
        running(tmp_path, bundle_path, redis_url=redis.url, decoder="simd", **PATIENT) as other,
    ):
        embed(one, *items)
        while len(redis.client().keys("sightword:*")) < len(items):
            pass  # what is stored is stored after the answer
        embed(other, *items)
        assert other.metric(LOOKUPS, tier="redis", outcome="hit") == 1
        assert other.metric("sightword_inference_items_total", tower="image") == 1


@pytest.mark.parametrize(
    ("provider", "precision", "multiplies_bf16", "expected"),
    [
        ("cpu", "fp32", True, "cpu"),
        ("cpu", "bf16", True, "cpu"),  # which is widened
        ("cpu", "int8", True, "cpu"),
        ("openvino", "fp32", True, "openvino-f32"),
        ("openvino", "bf16", True, "openvino-bf16"),
        ("openvino", "bf16", False, "openvino-f32"),
        ("cuda", "fp32", False, "cuda-ieee"),
        ("cuda", "bf16", False, "cuda-ieee"),
        ("cuda", "fp16", False, "cuda-fp16"),
        ("tensorrt", "fp32", False, "tensorrt-ieee"),
        ("tensorrt", "fp16", False, "tensorrt-fp16"),
    ],
)
def test_what_computes_has_a_name(
    provider: str, precision: str, multiplies_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "multiplies_bf16", lambda: multiplies_bf16)
    assert computation(PROVIDERS[provider], precision) == expected


def test_processors_that_compute_in_fp16_do_not_share_with_those_that_widen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr(providers.platform, "machine", lambda machine=machine: machine)
        names.add(computation(PROVIDERS["cpu"], "fp16"))
    assert len(names) == 2
