"""The README.md of a folder that was written for transformers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from model.bundle import Bundle
from model.config import SiglipTextConfig


def readme(bundle: Bundle) -> str:
    """How to load the folder, where it comes from, and what differs before the towers."""
    source = json.dumps(bundle.manifest.source, indent=2, ensure_ascii=False)
    differences = "\n".join(f"- {difference}" for difference in _differences(bundle))
    # SigLIP reads its padding.
    padding = '"max_length"' if bundle.manifest.config.text.fixed_length else "True"
    return f"""---
library_name: transformers
pipeline_tag: zero-shot-image-classification
---

# {bundle.id}

Written by Sightword from the bundle with digest `{bundle.digest}`, whose source is

{textwrap.indent(source, "    ")}

```python
from transformers import AutoModel, AutoProcessor

model, processor = AutoModel.from_pretrained("."), AutoProcessor.from_pretrained(".")
inputs = processor(text=["a cat"], images=image, return_tensors="pt", padding={padding}, truncation=True)
```

From the same pixels and token ids, the model gives the vectors of the bundle. What comes before differs in places:

{differences}
"""


def _differences(bundle: Bundle) -> Iterator[str]:
    preprocessing, text = bundle.preprocessing, bundle.manifest.config.text
    if preprocessing.exif_orientation:
        yield "Sightword turns pictures upright as EXIF says, and decodes large JPEGs at a smaller scale first."
    if preprocessing.alpha == "white":
        yield "Sightword shows what is transparent in white; the processor of older transformers drops it."
    else:
        yield "The bundle drops transparency; the processor of today's transformers shows white there."
    if preprocessing.resize_mode == "shortest" and preprocessing.crop == "round":
        yield "The centre crop may lie one pixel further where an odd number of pixels is cut off."
    if not isinstance(text, SiglipTextConfig) or text.clean == "openclip":
        yield "Sightword repairs broken encodings and resolves HTML entities in texts; the tokenizer does not."
    yield "In Sightword, control tokens that are spelt out in a text are plain characters."
