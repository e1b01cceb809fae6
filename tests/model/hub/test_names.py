"""Names, and what is published under them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from model.checkpoints.checkpoint import Options
from model.checkpoints.openclip.config import read_model_cfg
from model.config import load_preset
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


def test_the_tags_are_open_clips(table: dict[str, dict[str, dict[str, Any]]]) -> None:
    tagged = {name: model.source for name, model in known_models().items() if isinstance(model.source, Repository)}
    assert len(tagged) > 50
    for name, repository in tagged.items():
        architecture, tag = name.split(":")
        assert f"{repository.repo}/" == table[architecture][tag]["hf_hub"]


def test_only_architectures_that_can_be_imported(open_clip: Any) -> None:
    tagged = {name.partition(":")[0] for name, model in known_models().items() if isinstance(model.source, Repository)}
    for architecture in sorted(tagged):
        read_model_cfg(open_clip.get_model_config(architecture), Options(), architecture)


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
    ],
)
def test_other_ways_to_write_a_name(name: str, same_as: str) -> None:
    assert published_model(name) == published_model(same_as)


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
