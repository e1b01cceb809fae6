"""Which classes of transformers are dual encoders, as its source says, and the reasons for which some are refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

METHODS = {"get_text_features", "get_image_features"}
# Refused, with their model_type.
REFUSED = {
    "Blip2ForImageTextRetrieval": "blip-2",
    "Blip2Model": "blip-2",
    "Owlv2Model": "owlv2",
    "Siglip2Model": "siglip2",
    "XCLIPModel": "xclip",
}


def dual_encoders() -> set[str]:
    """Every class of the installed transformers that has both methods."""
    import transformers

    found = set()
    for file in Path(transformers.__file__).parent.glob("models/*/modeling_*.py"):
        text = file.read_text("utf-8")
        if all(f"def {method}" in text for method in METHODS):
            classes = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
            found |= {each.name for each in classes if {getattr(part, "name", "") for part in each.body} >= METHODS}
    return found


def refusal(name: str, folder: Path) -> dict[str, Any]:
    """The row of a class that is refused, from a folder with its config.json."""
    from model.checkpoints.checkpoint import CheckpointError, Options
    from model.checkpoints.importer import read_checkpoint

    (folder / "config.json").write_text(json.dumps({"architectures": [name], "model_type": REFUSED[name]}), "utf-8")
    row = {"name": name, "layers": "2"}
    try:
        read_checkpoint(folder, Options())
    except CheckpointError as error:
        reason = f"{error}".partition(f"{name} (model_type {REFUSED[name]!r}), ")[2].partition(". What can be")[0]
        return row | {"outcome": "refused", "reason": reason or f"{error}"}
    return row | {"outcome": "different", "reason": "it should have been refused"}
