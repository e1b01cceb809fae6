"""Models of transformers that are not computed by our networks, built by transformers itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options, naming
from model.checkpoints.folders import model_name
from model.checkpoints.image_processors import with_defaults
from model.checkpoints.library.loading import read_state
from model.checkpoints.library.offline import offline
from model.checkpoints.library.transformers_config import naming_failures, read_native_config
from model.checkpoints.library.transformers_network import FAMILIES, Family
from model.checkpoints.library.transformers_text import read_tokenizer, wrap
from model.checkpoints.pixel_fields import given, side
from model.checkpoints.weights import find_weights
from model.requirements import how_to_install

_EXAMPLES = 3  # of names in a message
_SPARE_PARAMETERS = 1_000_000  # that a network may have beyond its weights: positions that are computed
_POSITIONS = "position_ids"  # kept by older releases


def read_folder(
    folder: Path,
    content: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    weights: tuple[str, ...],
    options: Options,
) -> LibraryCheckpoint:
    """The model in a folder whose config.json is `content` and whose preprocessor configuration is `settings`.

    `weights` are the names that a file of weights may have. Raises CheckpointError.
    """
    architecture = architecture_of(content)
    family = FAMILIES[architecture]
    if options.image_size is not None:
        raise CheckpointError(f"{architecture} takes pictures of the size that it was trained for: leave --image-size")
    with quiet_transformers() as library:
        native = read_native_config(content, library, folder / "config.json")
        kind = getattr(library, family.head_of or architecture)
        file = find_weights(folder, weights)
        model, source, warnings = load_model(kind, native, file, folder / "config.json")
        tokenizer = read_tokenizer(folder)
        with naming(folder):
            preprocessing = pixels.from_transformers(
                settings, _image_size(native, family, settings), options, str(content.get("model_type"))
            )
            network, encoder = wrap(
                model, native.text_config, architecture, tokenizer, preprocessing.size, model_name(folder)
            )
    if settings is None:
        warnings.append(f"{folder.name} has no preprocessor_config.json: pictures are prepared as {architecture}'s are")
    if options.activation is not None:
        warnings.append(f"activation {options.activation} is passed over: config.json says which {architecture} has")
    if family.head_of is not None:
        warnings.append(f"{architecture} is {family.head_of} with more behind it, which was left out")
    if not hasattr(model, "logit_scale") and family.scale == "logit_scale":
        warnings.append(f"{architecture} has no logit_scale: its scores are the cosines themselves")
    return LibraryCheckpoint(
        network,
        preprocessing,
        encoder,
        {
            "format": "transformers folder",
            "weights": file.name,
            "network_from": f"{kind.__name__} of transformers {library.__version__}",
            "tokenizer_from": tokenizer.source,
            **source,
        },
        [*warnings, *tokenizer.warnings],
    )


def architecture_of(content: Mapping[str, Any]) -> str:
    """The class that a config.json names, or an empty string."""
    named = content.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def load_model(
    kind: Any, native: Any, file: Path, config: Path, **arguments: Any
) -> tuple[Any, dict[str, str], list[str]]:
    """The network with its weights, what was taken off around them, and warnings; `kind` is built with `arguments`.

    Raises CheckpointError naming the file, and the tensor that is missing, misshapen or not finite.
    """
    from transformers.core_model_loading import revert_weight_conversion

    with torch.device("meta"), naming_failures(config, f"builds no {kind.__name__} of it"):
        empty = kind(native, **arguments)
        expected = empty.state_dict()
        published = revert_weight_conversion(empty, dict(expected))
    read = read_state(file, {**expected, **published})
    state = read.state
    needed, given = (sum(tensor.numel() for tensor in tensors.values()) for tensors in (expected, state))
    if needed > 2 * given + _SPARE_PARAMETERS:  # before there is memory for it
        raise CheckpointError(f"{config} describes {needed:,} parameters, and {file} holds {given:,}: they differ")
    with naming(file):
        with naming_failures(kind.__name__, "has no such numbers"):
            _check(state)
        with naming_failures(kind.__name__, "does not load it"):
            # Shapes that differ are reported below, by name.
            model, report = kind.from_pretrained(
                None,
                config=native,
                state_dict=state,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments,
            )
        _expect_whole(report)
    surplus = sorted(name for name in report["unexpected_keys"] if not name.endswith(_POSITIONS))
    warnings = [f"{len(surplus)} tensors without a place were left out: {_some(surplus)}"] if surplus else []
    what = read.described()
    return model.eval(), {"unwrapped": what} if what else {}, [*read.warnings, *warnings]


def _check(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if name.endswith((_POSITIONS, "num_batches_tracked")) or not tensor.numel():
            continue
        if not tensor.is_floating_point():
            raise CheckpointError(f"{name} holds {tensor.dtype}: quantised weights are refused")
        if not torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all():
            raise CheckpointError(f"{name} holds values that are not finite: the checkpoint is damaged or overflowed")


def _expect_whole(report: Mapping[str, Any]) -> None:
    if wrong := sorted(report["mismatched_keys"]):
        name, given, needed = wrong[0]
        raise CheckpointError(f"{name} has shape {list(given)}, the network needs {list(needed)}")
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{len(missing)} tensors are missing: {_some(missing)}")
    if errors := report.get("error_msgs"):
        raise CheckpointError(f"transformers cannot load it: {str(errors)[:300]}")


def _image_size(native: Any, family: Family, settings: Mapping[str, Any] | None) -> int:
    """Of the pictures that the tower takes; where it takes any, of those that the processor gives."""
    vision = getattr(native, "vision_config", None) or native.image_config
    tower = side("vision_config.image_size", vision.image_size)
    if not family.any_size or settings is None:
        return tower
    inner = given("image_processor", settings.get("image_processor", settings))
    with_all = with_defaults(inner, native.model_type, tower)
    return side("size", with_all.get("crop_size") if with_all["do_center_crop"] else with_all["size"])


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """transformers, which says nothing meanwhile. Raises CheckpointError that says what to install."""
    try:
        import transformers
    except ImportError as error:
        missing = (error.name or "transformers").partition(".")[0]
        raise CheckpointError(f"transformers computes it. {how_to_install(missing, 'convert-all')}") from error
    log: Any = transformers.logging
    before, had_bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        with offline():
            yield transformers
    finally:
        log.set_verbosity(before)
        if had_bars:
            log.enable_progress_bar()


def _some(names: list[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
