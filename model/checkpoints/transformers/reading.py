"""CLIPModel and SiglipModel folders of transformers -> checkpoints under the names of our network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.checkpoints import pixels
from model.checkpoints.checkpoint import Checkpoint, Options, naming
from model.checkpoints.folders import model_name, read_object
from model.checkpoints.transformers import clip_tokenizer, siglip_tokenizer
from model.checkpoints.transformers.config import CONFIG, read_config
from model.checkpoints.transformers.keys import to_ours
from model.checkpoints.transformers.writing import PREPROCESSOR, WEIGHTS
from model.checkpoints.weights import INDEX, find_weights, only_tensors, read_file, read_weights
from model.checkpoints.wrappers import unwrap
from model.config import ModelConfig, SiglipTextConfig
from model.tokenizers.clip import TextTokenizer

PROCESSOR = "processor_config.json"
PICKLED = "pytorch_model.bin"


def read_folder(folder: Path, options: Options) -> Checkpoint:
    """A folder with the config.json of a CLIPModel or SiglipModel, its weights, tokenizer and preprocessing.

    Raises CheckpointError naming the file, field or tensor that cannot be imported.
    """
    said = read_config(read_object(folder / CONFIG), folder / CONFIG, options, model_name(folder))
    tokenizer, config, tokenizer_from = _read_tokenizer(folder, said.config)
    family, warnings = config.text.kind, list(said.warnings)
    if tokenizer_from == clip_tokenizer.WITHOUT_FILES:
        warnings.append(f"{folder.name} has no tokenizer: CLIP's is taken, and with another one every text is wrong")
    settings, pixels_from = _read_preprocessor(folder)
    if settings is None:
        original = {"clip": "OpenAI's CLIP", "siglip": "the published SigLIP models"}[family]
        warnings.append(f"{folder.name} has no {PREPROCESSOR}: pictures are prepared as for {original}")
        pixels_from = f"{original}, the folder has none"
    with naming(folder / (PREPROCESSOR if settings is None else pixels_from)):
        preprocessing = pixels.from_transformers(settings, config.image.image_size, options, family)
    file = find_weights(folder, (WEIGHTS, PICKLED))
    content = read_weights(file) if file.name.endswith(INDEX) else read_file(file)
    with naming(file):
        unwrapped = unwrap(content)
        state = to_ours(unwrapped.state if unwrapped else only_tensors(content), config)
    source = {
        "format": "transformers folder",
        "weights": file.name,
        "activation_from": said.activation_from,
        "tokenizer_from": tokenizer_from,
        "preprocessing_from": pixels_from,
    }
    if unwrapped is not None:
        warnings += unwrapped.warnings
        if described := unwrapped.described():
            source["unwrapped"] = described
    return Checkpoint(config, state, preprocessing, tokenizer, source, warnings)


def _read_tokenizer(folder: Path, config: ModelConfig) -> tuple[TextTokenizer, ModelConfig, str]:
    """The tokenizer, the configuration with what it says of SigLIP's texts, and the file that it comes from."""
    if isinstance(config.text, SiglipTextConfig):
        sentences, text, told_from = siglip_tokenizer.read_tokenizer(folder, config.text)
        return sentences, config.model_copy(update={"text": text}), told_from
    tokenizer, told_from = clip_tokenizer.read_tokenizer(folder, config.text)
    return tokenizer, config, told_from


def _read_preprocessor(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The settings, and the file that has them: the newer one names the tokenizer too, or in old folders nothing."""
    if (folder / PROCESSOR).exists():
        content = read_object(folder / PROCESSOR)
        if "image_processor" in content:
            return content, PROCESSOR
    return (read_object(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else None), PREPROCESSOR
