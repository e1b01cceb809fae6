"""The peers: what they are asked, that they are held to our own vectors, and that nothing of them stays behind."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoProcessor, CLIPModel

from benchmarks.client import request
from benchmarks.inputs import PHOTOGRAPHS
from benchmarks.peers import PEERS, PeerError, PeerServer, Reference, check_agreement, process, write_model
from model.bundle import Bundle
from model.config import Preprocessing
from model.export.bundle import export_bundle
from model.images.preprocessing import decode
from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer
from tests.model.conftest import TEXT, TINY_VIT, random_network

JPEG = (PHOTOGRAPHS / "coffee.jpg").read_bytes()
EVERY_PEER = pytest.mark.parametrize("name", PEERS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place, preprocessing = tmp_path_factory.mktemp("bundle") / "tiny", Preprocessing(size=TINY_VIT.image.image_size)
    return export_bundle(
        random_network(TINY_VIT), place, tokenizer=Tokenizer.clip(TEXT.vocab_size), preprocessing=preprocessing
    )


@pytest.fixture(scope="module")
def folder(bundle: Bundle) -> Path:
    """The same weights, as peers read them."""
    write_model(bundle.path.with_name("peers"), bundle)
    return bundle.path.with_name("peers")


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Reference:
    return Reference.of(bundle)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One peer as if it were installed: the tests' own environment has all that the one on FastAPI needs."""
    places = tmp_path_factory.mktemp("environments")
    place = places / "fastapi-transformers"
    place.mkdir()
    for part in Path(sys.prefix).iterdir():
        (place / part.name).symlink_to(part)
    (place / "installed.txt").write_bytes(PEERS["fastapi-transformers"].requirements.read_bytes())
    return places


@pytest.fixture(scope="module")
def fastapi(environments: Path, folder: Path) -> Iterator[PeerServer]:
    with ExitStack() as stack:
        installed = replace(PEERS["fastapi-transformers"], environments=environments)
        yield stack.enter_context(installed.start(folder, environments / "log"))


def content(asked: bytes) -> Any:
    """The JSON in a whole and correct request."""
    head, _, body = asked.partition(b"\r\n\r\n")
    assert re.match(rb"POST /\w+ HTTP/1\.1\r\n", head)
    assert f"content-length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"content-type: application/json" in head.split(b"\r\n")
    return json.loads(body)


def server_of(name: str) -> PeerServer:
    return PeerServer(PEERS[name], "http://127.0.0.1:1", 0, Path("log"))


def assert_truncates_texts_as_declared(server: PeerServer, bundle: Bundle) -> None:
    tokenizer, letters = bundle.tokenizer(), " ".join("abcdefghijklmnopqrstuvwxyz")
    [ids] = tokenizer.encode([letters])
    cut = [*ids[: (server.peer.text_tokens or len(ids)) - 1], ids[-1]]
    [whole], [expected] = (Engine(bundle, "cpu").embed_texts(np.array([row])) for row in (ids, cut))
    found = server.vector(server.text(letters))
    assert float(found @ expected) > 0.9999
    assert (float(found @ whole) > 0.99) == (server.peer.text_tokens is None)


def test_the_peers_are_those_that_were_chosen():
    assert list(PEERS) == ["fastapi-transformers", "infinity", "litserve", "infinity-int8"]
    assert [chosen.precision for chosen in PEERS.values()] == ["fp32", "fp32", "fp32", "int8"]
    assert "infinity_emb 0.0.78" in PEERS["infinity"].versions()
    assert "litserve 0.2.19" in PEERS["litserve"].versions()


def test_a_request_holds_one_item():
    encoded = base64.b64encode(JPEG).decode()
    assert content(server_of("fastapi-transformers").image(JPEG)) == {"images": [encoded]}
    assert content(server_of("fastapi-transformers").text("für 5 €")) == {"texts": ["für 5 €"]}
    assert content(server_of("litserve").image(JPEG)) == {"image": encoded}
    assert content(server_of("litserve").text("für 5 €")) == {"text": "für 5 €"}
    for name in ("infinity", "infinity-int8"):
        picture, text = content(server_of(name).image(JPEG)), content(server_of(name).text("für 5 €"))
        assert (picture["input"], picture["modality"]) == ([f"data:image/jpeg;base64,{encoded}"], "image")
        assert (text["input"], text.get("modality", "text")) == (["für 5 €"], "text")


@EVERY_PEER
def test_requirements_are_pinned_and_name_no_place(name: str):
    lines = PEERS[name].requirements.read_text("utf-8").splitlines()
    assert lines[0] == "torch==2.13.0"
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []
    assert len(set(lines)) == len(lines) > 30


@EVERY_PEER
def test_what_is_missing_is_told(name: str, tmp_path: Path):
    chosen = replace(PEERS[name], environments=tmp_path)
    assert chosen.missing() == f"{name} is not installed: run make bench-peers"
    with pytest.raises(PeerError, match="run make bench-peers"), chosen.start(tmp_path, tmp_path / "log"):
        pass
    chosen.python.parent.mkdir(parents=True)
    chosen.python.touch()
    installed = tmp_path / chosen.environment / "installed.txt"
    installed.write_text("torch==2.12.0\n")
    assert "other versions" in (chosen.missing() or "")
    installed.write_bytes(chosen.requirements.read_bytes())
    assert chosen.missing() is None


def test_the_folder_holds_the_weights_of_the_bundle(folder: Path, reference: Reference):
    model, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.inference_mode():
        pixels = processor(images=[decode(file) for file in reference.images], return_tensors="pt")
        tokens = processor(text=list(reference.texts), return_tensors="pt", padding=True)
        pictures = model.get_image_features(**pixels).pooler_output.numpy()
        texts = model.get_text_features(**tokens).pooler_output.numpy()
    for theirs, ours in ((pictures, reference.image_vectors), (texts, reference.text_vectors)):
        cosines = (theirs / np.linalg.norm(theirs, axis=1, keepdims=True) * ours).sum(axis=1)
        assert cosines.min() > 0.9999


def test_a_peer_answers_as_the_bundle(fastapi: PeerServer, bundle: Bundle, reference: Reference):
    found = check_agreement(fastapi, reference)
    assert min(found.images, found.texts) > 0.9999
    assert np.linalg.norm(fastapi.vector(fastapi.text("a cat"))) == pytest.approx(1, abs=1e-6)
    assert_truncates_texts_as_declared(fastapi, bundle)


def test_a_peer_that_computes_something_else_is_not_timed(fastapi: PeerServer, reference: Reference):
    with pytest.raises(PeerError, match="fastapi-transformers computes other vectors for pictures: cosines"):
        check_agreement(fastapi, replace(reference, images=reference.images[::-1]))
    with pytest.raises(PeerError, match="other vectors for texts"):
        check_agreement(fastapi, replace(reference, texts=reference.texts[::-1]))
    with pytest.raises(PeerError, match="32 dimensions, the bundle 31"):
        check_agreement(fastapi, replace(reference, text_vectors=reference.text_vectors[:, :31]))


def test_one_answer_to_everything_is_not_taken_for_rounding(fastapi: PeerServer, reference: Reference):
    """Vectors of untrained towers may lie closer together than int8 is allowed to be off."""
    same = replace(reference, texts=(reference.texts[0],) * 2)
    near = reference.text_vectors.mean(axis=0) * 0.02 + reference.text_vectors[0]
    vectors = np.stack([reference.text_vectors[0], near / np.linalg.norm(near)])
    with pytest.raises(PeerError, match="other vectors for texts"):
        check_agreement(
            replace(fastapi, peer=replace(fastapi.peer, precision="int8")), replace(same, text_vectors=vectors)
        )


def test_refusals_of_a_peer_are_told(fastapi: PeerServer):
    with pytest.raises(PeerError, match="fastapi-transformers answers 500"):
        fastapi.vector(fastapi.image(b"no picture"))
    with pytest.raises(PeerError, match="answers without a vector"):
        fastapi.vector(request("POST", "/embed", b'{"texts": []}', content_type="application/json"))
    with pytest.raises(PeerError, match="litserve does not answer"):
        server_of("litserve").vector(server_of("litserve").text("a cat"))


def test_a_peer_that_ends_at_its_start_is_told_with_its_log(environments: Path, folder: Path):
    ending = replace(
        PEERS["fastapi-transformers"],
        environments=environments,
        command=lambda python, model, port: [str(python), "-c", "raise SystemExit('there is no such model')"],
    )
    with (
        pytest.raises(PeerError, match=r"did not start: [\s\S]*there is no such model"),
        ending.start(folder, environments / "ending"),
    ):
        pass


def test_a_peer_has_none_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("OMP_NUM_THREADS", "INFINITY_BATCH_SIZE", "PYTHONPATH", "HF_TOKEN", "SIGHTWORD_MODEL"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LANGUAGE", "de")
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    with process.own_process(command, log) as child:
        assert child.wait(30) == 0
    seen = json.loads(log.read_text())
    assert not {"OMP_NUM_THREADS", "INFINITY_BATCH_SIZE", "PYTHONPATH", "HF_TOKEN", "SIGHTWORD_MODEL"} & set(seen)
    assert (seen["LANGUAGE"], seen["HF_HUB_OFFLINE"], seen["DO_NOT_TRACK"]) == ("de", "1", "1")
    assert not Path(seen["HF_HOME"]).exists()


def test_nothing_of_a_peer_stays_behind(tmp_path: Path):
    """Neither a worker that ignores SIGTERM, nor a peer that was stopped while others were measured."""
    worker = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    leader = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    log = tmp_path / "log"
    with process.own_process([sys.executable, "-c", leader], log, terminate_s=0.5) as child:
        ends = time.monotonic() + 30
        while "up" not in log.read_text() and time.monotonic() < ends:
            time.sleep(0.02)
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children()]
        assert len(family) == 2
        os.killpg(child.pid, signal.SIGSTOP)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


# The one on FastAPI is tested above and int8 is the same program; the harness holds all four to the bundle anyway.
@pytest.mark.parametrize("name", ["infinity", "litserve"])
def test_an_installed_peer_answers_as_the_bundle(
    name: str, bundle: Bundle, folder: Path, reference: Reference, tmp_path: Path
):
    if reason := PEERS[name].missing():
        pytest.skip(reason)
    with PEERS[name].start(folder, tmp_path / "log") as server:
        check_agreement(server, reference)
        assert_truncates_texts_as_declared(server, bundle)
