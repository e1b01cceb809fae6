"""Paths and addresses as settings have them. What is wrong is a ValueError with a sentence for the operator."""

from __future__ import annotations

import re
from importlib.util import find_spec

from model.images.decoder_names import MODULES, DecoderName
from model.requirements import pip_install

MAX_ROOT_PATH_CHARACTERS = 200
# Characters that need no escape anywhere, as it goes into HTML, scripts and JSON; `//host` would be another host, and a
# segment of dots is taken off by clients.
_ROOT_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
# Those that Vertex AI chooses itself end in :predict.
_ROUTE = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~:-]+)+")
MAX_SERVER_CHARACTERS = 1000
MAX_WORKERS = 256
_SERVER = re.compile(
    r"https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?"
)


def check_root_path(path: str) -> str:
    """A path that goes in front of all others, or nothing."""
    if path and (len(path) > MAX_ROOT_PATH_CHARACTERS or not _ROOT_PATH.fullmatch(path)):
        raise ValueError(
            "must be a path such as /clip, which begins with / and does not end with one, of letters, digits and -._~, "
            f"without . or .. between slashes, and of at most {MAX_ROOT_PATH_CHARACTERS} characters; empty for none"
        )
    return path


def check_route(path: str) -> str:
    """A path of the operator's choice, or nothing."""
    if path and (len(path) > MAX_ROOT_PATH_CHARACTERS or not _ROUTE.fullmatch(path)):
        raise ValueError(
            "must be a path such as /v1/predict, which begins with / and does not end with one, of letters, digits and "
            f"-._~:, without . or .. between slashes, and of at most {MAX_ROOT_PATH_CHARACTERS} characters"
        )
    return path


def check_server(url: str) -> str:
    """Where another server of the operator is, or nothing."""
    if url and (len(url) > MAX_SERVER_CHARACTERS or not _SERVER.fullmatch(url)):
        raise ValueError("must be a URL such as http://immich-machine-learning:3003, without user name or query")
    return url


def check_decoder(name: DecoderName) -> DecoderName:
    """A decoder that is installed."""
    module = MODULES[name]
    if module is not None and find_spec(module) is None:
        raise ValueError(f"{name} needs {module}, of which there are builds for x86-64: {pip_install(name)}")
    return name


def parse_workers(value: object) -> object:
    """A number of processes, or `auto`."""
    text = str(value).strip().lower()
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_WORKERS):
        raise ValueError(f"must be a number of processes from 1 to {MAX_WORKERS}, or auto")
    return int(text)
