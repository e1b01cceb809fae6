"""Tokenizer folders in the layouts of the published models, of small vocabularies trained here."""

from __future__ import annotations

import gzip
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer, NllbTokenizer

from model.smoke_inputs import PASSAGE
from model.tokenizers.clip import Tokenizer as ClipTokenizer
from tests.model.sentences import SCRIPTS, siglip2_tokenizer, spiece, spiece_as_t5
from tests.model.trained_tokenizers import byte_level, wordpiece


def write(folder: Path, settings: dict[str, Any], **files: str | bytes) -> Path:
    """A folder with tokenizer_config.json and files, whose names have `_` for dots where the last is one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    for name, content in files.items():
        file = folder / ".".join(name.rsplit("_", 1))
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def bert(folder: Path, **settings: Any) -> Path:
    """bert-base-uncased: CLIPA's, Chinese-CLIP's, ALIGN's, BLIP's."""
    vocab = _model(wordpiece(lowercase=settings.get("do_lower_case", True)))["vocab"]
    lines = "".join(f"{piece}\n" for piece, _ in sorted(vocab.items(), key=lambda item: item[1]))
    return write(folder, {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **settings}, vocab_txt=lines)


def bert_json(folder: Path) -> Path:
    return write(folder, {"tokenizer_class": "BertTokenizerFast"}, tokenizer_json=wordpiece().to_str())


def roberta(folder: Path) -> Path:
    model = _model(byte_level())
    merges = "#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
    settings = {"tokenizer_class": "RobertaTokenizer"}
    return write(folder, settings, vocab_json=json.dumps(model["vocab"]), merges_txt=merges)


def roberta_json(folder: Path) -> Path:
    return write(folder, {"tokenizer_class": "RobertaTokenizerFast"}, tokenizer_json=byte_level().to_str())


def xlm_roberta(folder: Path) -> Path:
    """xlm-roberta-base, XLM-V: MetaCLIP's and AltCLIP's."""
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    write(folder, settings)
    (folder / "sentencepiece.bpe.model").write_bytes(sentences("unigram"))
    return folder


def nllb(folder: Path, **settings: Any) -> Path:
    """facebook/nllb-200-distilled-600M: SentencePiece's merges, and a token for each language."""
    write(folder, {"tokenizer_class": "NllbTokenizer"})
    (folder / "sentencepiece.bpe.model").write_bytes(sentences("bpe"))
    model = _model(AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer)
    (folder / "sentencepiece.bpe.model").unlink()
    merges = [tuple(pair) for pair in model["merges"]]
    NllbTokenizer(vocab=model["vocab"], merges=merges, **settings).save_pretrained(folder)
    return folder


def nllb_without_languages(folder: Path) -> Path:
    write(folder, {"tokenizer_class": "NllbTokenizer"})
    (folder / "sentencepiece.bpe.model").write_bytes(sentences("bpe"))
    return folder


def mt5(folder: Path) -> Path:
    """google/mt5-base: `spiece.model` and a configuration that names the class."""
    write(folder, {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}, spiece_model=spiece())
    return folder


def siglip(folder: Path) -> Path:
    """timm/ViT-B-16-SigLIP: T5's, saved by open_clip."""
    spiece_as_t5().save_pretrained(folder)
    return folder


def siglip2(folder: Path) -> Path:
    folder.mkdir()
    siglip2_tokenizer(folder).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """openai/clip-vit-base-patch32: the real vocabulary."""
    packed = resources.files("model").joinpath("vocabulary", "merges.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().replace('"bpe_simple_vocab_16e6.txt#version', "#version")
    model = json.loads(ClipTokenizer.clip().as_json)["model"]
    settings = {"tokenizer_class": "CLIPTokenizer"}
    return write(folder, settings, vocab_json=json.dumps(model["vocab"]), merges_txt=merges)


def sentences(kind: str) -> bytes:
    """A SentencePiece model with the control pieces of fairseq's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([PASSAGE, PASSAGE.upper(), *SCRIPTS[:9]] * 20),
        model_writer=model,
        model_type=kind,
        vocab_size=600,
        hard_vocab_limit=False,
        character_coverage=0.99,
        minloglevel=2,
    )
    return model.getvalue()


FAMILIES = {
    "bert": bert,
    "bert_json": bert_json,
    "bert_cased": lambda folder: bert(folder, do_lower_case=False),
    "roberta": roberta,
    "roberta_json": roberta_json,
    "xlm_roberta": xlm_roberta,
    "nllb": nllb,
    "nllb_german": lambda folder: nllb(folder, src_lang="deu_Latn"),
    "nllb_legacy": lambda folder: nllb(folder, legacy_behaviour=True),
    "mt5": mt5,
    "siglip": siglip,
    "siglip2": siglip2,
    "clip": clip,
}
