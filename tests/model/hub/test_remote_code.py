"""Models that would need code of their own, told by what their configurations say."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

import pytest

from model.hub.remote_code import NATIVE, describe_remote_code

OWN = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.XModel"}


@pytest.mark.parametrize(
    ("fields", "nearest"),
    [
        ({"architectures": ["JinaCLIPModel"], "model_type": "jina_clip"}, "ViT-L-16-SigLIP2-512:webli"),
        ({"architectures": ["NomicVisionModel"], "model_type": "nomic_bert"}, "EVA02-B-16:merged2b_s8b_b131k"),
        ({"auto_map": {"AutoModel": "nllb_mrl.MatryoshkaNllbClip"}}, "nllb-clip-base-siglip:mrl"),
        ({"architectures": ["EVACLIPModel"], "model_type": "clip"}, "EVA02-L-14-336:merged2b_s6b_b61k"),
        ({"architectures": ["FgClip2Model"], "model_type": "fgclip2"}, "fg-clip2-base"),
        ({"architectures": ["LongCLIPModel"], "model_type": "clip"}, "ViT-B-16-SigLIP2:webli"),
    ],
)
def test_code_of_its_own_is_named_with_the_nearest_model(fields: dict[str, Any], nearest: str) -> None:
    reason = describe_remote_code({"auto_map": OWN, **fields})
    assert reason is not None
    assert str({**{"auto_map": OWN}, **fields}["auto_map"]["AutoModel"]) in reason
    assert "code that comes with a model is never run" in reason
    assert reason.endswith(f"`python -m model pull {nearest}`")
    assert describe_remote_code({**fields, "auto_map": {}}) is None


def test_a_class_that_transformers_has_needs_no_code() -> None:
    for name in sorted(NATIVE):
        assert describe_remote_code({"architectures": [name], "auto_map": OWN}) is None


@pytest.mark.parametrize("field", [None, [], "x", 3, {"AutoModel": ["x"]}, {"AutoModel": None, "X": {}}])
def test_what_is_malformed_is_described_or_passed_over(field: object) -> None:
    for architectures in (None, [], [{}], "x", [None]):
        reason = describe_remote_code({"auto_map": field, "architectures": architectures, "model_type": [[]]})
        assert (reason is None) == (not isinstance(field, dict))


def test_an_endless_name_is_cut() -> None:
    long = "y" * 1_000_000
    reason = describe_remote_code({"architectures": [long], "model_type": long, "auto_map": {"AutoModel": long}})
    assert reason is not None
    assert len(reason) < 1000


def test_the_native_classes_are_those_with_both_towers_in_transformers() -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    models = importlib.import_module("transformers.models")
    found = set()
    for module in pkgutil.iter_modules(models.__path__):
        spec = importlib.util.find_spec(f"transformers.models.{module.name}.modeling_{module.name}")
        if spec is not None and spec.origin is not None:
            found |= _classes_of_two_towers(Path(spec.origin).read_text("utf-8"))
    assert found
    assert found | {"XCLIPModel"} == NATIVE  # X-CLIP's takes videos


def _classes_of_two_towers(source: str) -> set[str]:
    found, current = set(), ""
    seen: set[str] = set()
    for line in source.splitlines():
        if line.startswith("class "):
            current, seen = line.removeprefix("class ").partition("(")[0], set()
        seen |= {name for name in ("image", "text") if line.startswith(f"    def get_{name}_features(")}
        if seen == {"image", "text"}:
            found.add(current)
    return found
