"""Folders of transformers with a CLIPModel or SiglipModel: read into checkpoints, and written from bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.checkpoints import pixels
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options, naming
from model.checkpoints.folders import FORMAT, model_name, new_folder, read_object, write_object
from model.checkpoints.networks import load_network, writable_config
from model.checkpoints.transformers import clip_tokenizer, siglip_tokenizer
from model.checkpoints.transformers.card import readme
from model.checkpoints.transformers.config import CONFIG, read_config, to_config
from model.checkpoints.transformers.keys import to_ours, to_theirs
from model.checkpoints.weights import INDEX, find_weights, only_tensors, read_file, read_weights
from model.checkpoints.wrappers import unwrap
from model.config import ModelConfig, SiglipTextConfig, TextConfig
from model.export.tensors import write_tensors
from model.manifest import TOKENIZER
from model.tokenizers.clip import TextTokenizer

WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"
WEIGHT_FILES = (WEIGHTS, PICKLED_WEIGHTS)
PROCESSOR, PREPROCESSOR = "processor_config.json", "preprocessor_config.json"


class NotOursError(CheckpointError):
    """A configuration or a tokenizer that ours do not compute, and transformers may."""


def read_folder(folder: Path, options: Options) -> Checkpoint:
    """A folder with the config.json of a CLIPModel or SiglipModel, its weights, tokenizer and preprocessing.

    Raises CheckpointError naming the file, field or tensor that cannot be imported, NotOursError where that is because
    we have no such layer or tokenizer.
    """
    try:
        parsed = read_config(read_object(folder / CONFIG), folder / CONFIG, options, model_name(folder))
        tokenizer, config, tokenizer_from = _read_tokenizer(folder, parsed.config)
    except CheckpointError as error:
        raise NotOursError(str(error)) from error
    family, warnings = config.text.kind, list(parsed.warnings)
    if tokenizer_from == clip_tokenizer.WITHOUT_FILES:
        warnings.append(f"{folder.name} has no tokenizer: CLIP's is taken, and with another one every text is wrong")
    settings, pixels_from = read_preprocessor(folder)
    if settings is None:
        original = {"clip": "OpenAI's CLIP", "siglip": "the published SigLIP models"}[family]
        warnings.append(f"{folder.name} has no {PREPROCESSOR}: pictures are prepared as for {original}")
        pixels_from = f"{original}, the folder has none"
    with naming(folder / (PREPROCESSOR if settings is None else pixels_from)):
        preprocessing = pixels.from_transformers(settings, config.image.image_size, options, family)
    file = find_weights(folder, WEIGHT_FILES)
    content = read_weights(file) if file.name.endswith(INDEX) else read_file(file)
    with naming(file):
        unwrapped = unwrap(content)
        state = to_ours(unwrapped.state if unwrapped else only_tensors(content), config)
    source = {
        "format": "transformers folder",
        "weights": file.name,
        "activation_from": parsed.activation_from,
        "tokenizer_from": tokenizer_from,
        "preprocessing_from": pixels_from,
    }
    if unwrapped is not None:
        warnings += unwrapped.warnings
        if described := unwrapped.described():
            source["unwrapped"] = described
    return Checkpoint(config, state, preprocessing, tokenizer, source, warnings)


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a folder that AutoModel and AutoProcessor of transformers load, with the same outputs.

    Raises CheckpointError for a ModifiedResNet, a bias of CLIP's logits and a mixture, which transformers does not
    have, and where `folder` is not empty.
    """
    config, content = writable_config(bundle), bundle.read(TOKENIZER).decode()
    if config.text.kind == "clip" and bundle.logit_bias is not None:
        raise CheckpointError(
            f"{bundle.id} was trained pair by pair, and the CLIP of transformers has no bias of the logits: use "
            "--format openclip"
        )
    if config.image.kind == "resnet":
        raise CheckpointError(
            f"{bundle.id} has an image tower of kind resnet, and transformers has only vision transformers for CLIP: "
            + (
                "use --format openclip"
                if config.image.block == "bottleneck"
                else "its basic blocks fit no other format"
            )
        )
    processor = {"clip": "CLIPProcessor", "siglip": "SiglipProcessor"}[config.text.kind]
    network = load_network(bundle)
    with new_folder(folder) as draft:
        write_object(draft / CONFIG, to_config(config))
        write_tensors(to_theirs(network.state_dict(), config), draft / WEIGHTS, FORMAT)
        if isinstance(config.text, SiglipTextConfig):
            siglip_tokenizer.write_tokenizer(content, config.text, draft)
        else:
            clip_tokenizer.write_tokenizer(content, bundle.context_length, draft)
        settings = {**pixels.to_transformers(bundle.preprocessing), "processor_class": processor}
        write_object(draft / PREPROCESSOR, settings)
        (draft / "README.md").write_text(readme(bundle), "utf-8")


def _read_tokenizer(folder: Path, config: ModelConfig) -> tuple[TextTokenizer, ModelConfig, str]:
    """The tokenizer, the configuration with what it says of SigLIP's texts, and the file that it comes from."""
    if isinstance(config.text, SiglipTextConfig):
        sentences, text, source = siglip_tokenizer.read_tokenizer(folder, config.text)
        return sentences, config.model_copy(update={"text": text}), source
    assert isinstance(config.text, TextConfig)
    tokenizer, source = clip_tokenizer.read_tokenizer(folder, config.text)
    return tokenizer, config, source


def read_preprocessor(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The settings, and the file that has them: the newer one names the tokenizer too, or in old folders nothing."""
    if (folder / PROCESSOR).exists():
        content = read_object(folder / PROCESSOR)
        if "image_processor" in content:
            return content, PROCESSOR
    return (read_object(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else None), PREPROCESSOR
