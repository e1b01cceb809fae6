"""What the sections of a configuration have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """Fields that cannot be changed; unknown ones, infinities and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_as_list)]  # one, or a list
Patterns = Annotated[Names, Field(min_length=1)]  # of files: one, or a list
MAX_WEIGHT = 1e6  # of what is drawn in proportion to weights, whose sum is to be finite
Share = Annotated[float, Field(ge=0, le=1)]
