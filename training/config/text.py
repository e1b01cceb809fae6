"""The section `text`: another text tower than that of the preset or bundle that a run begins with."""

from __future__ import annotations

from pydantic import Field, model_validator

from model.config import PresetError, load_preset
from training.config.section import Section

MAX_ALIGNMENT_LAYERS = 24


class Text(Section):
    """A fresh text tower of a preset, or a pretrained language model that stays as it is under alignment layers."""

    preset: str | None = None  # with `start`, whose image tower is kept
    # A folder of transformers or sentence-transformers, relative to the configuration file; or the name of an installed
    # package that holds one.
    frozen: str | None = None
    alignment_layers: int = Field(default=1, ge=0, le=MAX_ALIGNMENT_LAYERS)  # transformer blocks on the frozen outputs

    @model_validator(mode="after")
    def _one_tower(self) -> Text:
        if (self.preset is None) == (self.frozen is None):
            raise ValueError("name one: preset, a fresh text tower, or frozen, a pretrained one; or leave it away")
        if self.preset is not None:
            try:
                load_preset(self.preset)
            except PresetError as error:
                raise ValueError(f"preset: {error}") from error
            if self.alignment_layers != Text.model_fields["alignment_layers"].default:
                raise ValueError(
                    "alignment_layers: they are on a frozen text tower, and that of a preset learns itself"
                )
        return self
