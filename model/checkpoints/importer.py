"""A checkpoint of any known format -> a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from model.bundle import Bundle
from model.checkpoints import onnx_exports, openai, openclip, sentence_transformers, transformers, transformers_folder
from model.checkpoints.adapters import refuse_adapter
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, LibraryCheckpoint, Options, naming
from model.checkpoints.folders import model_name, new_folder, read_object
from model.checkpoints.matryoshka import read_matryoshka
from model.checkpoints.networks import to_network
from model.checkpoints.onnx_exports import OnnxCheckpoint
from model.checkpoints.resizing import resized
from model.checkpoints.torchscript import Archive
from model.checkpoints.weights import INDEX, read_content
from model.config import ModelName
from model.export.bundle import ExportError, export_bundle
from model.manifest import MANIFEST
from model.network import AnyNetwork
from model.suggestions import did_you_mean_path
from model.terminal import printable

_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
_BUNDLE_ID: TypeAdapter[str | None] = TypeAdapter(ModelName | None)


def import_checkpoint(
    source: Path,
    to: Path,
    options: Options,
    *,
    weights_dtype: Literal["float32", "float16"] = "float32",
    bundle_id: str | None = None,
    origin: Mapping[str, Any] | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> tuple[Bundle, list[str]]:
    """Read the file or folder `source` and write it as a bundle into the folder `to`: the bundle, and warnings.

    `origin` is kept in the manifest beside what the reader knows of the source; `note` gets a line for people when the
    network is built. Raises CheckpointError, or ExportError where the bundle does not compute what the network does;
    `to` is then as it was.
    """
    try:
        _BUNDLE_ID.validate_python(bundle_id)
    except ValidationError as error:
        raise CheckpointError(
            f"{bundle_id!r} cannot be the id of a bundle: letters, digits and @._- are allowed"
        ) from error
    with new_folder(to) as draft:
        checkpoint = read_checkpoint(source, options)
        if isinstance(checkpoint, OnnxCheckpoint):
            dimensions = _matryoshka_dimensions(checkpoint, checkpoint.image.dimensions, source, options)
            onnx_exports.write_bundle(
                checkpoint, draft, bundle_id=bundle_id, origin=origin or {}, matryoshka_dimensions=dimensions
            )
        else:
            network = _network(checkpoint, options)
            dimensions = _matryoshka_dimensions(checkpoint, network.config.embed_dim, source, options)
            if library := checkpoint.source.get("library"):
                note(f"built by {library}; its graphs are written and compared now: one to three minutes")
            with _exporting(checkpoint, source):
                export_bundle(
                    network,
                    draft,
                    tokenizer=checkpoint.tokenizer,
                    preprocessing=checkpoint.preprocessing,
                    weights_dtype=weights_dtype,
                    bundle_id=bundle_id,
                    source={**checkpoint.source, **(origin or {}), "warnings": checkpoint.warnings},
                    matryoshka_dimensions=dimensions,
                )
    return Bundle.load(to), checkpoint.warnings


@contextmanager
def _exporting(checkpoint: Checkpoint | LibraryCheckpoint, source: Path) -> Iterator[None]:
    """Of a network that is not ours, whatever stands in the way of its graphs is the network's."""
    try:
        yield
    except (CheckpointError, ExportError, OSError):
        raise
    except Exception as error:
        if not isinstance(checkpoint, LibraryCheckpoint):
            raise
        raise CheckpointError(
            f"{source}: the network that {checkpoint.source['library']} has built cannot be written as a graph: {error}"
        ) from error


def _matryoshka_dimensions(
    checkpoint: Checkpoint | LibraryCheckpoint | OnnxCheckpoint, embed_dim: int, source: Path, options: Options
) -> Sequence[int]:
    """The lengths that vectors were trained to be cut to; what is said of them goes into the checkpoint."""
    matryoshka = read_matryoshka(source, embed_dim, options)
    checkpoint.warnings.extend(map(printable, matryoshka.warnings))
    checkpoint.source.update({"matryoshka_from": matryoshka.source} if matryoshka.source else {})
    return matryoshka.dimensions


def _network(checkpoint: Checkpoint | LibraryCheckpoint, options: Options) -> AnyNetwork:
    if isinstance(checkpoint, LibraryCheckpoint):
        return checkpoint.network
    return to_network(checkpoint if options.image_size is None else resized(checkpoint, options.image_size))


def read_checkpoint(source: Path, options: Options) -> Checkpoint | LibraryCheckpoint | OnnxCheckpoint:
    """Tell the format of `source` and read it. Raises CheckpointError."""
    checkpoint = _read(source, options)
    checkpoint.warnings[:] = map(printable, checkpoint.warnings)  # which may name what is in a file
    return checkpoint


def _read(source: Path, options: Options) -> Checkpoint | LibraryCheckpoint | OnnxCheckpoint:
    if source.is_dir():
        return _read_folder(source, options)
    if source.suffix == ".onnx":
        raise CheckpointError(f"{source} is one graph: name the folder that has both towers and their tokenizer")
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist: name a checkpoint file or a folder{did_you_mean_path(source)}")
    _refuse_logit_scale(options)
    checkpoint = _read_file(source, options)
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    checkpoint.source.update(file=source.name, sha256=digest)
    return checkpoint


def _read_file(file: Path, options: Options) -> Checkpoint | LibraryCheckpoint:
    _refuse_shard(file)
    if options.library_architecture is not None:
        return openclip.read_by_architecture(file, options.library_architecture, options)
    content = read_content(file)
    with naming(file):
        if not isinstance(content, Archive):
            return openclip.read_training(content, options, file.stem)
        state = openclip.plain_state(content.state)
        return openai.read_state(state, options, file.stem, content.activation, archive=True)


def _refuse_shard(file: Path) -> None:
    for index in file.parent.glob(f"*{INDEX}"):
        places = read_object(index).get("weight_map")
        if isinstance(places, dict) and file.name in places.values():
            raise CheckpointError(f"{file} is one of the shards of a model: name {index}, which lists all of them")


def _read_folder(folder: Path, options: Options) -> Checkpoint | LibraryCheckpoint | OnnxCheckpoint:
    if (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder} is a bundle already: serve it as it is")
    refuse_adapter(folder)
    if (folder / openclip.CONFIG).exists():
        _refuse_logit_scale(options)
        return openclip.read_folder(folder, options)
    has_weights = any(file.name.endswith((*_WEIGHTS, INDEX)) for file in folder.iterdir())
    if not has_weights and (layout := onnx_exports.find_layout(folder)) is not None:
        return onnx_exports.read_folder(folder, layout, options)
    try:
        if (inner := sentence_transformers.find_model(folder)) is not None:
            _refuse_logit_scale(options)
            return _named(transformers_folder.read_folder(inner.folder, options), folder, inner)
        if (folder / transformers.CONFIG).exists():
            _refuse_logit_scale(options)
            return transformers_folder.read_folder(folder, options)
    except CheckpointError as refusal:
        return _exported_instead(folder, options, refusal)
    raise CheckpointError(
        f"{folder} has neither {openclip.CONFIG} nor {transformers.CONFIG}: {_instead_of_a_model(folder)}"
    )


def _exported_instead(folder: Path, options: Options, refusal: CheckpointError) -> OnnxCheckpoint:
    """The ONNX graphs of a folder whose weights were refused. Raises `refusal` where there are none."""
    try:
        layout = onnx_exports.find_layout(folder)
        if layout is None:
            raise refusal
        exported = onnx_exports.read_folder(folder, layout, options)
    except CheckpointError as error:
        if error is refusal:
            raise
        raise CheckpointError(f"{refusal}; and its ONNX graphs are no way round it: {error}") from error
    exported.warnings.insert(0, f"its ONNX graphs are taken, since its weights are not: {refusal}")
    return exported


def _refuse_logit_scale(options: Options) -> None:
    if options.logit_scale is not None or options.logit_bias is not None:
        raise CheckpointError("--logit-scale and --logit-bias are for ONNX exports: other checkpoints have their own")


def _named(
    checkpoint: Checkpoint | LibraryCheckpoint, folder: Path, inner: sentence_transformers.InnerModel
) -> Checkpoint | LibraryCheckpoint:
    """What was read of the inner folder, under the name of the outer one."""
    of_config = checkpoint.network if isinstance(checkpoint, LibraryCheckpoint) else checkpoint
    of_config.config = of_config.config.model_copy(update={"name": model_name(folder)})
    checkpoint.source["format"] = "sentence-transformers folder"
    checkpoint.warnings.extend(inner.warnings)
    return checkpoint


def _instead_of_a_model(folder: Path) -> str:
    """What a folder is that is none of a model, and what to do with it."""
    names = sorted(file.name for file in folder.iterdir())
    if any(name.endswith(".distcp") for name in names):
        command = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        return f"it is a distributed checkpoint of torch; make one file of it with `{command}`"
    if "zero_to_fp32.py" in names:
        return "it is a checkpoint of DeepSpeed; make one file of it with the zero_to_fp32.py that lies in it"
    weights = [name for name in names if name.endswith((*_WEIGHTS, INDEX))]
    if not weights:
        return "and no files of weights"
    if len(weights) == 1:
        return f"name the file of weights itself, {folder / weights[0]}"
    listed = ", ".join(weights[:6]) + (", ..." if len(weights) > 6 else "")
    return f"it holds {len(weights)} files of weights, {listed}: name the one that is meant"
