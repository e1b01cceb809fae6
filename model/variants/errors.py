"""How making a variant fails."""

from __future__ import annotations


class VariantError(ValueError):
    """A variant that cannot be made; the message names the layer or file, and what to do."""
