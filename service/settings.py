"""Settings. Precedence: flags, environment, `.env`, files in /run/secrets, the defaults here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSettingError

from model import environment
from model.environment import ENCODING, ENV_FILE, EnvironmentFileError
from model.images.decoder_names import DecoderName
from model.suggestions import did_you_mean
from service import platforms
from service.addresses import HostRule, parse_network
from service.setting_values import check_decoder, check_root_path, check_route, check_server, parse_workers

PREFIX = environment.PREFIX
SECRETS_FOLDER = Path("/run/secrets")  # where container engines mount secrets, each as a file named like its variable
MAX_TEXT_CHARACTERS = 10_000  # tokenized of a text: many times a context, at 10 µs each at most
MAX_PREDICTIONS = 250_000
MAX_LABEL_SETS = 1_000
OPENAI_ITEMS = 2048  # in one request, as its documentation says
MAX_BYTES, MAX_COUNT = 2**50, 10**9  # of a setting: anything above is a typing error
MAX_DEVICE = 255
MIN_GPU_MEMORY = 256 * 2**20  # less holds no model


ApiName = Literal[
    "openai", "jina", "huggingface", "cohere", "voyage", "tei", "infinity", "weaviate", "roboflow", "ollama",
    "open-inference", "immich", "sagemaker",
]  # fmt: skip
API_NAMES: tuple[ApiName, ...] = get_args(ApiName)


class SettingsError(ValueError):
    """A setting has a value that it cannot have; the message names the setting and says what is expected."""


def _split_commas(value: object) -> object:
    return tuple(name for part in value.split(",") if (name := part.strip())) if isinstance(value, str) else value


def _validate_each(parse: Callable[[str], object]) -> AfterValidator:
    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse(name)
        return names

    return AfterValidator(check)


def _check_api(name: str) -> None:
    if name not in API_NAMES:
        guess = did_you_mean(name, API_NAMES, most=1)
        raise ValueError(f"there are {', '.join(API_NAMES)}{f': {guess}' if guess else ''}")


def _check_alias(text: str) -> None:
    alias, _, model = text.partition("=")
    if not (alias.strip() and model.strip()):
        raise ValueError("must be ALIAS=MODEL, such as text-embedding-3-small=sightword-small, separated by commas")


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


class Settings(BaseSettings):
    """The settings of the service; each is a flag and a variable SIGHTWORD_..."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding=ENCODING, extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of them.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one and logs it.")
    root_path: Annotated[str, AfterValidator(check_root_path)] = Field(
        "",
        description="Path under which a proxy shows this service, and which it takes off, such as /clip; for /docs and "
        "the schema.",
    )
    model: CommaSeparated = Field(
        (),
        description="Bundle folders to serve, or names of published models such as ViT-B-32, which are pulled first; "
        "separated by commas, the default one first; the bundled checkpoint if not given.",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt", "openvino"] = Field(
        "auto",
        description="auto, cpu, cuda, tensorrt (experimental) or openvino. One that is named and is not active stops "
        "the start.",
    )
    device: int = Field(0, ge=0, le=MAX_DEVICE, description="Number of the GPU to compute on.")
    workers: Annotated[Literal["auto"] | int, BeforeValidator(parse_workers)] = Field(
        1,
        description="Worker processes that serve the port together, each with the models and its part of the cores; "
        "auto for one for every 8 cores, or every 4 beside a GPU.",
    )
    gpu_memory_bytes: int | None = Field(
        None,
        ge=MIN_GPU_MEMORY,
        le=MAX_BYTES,
        description="Most memory of the GPU for models and their work, of all workers; no limit if not given.",
    )
    model_aliases: Annotated[CommaSeparated, _validate_each(_check_alias)] = Field(
        (),
        description="Further names by which clients may ask for a served model, as ALIAS=MODEL, separated by commas: "
        "text-embedding-3-small=sightword-small.",
    )
    apis: Annotated[CommaSeparated, _validate_each(_check_api)] = Field(
        API_NAMES,
        description="Compatible APIs to serve beside the native one, separated by commas; empty for none.",
    )
    predict_route: Annotated[str, AfterValidator(check_route)] = Field(
        "", description="Path at which /invocations is served, too; where not given, AIP_PREDICT_ROUTE of Vertex AI."
    )
    health_route: Annotated[str, AfterValidator(check_route)] = Field(
        "", description="Path at which /health/ready is, too; where not given, AIP_HEALTH_ROUTE of Vertex AI."
    )
    immich_forward_url: Annotated[str, AfterValidator(check_server)] = Field(
        "",
        description="Machine learning server of immich, http://immich-machine-learning:3003, that faces and OCR are "
        "passed on to; refused if not given.",
    )
    api_keys: SecretStr | None = Field(
        None, description="Keys that clients must send, separated by commas; open to everybody if there are none."
    )
    api_keys_file: Path | None = Field(None, description="File of such keys, one a line; read again on SIGHUP.")
    admin_key: SecretStr | None = Field(None, description="Key for /admin; without one, /admin is closed.")
    redis_url: SecretStr | None = Field(
        None, description="redis://... or rediss://..., for the shared cache and the label sets."
    )
    redis_prefix: str = Field("sightword:", description="What every key in Redis begins with.")
    cache_bytes: int = Field(
        256 * 2**20, ge=0, le=MAX_BYTES, description="Memory for the cache, which workers share; 0 for none."
    )
    cache_ttl_s: int = Field(
        7 * 86_400, ge=1, le=10 * 365 * 86_400, description="How long a cached vector is kept, here and in Redis."
    )
    label_sets: Path = Field(Path("label-sets"), description="Folder for label sets, where Redis is not configured.")
    url_hosts: Annotated[CommaSeparated, _validate_each(HostRule.parse)] = Field(
        (),
        description="Hosts whose https pictures may be fetched, separated by commas: example.com, *.example.com, "
        "example.com:8443; no URLs are fetched if not given.",
    )
    url_networks: Annotated[CommaSeparated, _validate_each(parse_network)] = Field(
        (),
        description="Private networks that those hosts may be in, such as 10.0.0.0/8; public addresses only if not "
        "given.",
    )
    max_body_bytes: int = Field(
        32 * 2**20,
        ge=1024,
        le=MAX_BYTES,
        description="Largest request body, counted as received, and largest fetched picture.",
    )
    decoder: Annotated[DecoderName, AfterValidator(check_decoder)] = Field(
        "pillow",
        description="pillow, or simd: RGB pictures are resized by vector instructions, which takes the extra simd.",
    )
    max_image_pixels: int = Field(50_000_000, ge=1, le=MAX_COUNT, description="Largest picture, told from its header.")
    max_items: int = Field(512, ge=1, le=MAX_COUNT, description="Most items in one list of a request.")
    max_compatible_items: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="The same for compatible APIs; not given, it is max_items where that is, else the 2048 of OpenAI.",
    )
    max_labels: int = Field(
        10_000, ge=1, le=MAX_COUNT, description="Most labels, and most labels times templates, in one request."
    )
    queue_items: int = Field(
        1024, ge=1, le=MAX_COUNT, description="Most items at work or waiting; more are answered 429."
    )
    queue_bytes: int = Field(
        256 * 2**20,
        ge=1024,
        le=MAX_BYTES,
        description="Most bytes of bodies, fetched pictures and unread answers held; more are answered 429.",
    )
    max_batch: int | None = Field(None, ge=1, le=4096, description="Largest batch; measured at warm-up if not given.")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="A request not answered by then gets 504.")
    drain_s: float = Field(30.0, ge=0, le=3600, description="Time to finish accepted work after SIGTERM.")
    truncate: bool = Field(False, description="What `truncate` is where a request does not say.")
    log_format: Literal["text", "json"] = Field(
        default_factory=lambda: "text" if sys.stderr.isatty() else "json",
        description="text or json; text on a terminal, else json.",
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What platforms say comes last, before the defaults."""
        platform = InitSettingsSource(settings_cls, init_kwargs=platforms.read(os.environ))
        return (*sources, *named.values(), platform)

    @classmethod
    def read(cls, flags: Mapping[str, Any], secrets: Path = SECRETS_FOLDER) -> Settings:
        """Read all sources; flags that are None were not given. Raises SettingsError."""
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            environment.read_file()
            return cls(_secrets_dir=secrets if secrets.is_dir() else None, **given)
        except EnvironmentFileError as error:
            raise SettingsError(str(error)) from None
        except UnreadableSettingError as error:  # only files are read there; the cause may quote what they hold
            setting = str(error).partition(" from source")[0]
            raise SettingsError(f"{setting}: its file in {secrets} cannot be read, or is not UTF-8") from None
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "?"
            variable = platforms.variable_of(name, os.environ)
            of_platform = f", or {variable}" if variable else ""
            setting = f"{PREFIX}{name.upper()} (--{name.replace('_', '-')}{of_platform})"
            raise SettingsError(f"{setting}: {_describe(first)}") from None

    def limits(self) -> dict[str, int | float | None]:
        """The limits that a client can exceed, as /info shows them."""
        names = (
            "max_body_bytes", "max_image_pixels", "max_items", "max_labels", "queue_items",
            "queue_bytes", "timeout_s",
        )  # fmt: skip
        fixed = {
            "max_compatible_items": self.compatible_items(),
            "max_text_characters": MAX_TEXT_CHARACTERS,
            "max_predictions": MAX_PREDICTIONS,
            "max_label_sets": MAX_LABEL_SETS,
        }
        return {name: getattr(self, name) for name in names} | fixed

    def compatible_items(self) -> int:
        """The most items in one list of a request of a compatible API: who lowers one limit means both."""
        if self.max_compatible_items is not None:
            return self.max_compatible_items
        return self.max_items if "max_items" in self.model_fields_set else OPENAI_ITEMS

    def aliases(self) -> dict[str, str]:
        """The ids of models by their further names."""
        pairs = (text.partition("=") for text in self.model_aliases)
        return {alias.strip(): model.strip() for alias, _, model in pairs}

    def redacted(self) -> dict[str, Any]:
        """Every setting as JSON for /info; a secret as asterisks."""
        return self.model_dump(mode="json")


def unknown_variables(settings: Settings | None = None) -> dict[str, str]:
    """Variables SIGHTWORD_... that nothing reads, each with a suggestion of the one that was meant, or "".

    Raises SettingsError where one may have been meant to hold a key: without keys in `settings`, the service would be
    open.
    """
    try:
        unknown = environment.unknown_variables()
        sent_by_clients = f"{PREFIX}API_KEY"
        if sent_by_clients in environment.defined() and not (
            settings and (settings.api_keys or settings.api_keys_file)
        ):
            unknown[sent_by_clients] = f"a client sends it; did you mean {sent_by_clients}S?"
    except EnvironmentFileError as error:
        raise SettingsError(str(error)) from None
    for name, suggestion in unknown.items():
        if "KEY" in name:
            raise SettingsError(f"{name} is not a setting: {suggestion or 'those for keys are in --help'}")
    return unknown


def _describe(first: ErrorDetails) -> str:
    """What is wrong with a value, and the nearest valid one of a few; the value itself is never repeated."""
    message = first["msg"].removeprefix("Value error, ")
    choices = ["true", "false"] if first["type"] == "bool_parsing" else _choices(str(first["loc"][0]))
    suggestion = did_you_mean(str(first["input"]), choices, most=1)
    return f"{message}: {suggestion}" if suggestion else message


def _choices(name: str) -> list[str]:
    field = Settings.model_fields.get(name)
    return [choice for choice in get_args(field.annotation) if isinstance(choice, str)] if field else []
