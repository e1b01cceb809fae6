"""Which files of a repository make a model: the layouts in which models are published, and no name beyond them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NoReturn

from model.hub.errors import HubError
from model.hub.names import Repository, nearest_names

# Only these names are ever fetched; whatever else a repository holds has no way onto this machine.
# An open_clip configuration comes first: it also says how pictures were prepared.
_OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_LAYOUTS = (("open_clip_config.json", _OPEN_CLIP_WEIGHTS), ("config.json", _WEIGHTS))
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip
# Any of them is a vocabulary.
VOCABULARIES = frozenset(
    ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
)
_OPTIONAL = (
    *_TOKENIZER, "preprocessor_config.json", "processor_config.json", "modules.json",
    "config_sentence_transformers.json", "sentence_bert_config.json",
)  # fmt: skip
_SENTENCE_TRANSFORMERS = "0_CLIPModel"
# The graphs of exports that exist already: immich's, and those of transformers.js in full precision.
_GRAPHS = (("visual/model.onnx", "textual/model.onnx"), ("onnx/vision_model.onnx", "onnx/text_model.onnx"))
_BESIDE_GRAPHS = ("config.json", "visual/preprocess_cfg.json")
# One of them is in every folder of a model that says what it is.
MARKS = (*(config for config, _ in _LAYOUTS), f"{_SENTENCE_TRANSFORMERS}/config.json", _GRAPHS[0][0])
# Tensors of a graph beyond 2 GiB: in one file, or by their names as torch exports them.
_TENSOR = r"(onnx__\w{1,40}|Constant_\w{1,40}|\w[\w.]{0,150}\.(weight|bias))"
_MAX_TENSORS = 4096


def select_files(available: Collection[str], repository: Repository, remote_code: str | None = None) -> list[str]:
    """The files needed of those `available`: a configuration, tokenizer and preprocessing, weights in one format.

    Graphs that were exported already are chosen where there are no weights, or where those need `remote_code`, which
    says what. Of a model that open_clip lists, the configuration may be missing: open_clip has it. Raises HubError
    where the files are no model of a known layout.
    """
    graphs = list(_exported(available))
    for config, formats in _LAYOUTS:
        if config == "config.json" and repository.open_clip is not None:
            return _without_configuration(available, repository, formats=_LAYOUTS[0][1])
        if config == "config.json" and remote_code is not None:
            return graphs or _refuse(repository.repo, f"cannot be imported: {remote_code}")
        for name in formats if config in available else ():
            if weights := _weight_files(available, name):
                return [config, *_optional(available), *weights]
    return _in_a_folder(available) or graphs or _refuse_unknown(repository.repo)


def tokenizer_files(available: Collection[str]) -> list[str]:
    """The files of a tokenizer alone."""
    return [name for name in _TOKENIZER if name in available]


def _without_configuration(available: Collection[str], repository: Repository, formats: Sequence[str]) -> list[str]:
    if repository.weights is not None:  # open_clip itself asks for safetensors first
        formats = (re.sub(r"\.(bin|pth)\Z", ".safetensors", repository.weights), repository.weights)
    for name in formats:
        if weights := _weight_files(available, name):
            return [*_optional(available), *weights]
    return _refuse(repository.repo, f"has no {formats[-1]} any more, which open_clip names as its weights")


def _in_a_folder(available: Collection[str]) -> list[str]:
    """A folder of sentence-transformers that has its CLIP in a folder of its own."""
    prefix = f"{_SENTENCE_TRANSFORMERS}/"
    inside = {name.removeprefix(prefix) for name in available if name.startswith(prefix)}
    for name in _WEIGHTS if "config.json" in inside else ():
        if weights := _weight_files(inside, name):
            outside = [file for file in ("modules.json", "config_sentence_transformers.json") if file in available]
            return [*outside, *(f"{prefix}{file}" for file in ("config.json", *_optional(inside), *weights))]
    return []


def _exported(available: Collection[str]) -> Iterator[str]:
    """The graphs of both towers, with what lies beside them."""
    for image, text in _GRAPHS:
        if image in available and text in available:
            folder = text.partition("/")[0]
            yield from (name for name in (*_BESIDE_GRAPHS, *_OPTIONAL) if name in available)
            yield from (f"{folder}/{name}" for name in _OPTIONAL if f"{folder}/{name}" in available)
            yield from (image, *_tensors(available, image), text, *_tensors(available, text))
            return


def _tensors(available: Collection[str], graph: str) -> list[str]:
    names = rf"{re.escape(graph)}(\.data|_data(_\d{{1,3}})?)|{graph.partition('/')[0]}/{_TENSOR}"
    pattern = re.compile(names, re.ASCII)
    found = sorted(name for name in available if pattern.fullmatch(name))
    if len(found) > _MAX_TENSORS:
        raise HubError(f"{len(found)} files of tensors lie beside {graph}: more than {_MAX_TENSORS}")
    return found


def _optional(available: Collection[str]) -> list[str]:
    return [file for file in _OPTIONAL if file in available]


def _weight_files(available: Collection[str], name: str) -> list[str]:
    """A file of weights, or its shards and their index."""
    if name in available:
        return [name]
    index, (stem, _, suffix) = f"{name}.index.json", name.rpartition(".")
    if index not in available:
        return []
    shard = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}", re.ASCII)
    return [index, *sorted(file for file in available if shard.fullmatch(file))]


def _refuse_unknown(repo: str) -> NoReturn:
    layouts = [f"{config} with {formats[0]}" for config, formats in _LAYOUTS]
    layouts += [" with ".join(graphs) for graphs in _GRAPHS]
    near = nearest_names(repo.rpartition("/")[2])
    suggestion = f". The nearest names of models that can: {', '.join(near)}" if near else ""
    _refuse(repo, f"holds no model that can be imported: that would be {' or '.join(layouts)}{suggestion}")


def _refuse(repo: str, why: str) -> NoReturn:
    raise HubError(f"{repo} {why}")
