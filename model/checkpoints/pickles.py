"""What a pickle says, without doing it: every class and function in it stays a name, every call a note of the call.

Only the instructions that torch writes into TorchScript archives are known; any other refuses the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

_MAX_INSTRUCTIONS = 2_000_000


class PickleError(ValueError):
    """A pickle that torch does not write."""


@dataclass(frozen=True)
class Name:
    """A class or function that unpickling would have imported."""

    path: str


@dataclass(eq=False)
class Call:
    """A call that unpickling would have made."""

    function: Any
    arguments: Any


@dataclass(eq=False)
class Instance:
    """An object that unpickling would have made, and the state it would have got."""

    of: Any
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Stored:
    """A reference to something beside the pickle."""

    key: Any


_MARK = object()
_EMPTY: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
_PACKAGES = ("__torch__", "torch", "collections")  # all that modules, tensors and lists are made with
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def interpret(pickled: bytes) -> Any:
    """The content of a pickle: plain values, and Name, Call, Instance and Stored. Raises PickleError."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if count >= _MAX_INSTRUCTIONS:
                raise PickleError(f"it has more than {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    # A forged stream makes the library, or a step of ours, fail in any way that ends in one of these.
    except (ValueError, TypeError, LookupError, OverflowError, EOFError) as error:
        raise PickleError(f"it is damaged: {error}") from error
    raise PickleError("it has no end")


def imports(stream: IO[bytes]) -> Iterator[str]:
    """What unpickling the next pickle of a stream would import, by name.

    The stream is left behind the pickle. Raises PickleError where torch would not read it, at its end at the latest.
    """
    strings, protocols = ["", ""], {"2"}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= _MAX_INSTRUCTIONS:
                raise PickleError(f"it has more than {_MAX_INSTRUCTIONS} instructions")
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(strings)
            elif opcode.name == "PROTO":
                protocols.add(str(argument))
            elif isinstance(argument, str):
                strings = [strings[1], argument]
    except PickleError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, EOFError, MemoryError) as error:
        raise PickleError(f"it is damaged: {error}") from error
    if protocols != {"2"}:
        raise PickleError(f"it is written in protocol {max(protocols)}, not in 2")


class _Machine:
    """The stack and the memo of a pickle's instructions."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise PickleError("it takes a mark for a value")
        return value

    def step(self, name: str, argument: Any) -> None:
        if name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _TUPLES:
            self._stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self.pop()
            self._stack.append(self._memo[argument])
        elif name == "PROTO":
            if argument != 2:
                raise PickleError(f"it is written in protocol {argument}, not in 2")
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            path = argument.replace(" ", ".")
            if path.partition(".")[0] not in _PACKAGES:
                raise PickleError(f"it would run {path:.100} when unpickled: refused, nothing was executed")
            self._stack.append(Name(path))
        elif name == "TUPLE":
            self._stack.append(tuple(self._pop_marked()))
        elif name == "BINPERSID":
            self._stack.append(Stored(self.pop()))
        elif name == "REDUCE":
            arguments = self.pop()
            self._stack.append(Call(self.pop(), arguments))
        elif name == "NEWOBJ":
            self.pop()
            self._stack.append(Instance(self.pop()))
        elif name == "BUILD":
            state = self.pop()
            self._top(Instance).state = _expect(dict, state)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self._pop_marked()
            self._set(items)
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self._pop_marked()
            self._top(list).extend(items)
        else:
            raise PickleError(f"it has an instruction {name}, which torch does not write")

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise PickleError("it has a key without a value")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple as a key would be hashed to any depth.
            if not isinstance(key, str | int):
                raise PickleError(f"it has a {type(key).__name__} as a key")
            target[key] = value

    def _pop_marked(self) -> list[Any]:
        items = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _top(self, kind: type) -> Any:
        return _expect(kind, self._stack[-1])


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise PickleError(f"it has a {type(value).__name__} in the place of a {kind.__name__}")
    return value
