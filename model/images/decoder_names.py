"""The decoders of image files by name, and the module that each needs beside Pillow. Imports nothing."""

from __future__ import annotations

from typing import Final, Literal

DecoderName = Literal["pillow", "simd"]
MODULES: Final[dict[DecoderName, str | None]] = {"pillow": None, "simd": "cykooz_resizer"}
