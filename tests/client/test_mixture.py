"""A model that mixes the vectors of a picture for each text: with a client, both kinds of it, and without a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import sightword
from benchmarks.service_process import Running
from sightword.command.main import app
from sightword.errors import InvalidImageError, InvalidRequestError, UnsupportedModalityError
from sightword.local.embedder import Local
from tests.service import pictures
from tests.service.llip import DIMENSIONS, PICTURES, TOKENS, Llip

PHOTOS = [pictures.read(name) for name in PICTURES]
TEXTS = ["a cat that sleeps", "a cup of coffee", "two temples", "rain", "a bird"]
LABELS = ["cat", "cup of coffee", "temple"]


@pytest.fixture(params=["client", "local"])
def embedder(request: pytest.FixtureRequest, llip_service: Running, llip: Llip) -> Iterator[sightword.Client | Local]:
    """Of two items a request, so that lists are taken block by block."""
    made = (
        sightword.Client(llip_service.url, timeout_s=200, items_per_request=2)
        if request.param == "client"
        else sightword.load(str(llip.bundle.path), "cpu")
    )
    with made as embedder:
        yield embedder


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found), expected, atol=1e-4)


def test_tokens(embedder: sightword.Client | Local, llip: Llip) -> None:
    close(embedder.embed(PHOTOS, output="tokens"), llip.tokens())
    close(embedder.embed(TEXTS, output="tokens"), llip.texts(TEXTS)[:, None])
    close(embedder.embed(TEXTS), llip.texts(TEXTS))
    assert embedder.info().model().mixture_tokens == TOKENS
    kept = embedder.embed([PHOTOS[0], b"bad", PHOTOS[1]], output="tokens", on_error="item")
    assert kept.vectors.shape == (3, TOKENS, DIMENSIONS)
    close(kept.vectors[[0, 2]], llip.tokens(PICTURES[:2]))
    assert np.isnan(kept.vectors[1]).all()
    assert isinstance(kept.errors[1], InvalidImageError)


def test_what_is_refused(embedder: sightword.Client | Local) -> None:
    with pytest.raises(UnsupportedModalityError, match="tokens") as refused:
        embedder.embed([*TEXTS[:3], PHOTOS[0]])
    assert str(refused.value.param).startswith("inputs.3")
    for on_error in ("fail", "item"):
        with pytest.raises(InvalidRequestError):
            embedder.embed([TEXTS[0], PHOTOS[0], PHOTOS[1]], output="tokens", on_error=on_error)
    with pytest.raises(InvalidRequestError) as refused:
        embedder.embed(PHOTOS, output="tokens", dimensions=4)
    assert refused.value.param == "dimensions"
    with pytest.raises(ValueError, match="output"):
        embedder.embed(PHOTOS, output="token")  # type: ignore[call-overload]
    with pytest.raises(UnsupportedModalityError) as refused:
        embedder.similarity([PHOTOS[0]], [TEXTS[0], TEXTS[1], TEXTS[2], PHOTOS[1]])
    assert str(refused.value.param).startswith("candidates")


def test_similarity_and_rank_mix(embedder: sightword.Client | Local, llip: Llip) -> None:
    expected = llip.cosines(llip.tokens(), llip.texts(TEXTS))
    found = embedder.similarity(PHOTOS, TEXTS)
    close(found.cosine, expected)
    logits = llip.bundle.logit_scale * expected
    close(found.probability, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    both = embedder.similarity(TEXTS, [TEXTS[4], *PHOTOS])
    close(both.cosine[:, 1:], expected.T)
    close(both.cosine[:, 0], llip.texts(TEXTS) @ llip.texts(TEXTS)[4])
    ranked = embedder.rank(TEXTS[2], PHOTOS, top_n=2)
    assert [each.index for each in ranked] == (-expected[:, 2]).argsort()[:2].tolist()
    close([each.cosine for each in ranked], np.sort(expected[:, 2])[::-1][:2])
    close(embedder.similarity(TEXTS[:2], TEXTS[2:]).cosine, llip.texts(TEXTS[:2]) @ llip.texts(TEXTS[2:]).T)
    with pytest.raises(InvalidImageError) as bad:
        embedder.similarity(TEXTS, [*PHOTOS, b"bad"])
    assert str(bad.value.param).startswith("candidates.3")


def test_classify_mixes(embedder: sightword.Client | Local, llip: Llip) -> None:
    expected = llip.cosines(llip.tokens(), llip.classes(LABELS))
    found = embedder.classify([*PHOTOS, b"bad"], LABELS, on_error="item")
    rows = [{each.label: each.cosine for each in entry.predictions} for entry in found[:3]]
    close([[row[label] for label in LABELS] for row in rows], expected)
    assert isinstance(found[3].error, InvalidImageError)
    against_nothing = embedder.classify(PHOTOS, LABELS, multi_label=True)
    assert {each.label for each in against_nothing[0].predictions} == set(LABELS)


def test_an_event_loop(llip_service: Running, llip: Llip) -> None:
    async def scenario() -> None:
        async with sightword.AsyncClient(llip_service.url, timeout_s=200, items_per_request=2) as client:
            close(await client.embed(PHOTOS, output="tokens"), llip.tokens())
            expected = llip.cosines(llip.tokens(), llip.texts(TEXTS))
            close((await client.similarity(TEXTS, PHOTOS)).cosine, expected.T)
            assert (await client.rank(TEXTS[0], PHOTOS))[0].index == expected[:, 0].argmax()

    asyncio.run(scenario())


def test_a_service_of_before_gets_nothing_that_it_does_not_know() -> None:
    from sightword.plans import several

    assert several("vector") is None


@pytest.mark.parametrize("with_service", [True, False])
def test_the_command(
    llip_service: Running, llip: Llip, tmp_path: Path, with_service: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(pictures.FILES[name]) for name in PICTURES]
    where = ["--url", llip_service.url] if with_service else ["--model", str(llip.bundle.path)]
    run = CliRunner().invoke
    for name in ("vectors.npy", "vectors.jsonl", "vectors.parquet"):
        done = run(app, ["embed", *files, "--tokens", "-o", str(tmp_path / name), *where])
        assert done.exit_code == 0, done.output
        assert f"3 vectors of llip, {TOKENS} each, {DIMENSIONS} dimensions" in done.stderr
        searched = run(app, ["search", str(tmp_path / name), "a cat", *where])
        assert searched.exit_code == 2
        assert "several vectors for each key" in searched.stderr
    close(np.load(tmp_path / "vectors.npy", allow_pickle=False), llip.tokens())
    plain = run(app, ["embed", *files, *where])
    assert plain.exit_code == 1
    assert "mixes them for each text" in plain.stderr
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    ranked = run(app, ["rank", *files, str(bad), "two temples", "--json", *where])
    assert ranked.exit_code == 1
    expected = llip.cosines(llip.tokens(), llip.texts(["two temples"]))[:, 0]
    lines = [line for line in ranked.stdout.splitlines() if line.startswith("{")]
    assert [files[index] in line for index, line in zip((-expected).argsort(), lines, strict=True)] == [True] * 3
    monkeypatch.setenv("SIGHTWORD_MODEL", str(llip.bundle.path))
    seen = [json.loads(line) for line in run(app, ["doctor", "--json"]).stdout.splitlines()]
    [model] = [line for line in seen if line["about"].startswith("model ")]
    assert model["status"] == "ok", model
