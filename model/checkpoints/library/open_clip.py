"""Models of open_clip that are not computed by our networks, built by open_clip itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.func import functional_call

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options, naming
from model.checkpoints.folders import model_name
from model.checkpoints.library.loading import check, fill, read_state, without_place
from model.checkpoints.library.model_cfg import checked_fields
from model.checkpoints.library.offline import offline
from model.checkpoints.library.outline import outline
from model.checkpoints.library.padding import measure_length
from model.checkpoints.weights import find_weights
from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
from model.network import LibraryNetwork
from model.requirements import TORCH, TORCHVISION, how_to_install
from model.tokenizers.clip import CLIP_VOCAB_SIZE, Tokenizer


class OpenClipNetwork(LibraryNetwork):
    """A CustomTextCLIP or CoCa of open_clip."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], of any length."""
        return _vector(self.model.visual(pixels))

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length <= context] -> [batch, embed_dim], of any length."""
        text = self.model.text
        mask = getattr(text, "attn_mask", None)
        if mask is None or text.cls_emb is not None or text.use_pad_mask:
            return _vector(text(token_ids))
        # The causal mask, of the size of the context, is not cut by open_clip to shorter rows, which it never has.
        length = token_ids.shape[1]
        return _vector(functional_call(text, {"attn_mask": mask[:length, :length]}, (token_ids,)))


def read_folder(
    folder: Path, content: Mapping[str, Any], weights: list[str], options: Options, refusal: CheckpointError
) -> LibraryCheckpoint:
    """The model in a folder whose open_clip_config.json, `content`, our own reader refused with `refusal`.

    `weights` are the names that a file of weights may have. Raises CheckpointError.
    """
    if not all(isinstance(content["model_cfg"].get(section), Mapping) for section in ("vision_cfg", "text_cfg")):
        raise refusal
    with naming(folder / "open_clip_config.json"):
        cfg = checked_fields(content["model_cfg"])
    with _open_clip(refusal) as library, naming(folder):
        sketch = outline(partial(_build, cfg))
    file = find_weights(folder, weights)
    expected = sketch.state_dict()
    # In older files the tensors of the text tower have no place of their own.
    read = read_state(file, {**expected, **{name.removeprefix("text."): t for name, t in expected.items()}})
    with _open_clip(refusal) as library, naming(file):
        state = _current_names(sketch, read.state)
        check(expected, state)
        model = _build(cfg)  # a network that the file has the tensors of
        surplus = fill(model, state)
    image_size = model.visual.image_size
    side = image_size[0] if isinstance(image_size, tuple) else image_size
    with naming(folder / "open_clip_config.json"):
        preprocessing = pixels.from_openclip(content.get("preprocess_cfg") or {}, side, options)
    text = LibraryTextConfig(
        context_length=model.context_length, vocab_size=model.vocab_size, pad_id=0, fixed_length=False, tokenizer="clip"
    )
    name = model_name(folder)
    config = LibraryConfig(
        name=name,
        library="open_clip",
        architecture=name,
        embed_dim=cfg["embed_dim"],
        image=LibraryImageConfig(image_size=side),
        text=text,
    )
    tokenizer = Tokenizer.clip(CLIP_VOCAB_SIZE, text.context_length)
    network = OpenClipNetwork(config, model, model.logit_scale, model.logit_bias)
    with _open_clip(refusal), naming(folder):
        measure_length(network, tokenizer)
    source = {"format": "open_clip folder", "weights": file.name, "library": f"open_clip {library.__version__}"}
    source |= {"unwrapped": read.described()} if read.described() else {}
    warnings = [*read.warnings, *without_place(surplus)]
    return LibraryCheckpoint(network, preprocessing, tokenizer, source, warnings)


@contextmanager
def _open_clip(refusal: CheckpointError) -> Iterator[ModuleType]:
    """The module open_clip. Raises CheckpointError where it is not installed, or cannot build a model."""
    try:
        import open_clip
    except ImportError as error:
        missing = (error.name or "open_clip").partition(".")[0]
        raise CheckpointError(f"{refusal}. open_clip computes it. {how_to_install(missing, 'convert-all')}") from error
    except Exception as error:  # torchvision of another build fails in its own way
        raise CheckpointError(
            f"{refusal}. open_clip computes it, and cannot be imported: {error}. torch and torchvision must "
            f"be of one build: {TORCH} and {TORCHVISION}, both from one index"
        ) from error
    try:
        with offline():
            yield open_clip
    except CheckpointError:
        raise
    except Exception as error:  # whatever a configuration makes of it
        raise CheckpointError(f"{refusal}; and open_clip {open_clip.__version__} cannot build it: {error}") from error


def _build(cfg: Mapping[str, Any]) -> Any:
    """The network of a `model_cfg`, with random weights. Its text tower is always one apart, which takes short rows."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CustomTextCLIP

    fields = {key: value for key, value in deepcopy(dict(cfg)).items() if key != "custom_text"}
    return (CoCa if "multimodal_cfg" in fields else CustomTextCLIP)(**fields).eval()


def _current_names(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of older releases, and of Apple's, under the names that open_clip has for them now."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    current: dict[str, Tensor] = convert_to_custom_text_state_dict(convert_state_dict(model, state))
    return current


def _vector(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Towers that also give their tokens, for a decoder, give the vector first."""
    return output[0] if isinstance(output, tuple) else output
