"""What a user asks of a variant, and how making one fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.variant_report import Precision


class VariantError(ValueError):
    """A variant that cannot be made; the message names the layer or file, and what to do."""


@dataclass(frozen=True)
class VariantOptions:
    """Precision and graphs of a variant, and what it is measured on."""

    precision: Precision
    fused: bool = False
    pictures: Path | None = None  # a folder to measure on; crops of the photographs that ship if None
    name: str | None = None

    @property
    def suffix(self) -> str:
        """What the names of such variants end with: `-int8`, `-fp16-fused`."""
        precision = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{precision}-fused" if self.fused else precision
