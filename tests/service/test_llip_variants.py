"""Variants of an Llip bundle, served: their towers compute in other precisions, and what mixes does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import Bundle
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.service import pictures
from tests.service.llip import PICTURES, Llip

IMAGES = [{"image": pictures.as_base64(name)} for name in PICTURES]


def post(service: Running, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{service.url}{path}", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def variants(llip: Llip, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("variants")
    made = [VariantOptions("int8"), VariantOptions("fp16")]
    return [
        make_variant(llip.bundle, folder / str(number), options, lambda _: None) for number, options in enumerate(made)
    ]


def test_variants_mix_as_well(llip: Llip, variants: list[Bundle], tmp_path: Path) -> None:
    texts = ["a cat", "a cup of coffee", "two temples"]
    expected = llip.cosines(llip.tokens(), llip.texts(texts))
    with running(tmp_path, Path(",".join(str(bundle.path) for bundle in variants)), timeout_s="120") as service:
        for bundle, tolerance in zip(variants, (0.05, 5e-3), strict=True):
            assert bundle.mixture == llip.bundle.mixture
            answer = post(service, "/similarity", queries=IMAGES, candidates=texts, model=bundle.id)
            difference = np.abs(np.array(answer["cosine"]) - expected).max()
            assert 0 < difference < tolerance, (bundle.precision, difference)
