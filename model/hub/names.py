"""The names of published models: OpenAI's nine, open_clip's tags, and any repository on the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from model.hub.errors import HubError
from model.suggestions import did_you_mean

# Two names with one slash; neither can begin with a dot, so that a path such as ./bundle is none.
_REPOSITORY = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?", re.ASCII
)
_ID_CHARACTERS = 100  # of a bundle


@dataclass(frozen=True)
class Archive:
    """One of OpenAI's checkpoints, a plain file over https."""

    url: str
    sha256: str
    repo: str  # on the hub, with the same weights

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Repository:
    """A model on the Hugging Face hub."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True)
class PublishedModel:
    """A published model under its canonical name."""

    name: str
    source: Archive | Repository
    parameters_million: int | None = None

    @property
    def id(self) -> str:
        """The name as a bundle can have it, and a folder."""
        return re.sub("[/:]", "--", self.name)


@cache
def known_models() -> dict[str, PublishedModel]:
    """By canonical name, the models of names.json: OpenAI's and those that are open_clip's tags."""
    data = json.loads(resources.files("model").joinpath("hub", "names.json").read_text("utf-8"))
    models = {
        name: PublishedModel(name, Archive(entry["url"], entry["sha256"], entry["hub"]), entry["parameters_million"])
        for name, entry in data["openai"].items()
    }
    for architecture, entry in data["open_clip"].items():
        for tag, repo in entry["tags"].items():
            name = f"{architecture}:{tag}"
            models[name] = PublishedModel(name, Repository(repo), entry["parameters_million"])
    return models


def published_model(name: str) -> PublishedModel:
    """The model that `name` means, in any spelling. Raises HubError with the nearest names."""
    name = name.removeprefix("hf-hub:")
    canonical = _canonical(name)
    if canonical in known_models():
        return known_models()[canonical]
    match = _REPOSITORY.fullmatch(name)
    if match is not None and ".." not in name:
        source = Repository(match["repo"], match["revision"] or "main")
        model = PublishedModel(name, source)
        if len(model.id) <= _ID_CHARACTERS:
            return model
    near = did_you_mean(canonical, known_models(), cutoff=0.5)
    raise HubError(
        f"{name!r} is no model that is known by name: {near}{' ' if near else ''}`python -m model models` lists "
        "those that are, and any other on the Hugging Face hub is named ORGANISATION/NAME"
    )


def _canonical(name: str) -> str:
    """`ViT-B/32`, `ViT-B-32` and `ViT-B-32:openai` are one model, `ViT-L-14-336` is open_clip's word for another."""
    architecture, _, tag = name.replace("/", "-").partition(":")
    tag = tag.replace("-", "_").lower()
    if tag and tag != "openai":
        return f"{architecture}:{tag}"
    return re.sub(r"-336(px)?\Z", "@336px", architecture)
