"""The names of published models: OpenAI's, open_clip's tags, immich's, and any repository of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from model.hub.errors import HubError
from model.hub.spelling import display_key, plain_name, spelling_key, spelling_keys
from model.suggestions import nearest

# Two names with one slash; neither can begin with a dot, so that a path such as ./bundle is none.
_REPOSITORY = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?", re.ASCII
)
_ID_CHARACTERS = 100  # of a bundle
_NAME_CHARACTERS = 300  # with a revision
_SHOWN_TAGS = 8
_IMMICH, _SENTENCE_TRANSFORMERS = "immich-app", "sentence-transformers"


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
    weights: str | None = None  # the file that open_clip names; else it is one of the usual ones
    open_clip: tuple[str, str] | None = None  # architecture and tag, of those that open_clip lists


@dataclass(frozen=True)
class PublishedModel:
    """A published model under its canonical name, and what is known of it that its files do not say."""

    name: str
    source: Archive | Repository
    parameters_million: int | None = None
    extra: str | None = None  # of the optional dependencies, which its import needs beside `convert`
    image_size: int | None = None  # where the tag stands for another one than its repository
    matryoshka_dimensions: tuple[int, ...] = ()
    note: str | None = None  # to be told whenever it is pulled

    @property
    def open_clip(self) -> tuple[str, str] | None:
        """Architecture and tag of a model that open_clip lists, but for OpenAI's."""
        return self.source.open_clip if isinstance(self.source, Repository) else None

    @property
    def id(self) -> str:
        """The name as a bundle can have it, and a folder."""
        return re.sub("[/:]", "--", self.name)


@cache
def known_models() -> dict[str, PublishedModel]:
    """By canonical name, the models of names.json: OpenAI's, open_clip's tags, and what only others publish."""
    return {model.name: model for model in _read_models(_table())}


def find_known(name: str) -> PublishedModel | None:
    """The model of names.json that `name` means, in any spelling of those who publish models or serve them."""
    if len(name) > _NAME_CHARACTERS:
        return None
    models = _by_spelling()
    return next((models[key] for key in spelling_keys(plain_name(name)) if key in models), None)


def published_model(name: str) -> PublishedModel:
    """The model that `name` means: a known one, or a repository of the hub.

    Raises HubError with the nearest names, and for half a model with the whole one that is nearest.
    """
    known = find_known(name)
    if known is not None:
        return known
    name = plain_name(name)
    _refuse_half_a_model(name)
    match = _REPOSITORY.fullmatch(name)
    if match is not None and ".." not in name:
        return _of_the_hub(name, match["repo"], match["revision"])
    raise HubError(
        f"{name[:_NAME_CHARACTERS]!r} is no model that is known by name: {_suggestion(name)}`python -m model models` "
        "lists those that are, and any other on the Hugging Face hub is named ORGANISATION/NAME"
    )


def is_repository(name: str) -> bool:
    """Whether it is ORGANISATION/NAME, which may be a path below a folder, too."""
    return _REPOSITORY.fullmatch(name) is not None and "@" not in name and ".." not in name


def nearest_names(wrong: str, most: int = 3) -> list[str]:
    """The canonical names whose spelling is nearest to a wrong one, or to the name of a repository."""
    by_text = {display_key(key): model.name for key, model in _by_spelling().items()}
    wrong_text = display_key(next(iter(spelling_keys(wrong))))
    found = [by_text[text] for text in nearest(wrong_text, by_text, most=3 * most, cutoff=0.5)]
    return list(dict.fromkeys(found))[:most]


def _of_the_hub(name: str, repo: str, revision: str | None) -> PublishedModel:
    for model in known_models().values():  # whose files do not say what they are
        if isinstance(model.source, Repository) and model.source.weights and model.source.repo == repo:
            return model
    model = PublishedModel(name, Repository(repo, revision or "main"))
    if len(model.id) > _ID_CHARACTERS:
        raise HubError(f"{name!r} is too long: {_ID_CHARACTERS} characters as ORGANISATION/NAME@REVISION are the most")
    return model


def _refuse_half_a_model(name: str) -> None:
    refused = _table()["not_served"]
    for repo in (name.partition("@")[0], f"{_SENTENCE_TRANSFORMERS}/{name}"):
        if repo in refused:
            why, instead = refused[repo]
            raise HubError(f"{repo} cannot be served: {why}. The nearest that can: `python -m model pull {instead}`")


def _suggestion(name: str) -> str:
    if len(name) > _NAME_CHARACTERS:
        return ""
    architecture, tag = next(iter(spelling_keys(name)))
    tags = [key[1] for key in _by_spelling() if key[0] == architecture and key[1]]
    if not tags:
        names = nearest_names(name)
        return f"did you mean {' or '.join(names)}? " if names else ""
    if near := nearest(tag, tags, cutoff=0.5):
        found = [_by_spelling()[architecture, each].name for each in near]
        return f"did you mean {' or '.join(found)}? "
    named = [_by_spelling()[architecture, each].name for each in tags[:_SHOWN_TAGS]]
    more = f" and {len(tags) - _SHOWN_TAGS} more" if len(tags) > _SHOWN_TAGS else ""
    return f"there is {', '.join(named)}{more}. "


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(resources.files("model").joinpath("hub", "names.json").read_text("utf-8"))
    return table


def _read_models(table: dict[str, Any]) -> Iterator[PublishedModel]:
    for name, entry in table["openai"].items():
        yield PublishedModel(name, Archive(entry["url"], entry["sha256"], entry["hub"]), entry["parameters_million"])
    for architecture, entry in table["open_clip"].items():
        for tag, place in entry["tags"].items():
            name = f"{architecture}:{tag}"
            owner, repo, *file = place.split("/")
            yield PublishedModel(
                name,
                Repository(f"{owner}/{repo}", "main", file[0] if file else None, (architecture, tag)),
                entry["parameters_million"],
                entry.get("extra"),
                table["image_size"].get(name),
                tuple(table["matryoshka_dimensions"].get(name, ())),
                table["notes"].get(name),
            )
    for owner, section in ((_IMMICH, "immich"), (_SENTENCE_TRANSFORMERS, "sentence_transformers")):
        for name, millions in table[section].items():
            yield PublishedModel(name, Repository(f"{owner}/{name}"), millions)


def _by_spelling() -> dict[tuple[str, str], PublishedModel]:
    return _index(tuple(known_models().values()))


@lru_cache(maxsize=2)
def _index(known: tuple[PublishedModel, ...]) -> dict[tuple[str, str], PublishedModel]:
    """By what `spelling_keys` gives; without a tag it is OpenAI's, or the only one of an architecture."""
    models: dict[tuple[str, str], PublishedModel] = {}
    tags = Counter(model.open_clip[0] for model in known if model.open_clip)
    for model in known:
        architecture, tag = model.open_clip or (model.name, "openai" if isinstance(model.source, Archive) else "")
        models[spelling_key(architecture, tag)] = model
        if isinstance(model.source, Archive):
            models[spelling_key(architecture)] = model
        elif tags[architecture] == 1:
            models.setdefault(spelling_key(architecture), model)
    return models
