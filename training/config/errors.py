"""What is wrong with a configuration, field by field, with the nearest valid name of a misspelt field or value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from encodings.aliases import aliases
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from model.suggestions import did_you_mean, nearest, not_one_of

Fields = type[BaseModel]


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field."""


def describe(error: ValidationError, config: Fields) -> list[str]:
    """A line for each mistake, which names the field by its dotted path."""
    return [_describe_one(each, config) for each in error.errors(include_url=False)]


def _describe_one(error: Any, config: Fields) -> str:
    path = error["loc"]
    name = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such field{_suggest_field(path, error['input'], config)}"
    if error["type"] == "literal_error":
        allowed = re.findall("'([^']*)'", error["ctx"]["expected"])
        return f"{name}: {not_one_of(str(error['input']), allowed)}"
    if error["type"] == "missing":
        return f"{name}: must be given"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def _suggest_field(path: tuple[str | int, ...], value: Any, config: Fields) -> str:
    """Where a name that is no field belongs, or which field of its own section or of another is nearest."""
    *outer, wrong = path
    section = _section_at(config, outer)
    wrong = str(wrong)
    if section is None:
        return ""
    near = nearest(wrong, section.model_fields)
    if near:
        return f": did you mean {' or '.join(near)}?{_suggest_nested(near[0], value, section)}"
    places: dict[str, list[str]] = {}
    for name in _all_fields(config, with_sections=isinstance(value, Mapping)):
        places.setdefault(name.rpartition(".")[2], []).append(name)
    if wrong in places:
        owners = [name.rpartition(".")[0] or "the top level" for name in places[wrong]]
        return f" here: {wrong} belongs under {' or '.join(owners)}"
    found = [field for name in nearest(wrong, places) for field in places[name]]
    if found:
        return f": did you mean {' or '.join(found[:3])}?"
    return f"; there are {', '.join(section.model_fields)}"


def _suggest_nested(name: str, value: Any, section: Fields) -> str:
    """Of a section with a wrong name, the wrong names in it: they would be found one run later."""
    inner = _section(section.model_fields[name].annotation)
    if inner is None or not isinstance(value, Mapping):
        return ""
    wrong = [(each, nearest(str(each), inner.model_fields)) for each in value if each not in inner.model_fields]
    corrections = [f"{each} is {name}.{' or '.join(near)}" for each, near in wrong if near]
    return f" ({', '.join(corrections)})" if corrections else ""


def _section_at(config: Fields, path: list[str | int]) -> Fields | None:
    """The section that `path` leads to, through lists."""
    section: Fields | None = config
    for part in path:
        if section is not None and isinstance(part, str):
            field = section.model_fields.get(part)
            section = _section(field.annotation) if field else None
    return section


def _section(annotation: Any) -> Fields | None:
    """The model that a field holds, or a list of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section(each))), None)


def _all_fields(config: Fields, with_sections: bool, before: str = "") -> Iterator[str]:
    """The dotted paths of all fields, those of lists without numbers; of sections, where they are wanted, too."""
    for name, field in config.model_fields.items():
        inner = _section(field.annotation)
        if with_sections or inner is None:
            yield before + name
        if inner is not None:
            yield from _all_fields(inner, with_sections, f"{before}{name}.")


def known_encoding(name: str | None) -> str | None:
    """The name of a text encoding as it is. Raises ValueError with the nearest ones."""
    try:
        "".encode(name or "utf-8")
    except LookupError as error:
        raise ValueError(f"there is no encoding {name!r}. {did_you_mean(name or '', aliases.values())}") from error
    return name
