"""What is said of CLIP folders that lack a file, or have one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.checkpoints import transformers
from model.checkpoints.checkpoint import CheckpointError, Options
from tests.model.checkpoints.transformers.clip_models import random_model, small_text, small_vision


def test_a_folder_without_a_tokenizer_is_read_with_clips_and_a_warning(tmp_path: Path) -> None:
    random_model(small_text(vocab_size=49408, bos_token_id=49406, eos_token_id=49407), small_vision()).save_pretrained(
        tmp_path
    )
    warnings = transformers.read_folder(tmp_path, Options()).warnings
    assert any("has no tokenizer: CLIP's is taken" in warning for warning in warnings)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_pad": True}))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: preprocessing with do_pad True"):
        transformers.read_folder(tmp_path, Options())
