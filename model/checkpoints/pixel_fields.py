"""Checks of the fields of preprocessing configurations, with refusals that name the field and its value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import CheckpointError, Options

MAX_NUMBER = 1e6  # of a mean, a deviation, a factor
MAX_SIDE = 4096  # the largest that an image tower is built for


def given(where: str, cfg: Any) -> dict[str, Any]:
    """The fields of a configuration that are there; both libraries take null for one that is not."""
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"{where} is a {type(cfg).__name__}, not a mapping of settings")
    return {name: value for name, value in cfg.items() if value is not None}


def side(field: str, value: Any) -> int:
    """The side of a square: a number, a pair, or height and width."""
    sides = value
    if isinstance(value, dict) and set(value) == {"height", "width"}:
        sides = [value["height"], value["width"]]
    elif isinstance(value, int):
        sides = [value]
    whole = isinstance(sides, list | tuple) and all(type(side) is int and 0 < side < MAX_NUMBER for side in sides)
    if not whole or not sides:
        raise unsupported(field, value)
    if len(set(sides)) != 1:
        raise unsupported(field, value, ": a bundle takes pictures that are square, so both sides must be equal")
    return int(sides[0])


def towers_size(size: int, image_size: int, options: Options, resize_size: int | None = None) -> int:
    """The size that pictures are given, which must be the tower's unless the user named another."""
    if options.image_size is not None:
        size = image_size = options.image_size
    if size != image_size:
        cropped = "" if resize_size is None else f", which it crops to {size} after it resizes to {resize_size}"
        raise CheckpointError(
            f"the preprocessing gives pictures of {size} pixels{cropped}, the image tower takes {image_size}: "
            "say which with --image-size"
        )
    if not 0 < size <= MAX_SIDE:
        raise CheckpointError(f"pictures of {size} pixels are not supported: choose a size from 1 to {MAX_SIDE}")
    return size


def channels(field: str, value: Any, above: float = -math.inf) -> tuple[float, ...]:
    """One number for each of three channels, each greater than `above`; a single one is of all."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    finite = all(isinstance(number, int | float) and abs(number) < MAX_NUMBER for number in numbers)
    if not (finite and len(numbers) == 3 and min(numbers) > above):
        raise unsupported(field, value)
    return numbers


def expect(cfg: Mapping[str, Any], field: str, *known: Any) -> None:
    """Raise CheckpointError where the field has none of the values that are known."""
    if cfg[field] not in known:
        raise unsupported(field, cfg[field], f": it must be {' or '.join(map(repr, known))}")


def unsupported(field: str, value: Any, remedy: str = "") -> CheckpointError:
    """The refusal of a value."""
    return CheckpointError(f"preprocessing with {field} {value!r:.200} is not supported{remedy}")
