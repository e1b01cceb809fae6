"""Any name of a module, as a class."""

from __future__ import annotations


class _Any(type):
    """A class that has every attribute, so that default arguments and decorators of an unused module evaluate."""

    def __getattr__(cls, name: str) -> str:
        return name


def declared(name: str) -> type:
    """What the `__getattr__` of a module gives."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _Any(name, (), {})
