"""What the exit codes of the command mean, and how an error becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from sightword.errors import InvalidApiKeyError, RefusedError, SightwordError

SOME_FAILED, USAGE, NOT_THERE = 1, 2, 3
EXPLAINED = (
    "Exit codes: 0, all is done. 1, the rest is done, but some items failed, each named on standard error. 2, the "
    "command has to change. 3, nothing could be done: no answer from the service, no such model, a package that is not "
    "installed. 130, interrupted. Those of `doctor`: 0, nothing is wrong; 1, something is."
)


class UsageError(ValueError):
    """Something in the command has to change; the message says what."""


@contextmanager
def user_errors() -> Iterator[None]:
    """End the command with the message and the exit code of an error that a user can mend."""
    try:
        yield
    except UsageError as error:
        raise _end(str(error), USAGE) from error
    except SightwordError as error:
        refused = isinstance(error, RefusedError) and not isinstance(error, InvalidApiKeyError)
        raise _end(str(error), USAGE if refused else NOT_THERE) from error
    except BrokenPipeError:  # who reads the output has enough of it
        raise
    except OSError as error:
        raise _end(str(error), NOT_THERE) from error


def _end(message: str, code: int) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)
