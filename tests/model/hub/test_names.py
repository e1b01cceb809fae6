"""Names, and what is published under them."""

from __future__ import annotations

import importlib
import json
from importlib import resources
from typing import Any

import pytest
from typer.testing import CliRunner

from model.__main__ import app
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.openclip.config import read_model_cfg
from model.config import load_preset
from model.hub import remote_code
from model.hub.errors import HubError
from model.hub.names import Archive, Repository, known_models, published_model

OPENAI = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")


@pytest.fixture(scope="module")
def table(open_clip: Any) -> dict[str, dict[str, dict[str, Any]]]:
    tags: dict[str, dict[str, dict[str, Any]]] = importlib.import_module("open_clip.pretrained")._PRETRAINED
    return tags


def test_openais_nine_are_where_open_clip_says(table: dict[str, dict[str, dict[str, Any]]]) -> None:
    archives = {name: model.source for name, model in known_models().items() if isinstance(model.source, Archive)}
    assert sorted(archives) == sorted(name.replace("/", "-") for name in OPENAI)
    for name, archive in archives.items():
        theirs = table[name.replace("@336px", "-336")]["openai"]
        assert archive.url == theirs["url"]
        assert archive.sha256 == theirs["url"].split("/")[-2]
        assert len(archive.sha256) == 64
        assert f"{archive.repo}/" == theirs["hf_hub"]


def test_every_tag_that_open_clip_lists_is_known_and_where_open_clip_says(
    open_clip: Any, table: dict[str, dict[str, dict[str, Any]]]
) -> None:
    listed = open_clip.list_pretrained()
    assert len(listed) > 150
    for architecture, tag in listed:
        theirs = table[architecture][tag]
        source = published_model(f"{architecture}:{tag}").source
        if tag == "openai":
            assert isinstance(source, Archive)
            assert source.url == theirs["url"]
            continue
        assert isinstance(source, Repository)
        assert f"{source.repo}/{source.weights or ''}" == theirs["hf_hub"]  # none is at a plain address alone
        assert published_model(f"{architecture}__{tag}").source == source


def test_no_tag_is_known_that_open_clip_does_not_list(open_clip: Any) -> None:
    listed = {f"{architecture}:{tag}" for architecture, tag in open_clip.list_pretrained()}
    assert {name for name, model in known_models().items() if model.open_clip} <= listed


def test_the_extra_is_named_where_our_own_networks_do_not_compute_it(open_clip: Any) -> None:
    extras = {model.open_clip[0]: model.extra for model in known_models().values() if model.open_clip}
    for architecture, extra in sorted(extras.items()):
        try:
            read_model_cfg(open_clip.get_model_config(architecture), Options(), architecture)
            own = True
        except CheckpointError:
            own = False
        assert extra == (None if own else "convert-all"), architecture


def test_the_quickgelu_names_are_of_the_same_weights(open_clip: Any) -> None:
    listed = [(name, tag) for name, tag in open_clip.list_pretrained() if name.endswith("-quickgelu")]
    assert listed
    for architecture, tag in listed:
        plain = published_model(f"{architecture.removesuffix('-quickgelu')}:{tag}")
        assert published_model(f"{architecture}:{tag}") == plain


@pytest.mark.parametrize("name", OPENAI)
def test_both_spellings_and_the_tag(name: str) -> None:
    spellings = {name, name.replace("/", "-"), f"{name}:openai", name.replace("@336px", "-336")}
    assert {published_model(spelling).id for spelling in spellings} == {load_preset(name).name}


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("ViT-B/32:laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k"),
        ("ViT-B-32:laion2b-s34b-b79K", "ViT-B-32:laion2b_s34b_b79k"),
        ("hf-hub:laion/CLIP-ViT-g-14", "laion/CLIP-ViT-g-14"),
        ("https://huggingface.co/laion/CLIP-ViT-g-14/", "laion/CLIP-ViT-g-14"),
        ("vit-b-32", "ViT-B-32"),
        ("ViT-B-32__openai", "ViT-B-32"),
        ("ViT-B/32/openai", "ViT-B-32"),
        ("RN50-quickgelu:openai", "RN50"),
        ("ViT-L-14-336__openai", "ViT-L-14@336px"),
        ("ViT-B-32__laion2b-s34b-b79k", "ViT-B-32:laion2b_s34b_b79k"),
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "ViT-B-32:laion2b_s34b_b79k"),
        ("ViT-H-14-378-quickgelu__dfn5b", "ViT-H-14-378:dfn5b"),
        ("XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k", "xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k"),
        ("ViT-SO400M-16-SigLIP2-384__webli", "ViT-SO400M-16-SigLIP2-384:webli"),
        ("ViT-B-16-SigLIP2", "ViT-B-16-SigLIP2:webli"),
        ("jienengchen/ViTamin-S", "ViTamin-S:datacomp1b"),
    ],
)
def test_other_ways_to_write_a_name(name: str, same_as: str) -> None:
    assert published_model(name) == published_model(same_as)


# Those that immich offers; see machine-learning/immich_ml/models/constants.py there.
IMMICH = (
    "RN101__openai", "RN101__yfcc15m", "RN50__cc12m", "RN50__openai", "RN50__yfcc15m", "RN50x16__openai",
    "RN50x4__openai", "RN50x64__openai", "ViT-B-16-SigLIP-256__webli", "ViT-B-16-SigLIP-384__webli",
    "ViT-B-16-SigLIP-512__webli", "ViT-B-16-SigLIP-i18n-256__webli", "ViT-B-16-SigLIP__webli",
    "ViT-B-16-plus-240__laion400m_e31", "ViT-B-16-plus-240__laion400m_e32", "ViT-B-16__laion400m_e31",
    "ViT-B-16__laion400m_e32", "ViT-B-16__openai", "ViT-B-32__laion2b-s34b-b79k", "ViT-B-32__laion2b_e16",
    "ViT-B-32__laion400m_e31", "ViT-B-32__laion400m_e32", "ViT-B-32__openai", "ViT-H-14-378-quickgelu__dfn5b",
    "ViT-H-14-quickgelu__dfn5b", "ViT-H-14__laion2b-s32b-b79k", "ViT-L-14-336__openai", "ViT-L-14-quickgelu__dfn2b",
    "ViT-L-14__laion2b-s32b-b82k", "ViT-L-14__laion400m_e31", "ViT-L-14__laion400m_e32", "ViT-L-14__openai",
    "ViT-L-16-SigLIP-256__webli", "ViT-L-16-SigLIP-384__webli", "ViT-SO400M-14-SigLIP-384__webli",
    "ViT-g-14__laion2b-s12b-b42k", "XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k",
    "XLM-Roberta-Large-ViT-H-14__frozen_laion5b_s13b_b90k", "nllb-clip-base-siglip__mrl", "nllb-clip-base-siglip__v1",
    "nllb-clip-large-siglip__mrl", "nllb-clip-large-siglip__v1", "ViT-B-16-SigLIP2__webli",
    "ViT-B-32-SigLIP2-256__webli", "ViT-L-16-SigLIP2-256__webli", "ViT-L-16-SigLIP2-384__webli",
    "ViT-L-16-SigLIP2-512__webli", "ViT-SO400M-14-SigLIP2-378__webli", "ViT-SO400M-14-SigLIP2__webli",
    "ViT-SO400M-16-SigLIP2-256__webli", "ViT-SO400M-16-SigLIP2-384__webli", "ViT-SO400M-16-SigLIP2-512__webli",
    "ViT-gopt-16-SigLIP2-256__webli", "ViT-gopt-16-SigLIP2-384__webli", "fg-clip2-base", "LABSE-Vit-L-14",
    "XLM-Roberta-Large-Vit-B-16Plus", "XLM-Roberta-Large-Vit-B-32", "XLM-Roberta-Large-Vit-L-14",
)  # fmt: skip


@pytest.mark.parametrize("name", IMMICH)
def test_what_immich_offers_is_known_by_its_names(name: str) -> None:
    model = published_model(name)
    assert model.name in known_models()
    # Its own exports are only taken where nothing else is published.
    exported = isinstance(model.source, Repository) and model.source.repo.startswith("immich-app/")
    assert exported == ("__" not in name)
    assert not exported or model.source == Repository(f"immich-app/{name}")
    assert published_model(f"immich-app/{name}").source == Repository(f"immich-app/{name}")


def test_what_the_files_do_not_say_is_known_of_some() -> None:
    assert published_model("nllb-clip-base-siglip__mrl").matryoshka_dimensions == (32, 64, 128, 256, 512, 768)
    assert published_model("ViT-SO400M-14-SigLIP-378:webli").image_size == 378
    assert "laion400m_e31" in (published_model("ViT-B-16-plus-240:laion400m_e32").note or "")
    clip = published_model("clip-ViT-B-32")
    assert clip.source == Repository("sentence-transformers/clip-ViT-B-32")


@pytest.mark.parametrize(
    ("name", "why", "instead"),
    [
        ("M-CLIP/XLM-Roberta-Large-Vit-L-14", "the text tower alone", "pull XLM-Roberta-Large-Vit-L-14`"),
        ("Qdrant/clip-ViT-B-32-vision", "the image tower alone", "pull ViT-B-32`"),
        ("clip-ViT-B-32-multilingual-v1", "a text tower alone", "pull xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k`"),
        ("nomic-ai/nomic-embed-vision-v1.5", "the image tower alone", "pull EVA02-B-16:merged2b_s8b_b131k`"),
    ],
)
def test_half_a_model_is_refused_with_the_nearest_whole_one(name: str, why: str, instead: str) -> None:
    with pytest.raises(HubError, match=f"cannot be served: .*{why}.*{instead}"):
        published_model(name)


def test_every_name_that_is_offered_instead_is_known() -> None:
    table = json.loads(resources.files("model").joinpath("hub", "names.json").read_text("utf-8"))
    for _, instead in table["not_served"].values():
        assert instead in known_models()
    offered = [*remote_code._NEAREST.values(), remote_code._OTHERWISE]
    assert set(offered) <= set(known_models())


def test_any_repository_of_the_hub() -> None:
    assert published_model("openai/clip-vit-base-patch32").source == Repository("openai/clip-vit-base-patch32", "main")
    assert published_model("org/name@refs/pr/7").source == Repository("org/name", "refs/pr/7")
    assert published_model("org/name@v1.0").id == "org--name@v1.0"


def test_every_id_can_be_a_bundles() -> None:
    ids = [published_model(name).id for name in [*known_models(), "a/b", "a.b/c_d@refs/pr/7"]]
    assert len(set(ids)) == len(ids)
    for identity in ids:
        load_preset("ViT-B-32").model_validate({**load_preset("ViT-B-32").model_dump(), "name": identity})


@pytest.mark.parametrize(
    "name",
    [
        "", "ViT-B-33", "ViT-B-32:nobody", "../etc", "a/../b", "/etc/passwd", "./a", "a/b/c", "org/name@", "org/na me",
        "org/name@a..b", "-x/--to", "org/" + "n" * 96, "a/b?c", "a/b#c", "org\n/name", "a/b@" + "r" * 100,
    ],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(HubError, match="ORGANISATION/NAME"):
        published_model(name)


def test_the_nearest_names_are_told() -> None:
    with pytest.raises(HubError, match="did you mean ViT-B-32"):
        published_model("ViT-B-3")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("ViT-B-32__opnai", r"did you mean ViT-B-32\?"),
        ("nllb-clip-base-siglip__mlr", r"did you mean nllb-clip-base-siglip:mrl\?"),
        ("MobileCLIP-S0", "did you mean MobileCLIP2-S0:dfndr2b or"),
        ("PE-Core-B", "did you mean PE-Core-B-16:meta or"),
        ("XLM-Roberta-Large-ViT-B-16", "did you mean XLM-Roberta-Large-Vit-B-16Plus or"),
        ("coca_ViT-B-32", "there is coca_ViT-B-32:laion2b_s13b_b90k, coca_ViT-B-32:mscoco_finetuned_laion2b"),
        ("ViT-B-32:nobody", "there is ViT-B-32, ViT-B-32:laion400m_e31, .* and 14 more"),
    ],
)
def test_a_wrong_name_suggests_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(HubError, match=suggestion):
        published_model(name)


def test_an_endless_name_is_compared_with_nothing() -> None:
    with pytest.raises(HubError, match="ORGANISATION/NAME") as refused:
        published_model("ViT-B-32:" + "x" * 10_000_000)
    assert len(str(refused.value)) < 600


def test_the_list_says_what_an_import_needs() -> None:
    lines = CliRunner().invoke(app, ["models"], catch_exceptions=False).stdout.splitlines()
    by_name = {line.split()[0]: line for line in lines}
    assert set(known_models()) <= set(by_name)
    assert by_name["PE-Core-B-16:meta"].endswith("hub: timm/PE-Core-B-16  needs the extra `convert-all`")
    assert by_name["ViT-B-16-SigLIP2:webli"].endswith("hub: timm/ViT-B-16-SigLIP2")
    assert any("laion400m_e31 under this name" in line for line in lines)
