"""What every part of a configuration is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A part of a configuration: checked, without further fields, and not to be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
