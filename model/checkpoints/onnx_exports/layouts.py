"""Where the two graphs lie in the folders of those who export them, and what lies beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model.checkpoints.checkpoint import CheckpointError

MODEL = "model.onnx"
PREPROCESS_CFG, PREPROCESSOR, CONFIG = "preprocess_cfg.json", "preprocessor_config.json", "config.json"
# Of transformers.js, in the order that they are taken: the first is not rounded.
PRECISIONS = ("", "_fp16", "_int8", "_uint8", "_quantized", "_q4", "_q4f16", "_bnb4")
_IMAGE, _TEXT = ("visual", "vision", "image"), ("textual", "text")
_LISTED = 6


@dataclass(frozen=True)
class Layout:
    """The files of an export. The two graphs may be one file."""

    kind: str  # for people
    image: Path
    text: Path
    preprocessing: Path  # open_clip's preprocess_cfg.json, or a preprocessor_config.json of transformers
    config: Path
    tokenizer: Path  # a folder
    whole: Path | None = None  # a graph of both towers with their logits
    passed_over: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_layout(folder: Path) -> Layout | None:
    """The export in a folder, None where it holds none. Raises CheckpointError where half of one is missing."""
    return _immich(folder) or _transformers_js(folder) or _two_folders(folder) or _one_graph(folder)


def _immich(folder: Path) -> Layout | None:
    image, text = folder / "visual" / MODEL, folder / "textual" / MODEL
    found = [file for file in (image, text) if file.is_file()]
    if not found or not (folder / CONFIG).is_file():
        return None
    if len(found) == 1:
        raise CheckpointError(f"{found[0]} is one tower, and {text if found[0] == image else image} is missing")
    others = _others(folder, {image, text})
    return Layout(
        "ONNX export of immich", image, text, image.parent / PREPROCESS_CFG, folder / CONFIG, text.parent,
        passed_over=others,
    )  # fmt: skip


def _transformers_js(folder: Path) -> Layout | None:
    for place in (folder / "onnx", folder):
        image, text = _most_exact(place, "vision_model"), _most_exact(place, "text_model")
        if image is None and text is None:
            continue
        if image is None or text is None:
            missing = "vision_model.onnx" if image is None else "text_model.onnx"
            raise CheckpointError(f"{image or text} is one tower, and {place / missing} is missing")
        whole = place / MODEL if (place / MODEL).is_file() else None
        return Layout(
            "ONNX export of transformers.js", image, text, folder / PREPROCESSOR, folder / CONFIG, folder, whole,
            _others(place, {image, text, whole or image}), _rounded(image, text),
        )  # fmt: skip
    return None


def _two_folders(folder: Path) -> Layout | None:
    """fastembed's: a repository for each tower, which lie in one folder."""
    graphs = [file for file in sorted(folder.glob(f"*/{MODEL}")) if file.is_file()]
    images = [file for file in graphs if _ends_with(file.parent.name, _IMAGE)]
    texts = [file for file in graphs if _ends_with(file.parent.name, _TEXT)]
    if not images or not texts:
        return None
    if len(images) + len(texts) > 2:
        names = ", ".join(file.parent.name for file in [*images, *texts][:_LISTED])
        raise CheckpointError(f"{folder} holds more than two towers, {names}: leave the two that belong together")
    image, text = images[0], texts[0]
    cfg = image.parent / PREPROCESS_CFG
    return Layout(
        "ONNX export in two folders", image, text, cfg if cfg.is_file() else image.parent / PREPROCESSOR,
        text.parent / CONFIG, text.parent,
    )  # fmt: skip


def _one_graph(folder: Path) -> Layout | None:
    """Optimum's: one graph for both towers."""
    for place in (folder / "onnx", folder):
        if graph := _most_exact(place, "model"):
            return Layout(
                "ONNX export of both towers in one graph", graph, graph, folder / PREPROCESSOR, folder / CONFIG, folder,
                graph, _others(place, {graph}), _rounded(graph),
            )  # fmt: skip
    return None


def _most_exact(place: Path, name: str) -> Path | None:
    files = [place / f"{name}{precision}.onnx" for precision in PRECISIONS]
    return next((file for file in files if file.is_file()), None)


def _rounded(*files: Path) -> tuple[str, ...]:
    names = [file.name for file in files if file.stem.endswith(PRECISIONS[1:])]
    if not names:
        return ()
    return (f"only rounded graphs are there, {' and '.join(names)}: vectors differ from those of the model itself",)


def _others(folder: Path, taken: Iterable[Path]) -> tuple[str, ...]:
    """What else is of this model, in other precisions or for other hardware."""
    kinds = (".onnx", ".rknn", ".armnn", ".mlpackage")
    found = sorted(file for file in folder.glob("**/*") if file.suffix in kinds and file not in set(taken))
    names = [str(file.relative_to(folder)) for file in found]
    return tuple(names if len(names) <= _LISTED else [*names[:_LISTED], f"{len(names) - _LISTED} more"])


def _ends_with(name: str, roles: Iterable[str]) -> bool:
    return name.lower().replace("_", "-").rpartition("-")[2] in roles
