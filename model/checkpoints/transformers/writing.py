"""A bundle -> a folder that transformers loads with the same outputs."""

from __future__ import annotations

from pathlib import Path

from model.bundle import Bundle
from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import FORMAT, new_folder, write_object
from model.checkpoints.restoring import load_network
from model.checkpoints.transformers import clip_tokenizer, siglip_tokenizer
from model.checkpoints.transformers.card import readme
from model.checkpoints.transformers.config import CONFIG, to_config
from model.checkpoints.transformers.keys import to_theirs
from model.config import SiglipTextConfig
from model.export.tensors import write_tensors
from model.manifest import TOKENIZER

WEIGHTS = "model.safetensors"
PREPROCESSOR = "preprocessor_config.json"


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a folder that AutoModel and AutoProcessor of transformers load, with the same outputs.

    Raises CheckpointError for a ModifiedResNet, which transformers does not have, and where `folder` is not empty.
    """
    config, content = bundle.manifest.config, bundle.read(TOKENIZER).decode()
    if config.image.kind == "resnet":
        raise CheckpointError(
            f"{bundle.id} has an image tower of kind resnet, and transformers has only vision transformers for CLIP: "
            "use --format openclip"
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
