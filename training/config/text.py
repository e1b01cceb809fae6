"""The section `text`: another text tower than that of the preset or bundle that a run begins with."""

from __future__ import annotations

from pydantic import model_validator

from model.config import PresetError, load_preset
from training.config.section import Section


class Text(Section):
    """A fresh text tower of a preset, over the image tower of `start`."""

    preset: str

    @model_validator(mode="after")
    def _known(self) -> Text:
        try:
            load_preset(self.preset)
        except PresetError as error:
            raise ValueError(f"preset: {error}") from error
        return self
