"""Folders that are to be built by a library, forged: refused with the reason, in bounded memory and time.

Nothing in them is executed, and nothing is fetched.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.library.model_cfg import checked_fields
from model.checkpoints.library.open_clip_model import build
from tests.model.checkpoints.forging import Code
from tests.model.checkpoints.library.test_state_dicts import CONVNEXT
from tests.model.checkpoints.openclip.models import save_folder

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
GROWTH_MB = 600  # that a refusal may take, a library's import included


@pytest.fixture(scope="module")
def whole(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(build(CONVNEXT, Path()), CONVNEXT, tmp_path_factory.mktemp("whole") / "model", weights=WEIGHTS)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The whole model again, whose weights are a link: who forges them takes that away first."""
    return shutil.copytree(whole, tmp_path / "model", copy_function=link_weights)


def link_weights(source: str, target: str) -> None:
    (os.link if Path(source).name == WEIGHTS else shutil.copy)(source, target)


def unlinked(folder: Path) -> Path:
    """The file of weights, of its own."""
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).write_bytes(content)
    return folder / WEIGHTS


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was connected to or looked up, which fails; that there was nothing is checked at the end."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments[-1])
        raise OSError("no connections here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield tried
    assert not tried


def refused(folder: Path) -> str:
    """Why a folder is refused: in bounded time and memory, in text that a terminal may print."""
    began, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder, Options())
    message = str(caught.value)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < GROWTH_MB * 1024
    assert len(message) <= 4000
    assert message.replace("\n", "").isprintable()
    return message


def forge(folder: Path, **changes: Any) -> Path:
    """Change the configuration: `vision` and `text` are laid over the towers, the rest over the whole."""
    content = json.loads((folder / CONFIG).read_text())
    cfg = content["model_cfg"]
    cfg["vision_cfg"] |= changes.pop("vision", {})
    cfg["text_cfg"] |= changes.pop("text", {})
    cfg |= changes
    (folder / CONFIG).write_text(json.dumps(content))
    return folder


def of_transformers(name: str, **more: Any) -> dict[str, Any]:
    return {"text": {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "mlp", **more}}


OTHER = "missing|shape|different models"  # the file has the tensors of another network
ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "a width": ({"text": {"width": 10**9}}, r"text_cfg\.width is 1000000000: 32768 is the most"),
    "layers": ({"text": {"layers": 10**7}}, r"text_cfg\.layers is 10000000"),
    "terabytes": ({"text": {"layers": 200, "width": 32768, "heads": 512}}, OTHER),
    "a vocabulary": ({"text": {"vocab_size": 2_000_000, "width": 8192, "heads": 8}}, OTHER),
    "a context": ({"text": {"context_length": 32768}}, "takes tables of 1,073,741,824 numbers beside its weights"),
    "dimensions": ({"embed_dim": 10**9}, r"embed_dim is 1000000000"),
    "a large network of timm": ({"vision": {"timm_model_name": "eva02_enormous_patch14_clip_224"}}, OTHER),
    "pictures": ({"vision": {"image_size": 10**6}}, r"image_size is 1000000: 4096"),
    "positions": (
        {"vision": {"timm_model_name": None, "image_size": 4096, "patch_size": 1, "width": 8192, "no_ln_pre": True}},
        "table of positions of 137,438,953,472 numbers",
    ),
    "a ratio": ({"vision": {"timm_model_name": None, "layers": 12, "mlp_ratio": 1e9}}, r"mlp_ratio is 1000000000\.0"),
    "not a number": ({"text": {"mlp_ratio": float("nan")}}, r"mlp_ratio is nan"),
    "infinity": ({"vision": {"timm_drop": float("inf")}}, r"timm_drop is inf"),
    "fields without end": ({"text": {"act_kwargs": {str(i): i for i in range(20_000)}}}, "more than 10000 fields"),
    "a field of a megabyte": ({"text": {"proj_type": "x" * 1_000_000}}, r"proj_type has 1000000 characters"),
}  # fmt: skip


@pytest.mark.parametrize("what", ABSURD)
def test_what_no_machine_could_hold_is_not_begun(folder: Path, what: str) -> None:
    changes, reason = ABSURD[what]
    message = refused(forge(folder, **changes))
    assert re.search(reason, message), message


FETCHED = {
    "a hub of timm": ({"vision": {"timm_model_name": "hf-hub:evil/model"}}, "timm_model_name is 'hf-hub:evil/model'"),
    "the same, as it was": ({"vision": {"timm_model_name": "hf_hub:evil/model"}}, "nothing is fetched"),
    "a folder for timm": ({"vision": {"timm_model_name": "local-dir:/etc"}}, "nothing is fetched"),
    "a path for timm": ({"vision": {"timm_model_name": "../../etc"}}, "nothing is fetched"),
    "an address": ({"vision": {"timm_model_name": "https://evil.example/x"}}, "nothing is fetched"),
    "no name": ({"vision": {"timm_model_name": ["convnext_atto"]}}, "timm_model_name"),
    "an unknown name": ({"vision": {"timm_model_name": "convnext_nowhere"}}, "convnext_nowhere"),
    "a hub of transformers": (of_transformers("evil/model"), ""),
    "the same, with weights": (of_transformers("xlm-roberta-base", hf_model_pretrained=True), ""),
    "a folder for transformers": (of_transformers("/etc"), ""),
}


@pytest.mark.parametrize("what", FETCHED)
def test_nothing_is_fetched(folder: Path, what: str) -> None:
    changes, reason = FETCHED[what]
    assert reason in refused(forge(folder, **changes))


def test_published_weights_are_not_asked_for_either(folder: Path) -> None:
    checkpoint = read_checkpoint(forge(folder, vision={"timm_model_pretrained": True}), Options())
    assert isinstance(checkpoint, LibraryCheckpoint)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"vision_cfg": None}, "vision_cfg"),
    ({"vision_cfg": [1]}, "vision_cfg"),
    ({"text_cfg": "ViT-B-32"}, "text_cfg"),
    ({"embed_dim": "32"}, "embed_dim"),
    ({"embed_dim": 0}, "embed_dim"),
    ({"embed_dim": -5}, "embed_dim"),
    ({"embed_dim": True, "text": {"width": "wide"}}, ""),
    ({"text": {"width": [64]}}, ""),
    ({"text": {"heads": 0}}, ""),
    ({"text": {"heads": 7}}, ""),
    ({"text": {"layers": -1}}, ""),
    ({"text": {"context_length": 0}}, ""),
    ({"text": {"vocab_size": -1}}, ""),
    ({"vision": {"image_size": 0}}, ""),
    ({"vision": {"image_size": [64, 64, 64]}}, ""),
    ({"vision": {"timm_pool": {"a": 1}}}, ""),
    ({"vision": {"timm_proj": "sideways"}}, ""),
    ({"vision": {"__class__": "os.system"}}, "__class__"),
    ({"init_logit_scale": "much"}, ""),
    ({"output_dict": True, "\x1b[2J\u202eevil\x00": 1}, r"\x1b[2J"),
    ({"text": {"\ud800": 1}}, ""),
    ({"multimodal_cfg": 3}, "multimodal_cfg"),
    ({"multimodal_cfg": {"layers": 10**9}}, "layers"),
]


@pytest.mark.parametrize("changes", [c for c, _ in WRONG], ids=range(len(WRONG)))
def test_what_a_configuration_cannot_be_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    reason = next(r for c, r in WRONG if c is changes)
    assert reason in refused(forge(folder, **changes))


VALUES = (
    None, True, 0, 1, -1, 7, 10**6, 10**9, 0.5, float("inf"), 1e300, "", "x", "avg", "none", "last", "hf-hub:a/b",
    "resnet50", "/etc", [], [1], [64, 64], [1, 2, 3], {}, {"a": 1},
)  # fmt: skip
FIELDS = (
    "image_size", "layers", "width", "patch_size", "timm_model_name", "timm_pool", "timm_proj", "heads", "pool_type",
    "context_length", "vocab_size", "hf_model_name", "act_kwargs", "norm_kwargs", "ls_init_value", "proj_type",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_any_configuration_is_read_or_refused(folder: Path, seed: int) -> None:
    """Whatever is changed in it: nothing but a refusal comes out, or a network."""
    draw, original = random.Random(seed), (folder / CONFIG).read_text()
    for _ in range(8):
        (folder / CONFIG).write_text(original)
        changes = {draw.choice(("vision", "text")): {draw.choice(FIELDS): draw.choice(VALUES)}}
        try:
            checkpoint = read_checkpoint(forge(folder, **changes), Options())
        except CheckpointError:
            continue
        assert isinstance(checkpoint, LibraryCheckpoint), changes


def test_a_configuration_that_is_damaged_is_refused(folder: Path) -> None:
    (folder / CONFIG).write_text('{"model_cfg":' + '{"a":' * 100_000)
    assert "is not JSON" in refused(folder)
    (folder / CONFIG).write_text('{"model_cfg": {"embed_dim": ' + "9" * 5000 + "}}")
    assert "is not JSON" in refused(folder)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": {"vision_cfg": nested(200)}}))
    refused(folder)


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


def replace_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def forge_weights(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        state[name] = change(state[name].clone()).contiguous()
        (folder / WEIGHTS).unlink()
        save_file(state, folder / WEIGHTS)

    return forge_weights


def code(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"model": Code(folder / "made")}, protocol=2))


def zipped_code(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({"state_dict": {"logit_scale": Code(folder / "made")}}, folder / "open_clip_pytorch_model.bin")


def shards(*places: str) -> Callable[[Path], None]:
    def forge_weights(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        save_file(state, folder / "part-1.safetensors")
        where = dict(zip(state, places * len(state), strict=False))
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": where}))

    return forge_weights


def header(length: int, content: bytes = b'{"a":1}') -> Callable[[Path], None]:
    return lambda folder: unlinked(folder).write_bytes(length.to_bytes(8, "little") + content) and None


def linked(target: str) -> Callable[[Path], None]:
    def forge_weights(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / WEIGHTS).symlink_to(target)

    return forge_weights


def pipe(name: str) -> Callable[[Path], None]:
    def forge_weights(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return forge_weights


SCALE, STEM = "logit_scale", "visual.trunk.stem.0.weight"
DAMAGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "not a number": (replace_tensor(STEM, lambda t: t.fill_(float("nan"))), f"{STEM} holds values that are not finite"),
    "infinite": (replace_tensor(SCALE, lambda t: t.fill_(float("inf"))), f"{SCALE} holds values that are not finite"),
    "a shape": (replace_tensor(STEM, lambda t: t[:, :2]), f"{STEM} has shape [40, 2, 4, 4]"),
    "empty": (replace_tensor(STEM, lambda t: t[:0]), f"{STEM} is empty: the weights were divided"),
    "integers": (replace_tensor(STEM, lambda t: t.to(torch.int8)), "quantised weights are refused"),
    "code": (code, "would run posix.mkdir when unpickled: refused"),
    "code in a zip file": (zipped_code, "would run posix.mkdir when unpickled: refused"),
    "a shard that is not there": (shards("part-1.safetensors", "part-2.safetensors"), "part-2.safetensors"),
    "a shard elsewhere": (shards("../../secret.safetensors"), "names a shard '../../secret.safetensors'"),
    "a shard without an end": (shards("\x1b[2J.safetensors"), r"names a shard '\x1b[2J.safetensors'"),
    "truncated": (lambda f: os.truncate(unlinked(f), 100_000), "download it again"),
    "nothing": (lambda f: os.truncate(unlinked(f), 0), "is empty"),
    "a header of exabytes": (header(2**60), "header too large"),
    "a header that is none": (header(7), "cannot be read"),
    "a link to a device": (linked("/dev/zero"), "has no weights"),
    "a link to what is no checkpoint": (linked(__file__), "cannot be read: Error while deserializing header"),
    "a link to nothing": (linked("nowhere"), "has no weights"),
    "a link to itself": (linked(WEIGHTS), "has no weights"),
    "a pipe": (pipe(WEIGHTS), "has no weights"),
    "a pipe for a configuration": (pipe(CONFIG), "is no file"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_weights_that_are_damaged_or_forged_are_refused(folder: Path, what: str) -> None:
    change, reason = DAMAGED[what]
    change(folder)
    assert reason in refused(folder)
    assert not (folder / "made").exists()


def test_names_that_a_terminal_would_obey_are_escaped_in_warnings(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    save_file({**state, "\x1b[2J\nnew line": torch.ones(1)}, folder / WEIGHTS)
    [warning] = read_checkpoint(folder, Options()).warnings
    assert warning == r"1 tensors have no place in the network: \x1b[2J\nnew line"


def test_a_folder_of_an_adapter_says_how_to_merge_it(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.safetensors").write_bytes(b"")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "openai/clip-vit-base-patch32\\u001b"}')
    message = refused(folder)
    assert r"from_pretrained('openai/clip-vit-base-patch32\x1b'), 'model').merge_and_unload()" in message


def test_the_corpus_is_of_a_model_that_is_read(folder: Path) -> None:
    """What the forgeries are made of spoils nothing by itself."""
    checkpoint = read_checkpoint(folder, Options())
    assert isinstance(checkpoint, LibraryCheckpoint)
    assert not checkpoint.warnings
    assert checkpoint.network.config.embed_dim == 32


def test_no_configuration_of_open_clip_is_taken_for_a_forged_one(open_clip: Any) -> None:
    for name in open_clip.list_models():
        cfg = open_clip.get_model_config(name)
        fields = checked_fields(cfg)
        assert fields.keys() == cfg.keys()
