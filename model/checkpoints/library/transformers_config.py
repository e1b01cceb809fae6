"""A config.json of transformers -> its configuration object, without what would have it run code or look elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError

_MAX_NUMBER = 10_000_000  # of a width, a vocabulary
_MAX_LAYERS = 1_000  # of what multiplies layers, too
_MAX_DEPTH, _MAX_ENTRIES = 6, 5_000
_COUNTS_LAYERS = ("layer", "depth", "repeat", "stages", "blocks", "coefficient", "groups")
# What names code, kernels, devices or other files; how numbers are held is ours to say.
_PASSED_OVER = frozenset((
    "auto_map", "attn_implementation", "experts_implementation", "dtype", "torch_dtype", "device_map",
    "transformers_weights", "custom_pipelines", "name_or_path", "use_kernels",
))  # fmt: skip
# Towers that a VisionTextDualEncoder may have: those that build themselves from numbers alone.
_TOWERS = {
    "vision_config": (
        "beit", "chinese_clip_vision_model", "clip", "clip_vision_model", "deit", "dinov2", "siglip_vision_model",
        "vit",
    ),
    "text_config": (
        "albert", "bert", "camembert", "clip_text_model", "electra", "ernie", "roberta", "roformer", "xlm-roberta",
    ),
}  # fmt: skip


def read_native_config(content: Mapping[str, Any], transformers: Any, file: Path) -> Any:
    """The configuration that transformers makes of `content`, which was read from `file`.

    Raises CheckpointError for one that it has no class for, and for sizes that no network has.
    """
    _check_sizes(content, file, [0])
    kind = content.get("model_type")
    if kind == "vision-text-dual-encoder":
        _check_towers(content, file)
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise CheckpointError(f"{file}: model_type {kind!r:.100} is none of transformers {transformers.__version__}")
    with naming_failures(file, "makes no configuration of it"):
        return transformers.CONFIG_MAPPING[kind].from_dict(_plain(content))


@contextmanager
def naming_failures(what: Path | str, failure: str) -> Iterator[None]:
    """Turn whatever transformers raises into a CheckpointError that says what of it failed."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # of whatever kind its checks are
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{what}: transformers {failure}: {line}") from error


def _check_towers(content: Mapping[str, Any], file: Path) -> None:
    for tower, known in _TOWERS.items():
        inner = content.get(tower)
        kind = inner.get("model_type") if isinstance(inner, Mapping) else None
        if kind not in known:
            raise CheckpointError(f"{file}: {tower}.model_type is {kind!r:.100}: it must be one of {', '.join(known)}")


def _check_sizes(value: Any, file: Path, seen: list[int], name: str = "", depth: int = 0) -> None:
    seen[0] += 1
    if depth > _MAX_DEPTH or seen[0] > _MAX_ENTRIES:
        raise CheckpointError(f"{file} has more entries, or deeper ones, than a configuration has")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in ("id2label", "label2id", "task_specific_params"):
                _check_sizes(inner, file, seen, str(key), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_sizes(inner, file, seen, name, depth + 1)
    elif isinstance(value, int | float):
        most = _MAX_LAYERS if any(part in name for part in _COUNTS_LAYERS) else _MAX_NUMBER
        if not -_MAX_NUMBER <= value <= most:  # written so that NaN fails too
            raise CheckpointError(f"{file}: {name} is {value!r:.50}: no network has that")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _plain(inner)
            for key, inner in value.items()
            if isinstance(key, str) and not key.startswith("_") and key not in _PASSED_OVER
        }
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
