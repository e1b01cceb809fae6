"""Variables of the environment, or of a file `.env`, that nothing reads: most likely misspelt, and all programs say so.

The programs of this project share a prefix and often an `.env`, so each must know what the others read.
"""

from __future__ import annotations

import difflib
import os
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from model.files import read_regular_file
from model.suggestions import did_you_mean

PREFIX = "SIGHTWORD_"
ENV_FILE = ".env"
MAX_BYTES = 2**20  # more is not read
ENCODING = "utf-8-sig"  # editors of Windows begin a file with a mark, which would be a part of the first name
# By program; each holds its own against the fields of its settings, in a test.
SERVICE = (
    "HOST", "PORT", "ROOT_PATH", "MODEL", "PROVIDER", "API_KEYS", "API_KEYS_FILE", "ADMIN_KEY", "REDIS_URL",
    "REDIS_PREFIX", "CACHE_BYTES", "CACHE_TTL_S", "LABEL_SETS", "URL_HOSTS", "URL_NETWORKS", "MAX_BODY_BYTES",
    "MAX_IMAGE_PIXELS", "MAX_ITEMS", "MAX_LABELS", "QUEUE_ITEMS", "QUEUE_BYTES", "MAX_BATCH", "TIMEOUT_S", "DRAIN_S",
    "TRUNCATE", "LOG_FORMAT", "DEVICE", "GPU_MEMORY_BYTES", "MODEL_ALIASES", "APIS",
    "MAX_COMPATIBLE_ITEMS", "PREDICT_ROUTE", "HEALTH_ROUTE", "IMMICH_FORWARD_URL", "WORKERS", "DECODER",
)  # fmt: skip
HUB = ("HOME", "OFFLINE", "OFFLINE_FOLDER", "OPENAI_MIRROR")
TRAINING = ("TRAINING_CONFIG", "TRAINING_OUTPUT", "TRAINING_CORPUS", "TRAINING_CACHE", "TRAINING_PHOTOS")
CLIENT = ("URL", "API_KEY")
COMPOSE = ("GPU_PORT",)  # of docker-compose.yml, which reads the same `.env`
VARIABLES = tuple(PREFIX + name for name in (*SERVICE, *HUB, *TRAINING, *CLIENT, *COMPOSE))
HUGGING_FACE = ("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE")  # as its own tools call them; others begin so, too
_LIKE_ANOTHERS = 0.9
_LIKE_THE_PREFIX = 0.8  # similarity from which another first word is ours, misspelt


class EnvironmentFileError(ValueError):
    """The file `.env` cannot be read; the message says why."""


def unknown_variables() -> dict[str, str]:
    """By the name of each variable that is ours and that nothing reads, what is offered instead, or nothing.

    Raises EnvironmentFileError.
    """
    known = (*VARIABLES, *HUGGING_FACE)
    return {name: did_you_mean(name, known, most=1) for name in sorted(defined() - {*known}) if _is_ours(name)}


def defined() -> set[str]:
    """The names of all variables, of the environment and of `.env`. Raises EnvironmentFileError."""
    return {name.upper() for name in (*os.environ, *dotenv_values(stream=StringIO(read_file())))}


def complaints() -> list[str]:
    """A sentence for each of them, and one for a file that cannot be read."""
    try:
        found = unknown_variables()
    except EnvironmentFileError as error:
        return [str(error)]
    return [f"{name} is read by nothing here" + (f": {offer}" if offer else "") for name, offer in found.items()]


def read_file() -> str:
    """The text of `.env`, empty where there is none. Raises EnvironmentFileError, also for a FIFO, and before others
    wait for it."""
    file = Path(ENV_FILE)
    if not file.exists() or file.is_dir():  # a virtual environment may be called so
        return ""
    try:
        return read_regular_file(file, MAX_BYTES)[0].decode(ENCODING)
    except UnicodeDecodeError as error:
        raise EnvironmentFileError(f"{ENV_FILE} is not UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise EnvironmentFileError(f"{ENV_FILE} cannot be read: {error.strerror}") from None


def _is_ours(name: str) -> bool:
    if name.startswith("HF_"):
        return bool(difflib.get_close_matches(name, HUGGING_FACE, cutoff=_LIKE_ANOTHERS))
    first = name.partition("_")[0] + "_"
    return first == PREFIX or difflib.SequenceMatcher(None, first, PREFIX).ratio() > _LIKE_THE_PREFIX
