"""What a config.json of transformers' CLIPModel and SiglipModel may say, by its own names.

The defaults are those of transformers: what a config.json leaves out has that value there.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from model.checkpoints.checkpoint import CheckpointError

LEGACY_EOS_ID = 2  # of configurations from before 2023; transformers then pools at the largest id, as we do


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class Tower(_Strict):
    """Fields that both towers of both families have."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int = 12
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float


class Text(Tower):
    """Fields of both families' text towers."""

    vocab_size: int
    max_position_embeddings: int


class Vision(Tower):
    """Fields of both families' image towers."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int | list[int] = 224
    patch_size: int | list[int]


class ClipText(Text):
    """CLIPTextConfig."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407


class ClipVision(Vision):
    """CLIPVisionConfig."""

    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    patch_size: int | list[int] = 32


class Clip(_Strict):
    """CLIPConfig."""

    text_config: ClipText = ClipText()
    vision_config: ClipVision = ClipVision()
    projection_dim: int = 512

    @property
    def embed_dim(self) -> int:
        """Dimensions in which the towers meet."""
        return self.projection_dim

    def expect_ours(self, file: Path) -> None:
        """Raise CheckpointError, naming `file`, for what our towers do not compute."""
        text = self.text_config
        # Ours is the output at the largest id; theirs at the first `eos_token_id`, or as ours where that is 2.
        if text.eos_token_id not in (LEGACY_EOS_ID, text.vocab_size - 1):
            raise CheckpointError(
                f"{file}: text_config.eos_token_id is {text.eos_token_id}, where texts are pooled; only the last of "
                f"the {text.vocab_size} ids, {text.vocab_size - 1}, can be that"
            )


class SiglipText(Text):
    """SiglipTextConfig."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    vocab_size: int = 32000
    max_position_embeddings: int = 64
    projection_size: int | None = None


class SiglipVision(Vision):
    """SiglipVisionConfig."""

    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    patch_size: int | list[int] = 16
    vision_use_head: bool = True


class Siglip(_Strict):
    """SiglipConfig."""

    text_config: SiglipText = SiglipText()
    vision_config: SiglipVision = SiglipVision()

    @property
    def embed_dim(self) -> int:
        """Dimensions in which the towers meet."""
        return self.vision_config.hidden_size

    def expect_ours(self, file: Path) -> None:
        """Raise CheckpointError, naming `file`, for what our towers do not compute."""
        text, image = self.text_config, self.vision_config
        if not image.vision_use_head:
            raise CheckpointError(f"{file}: vision_config.vision_use_head is false, and the head gives the embedding")
        projected = text.hidden_size if text.projection_size is None else text.projection_size
        if projected != image.hidden_size:
            raise CheckpointError(
                f"{file}: text_config.projection_size is {projected}, vision_config.hidden_size {image.hidden_size}: "
                "embeddings of texts and pictures must have the same length"
            )
