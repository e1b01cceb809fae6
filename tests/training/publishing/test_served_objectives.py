"""What an objective trains is served: a service's /classify against torch, with the weights that the bundle has."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from benchmarks.service_process import PATIENCE_S, running
from model.checkpoints.networks import load_network
from model.export.graphs import ImageGraph, TextGraph
from model.images.preprocessing import load_image
from tests.training.conftest import COLOURS, further, picture, write_config
from training.config import load_config
from training.run import train_and_export

LABELS, PICTURES = list(COLOURS), [picture(colour, 2000) for colour in COLOURS]


TRAINED: dict[str, dict[str, Any]] = {
    "sigmoid": {"objective": "sigmoid"},
    "rank": {"objective": {"kind": "rank", "rank": {"cross_weight": 0.2, "in_weight": 0.2}}},
    "llip": {"objective": {"kind": "llip", "llip": {"tokens": 3, "heads": 2}}},
    "locked image tower": {"text": {"preset": "sightword-small"}, "lock": {"image": 1.0}},
}


@pytest.mark.parametrize("changed", TRAINED.values(), ids=TRAINED)
def test_what_is_trained_learns_and_is_served_as_torch_computes_it(
    colours: Path, tiny: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    changes = further(tiny, steps=40, evaluate_every=20, checkpoint_every=40, ema_decay=0.8, **changed)
    bundle = train_and_export(load_config(write_config(tmp_path, **changes)), colours, tmp_path / "run")
    assert bundle is not None
    assert bundle.manifest.scores["colours"]["value"] >= 0.9  # chance is 0.25
    network = load_network(bundle).float().eval()
    pixels = torch.from_numpy(np.stack([load_image(each, bundle.preprocessing) for each in PICTURES]))
    tokenizer = bundle.tokenizer()
    token_ids = torch.from_numpy(tokenizer.pad(tokenizer.encode([f"a {label}" for label in LABELS])))
    with torch.no_grad():
        cosines = network.cosines(ImageGraph(network, bundle.preprocessing)(pixels), TextGraph(network)(token_ids))
        scores = (network.logit_scale.exp() * cosines).softmax(dim=1)
    request = {
        "inputs": [{"image": base64.b64encode(each).decode()} for each in PICTURES],
        "labels": LABELS, "templates": ["a {}"],
    }  # fmt: skip
    with running(tmp_path, bundle.path, timeout_s="120") as service:
        answer = httpx.post(f"{service.url}/classify", json=request, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    entries = answer.json()["data"]
    assert [entry["label"] for entry in entries] == LABELS
    for number, entry in enumerate(entries):
        for label in entry["predictions"]:
            column = LABELS.index(label["label"])
            assert label["cosine"] == pytest.approx(float(cosines[number, column]), abs=1e-4)
            assert label["score"] == pytest.approx(float(scores[number, column]), abs=1e-4)
