"""The README.md of a folder that is written for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from model.bundle import Bundle
from model.checkpoints import transformers
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from model.runtime.engine import Engine
from tests.model.checkpoints.transformers import clip_models, siglip_models


def import_model(family: Literal["clip", "siglip"], folder: Path) -> Bundle:
    if family == "clip":
        model = clip_models.random_model(clip_models.small_text(), clip_models.small_vision())
        clip_models.save(model, folder / "source", clip_models.clip_tokenizer(1024))
    else:
        pair = siglip_models.random_model(siglip_models.small_text(), siglip_models.small_vision())
        siglip_models.save(pair, folder / "source")
    return import_checkpoint(folder / "source", folder / "bundle", Options())[0]


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_example_in_the_readme_runs(
    family: Literal["clip", "siglip"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temple: Image.Image
) -> None:
    bundle = import_model(family, tmp_path)
    transformers.write_folder(bundle, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert bundle.digest in readme
    assert "turns pictures upright" in readme
    assert ("HTML entities" in readme) == (family == "clip")
    monkeypatch.chdir(tmp_path / "out")
    names: dict[str, Any] = {"image": temple}
    exec(readme.partition("```python")[2].partition("```")[0], names)
    with torch.no_grad():
        theirs = names["model"](**names["inputs"]).text_embeds
    tokenizer = bundle.tokenizer()
    ours = Engine(bundle, provider="cpu").embed_texts(tokenizer.pad(tokenizer.encode(["a cat"])))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
