"""Compatible APIs: the wire shapes of other services, each thin over the same pipeline.

A new one is a file here, its shapes in schema/compat/, its name in `ApiName` of service/settings.py, and a line below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fastapi import APIRouter

from service.errors import NATIVE_ERRORS, ErrorShape
from service.routes.compat import (
    cohere,
    huggingface,
    immich,
    infinity,
    jina,
    ollama,
    open_inference,
    openai,
    roboflow,
    sagemaker,
    tei,
    voyage,
    weaviate,
)
from service.schema.compat.errors import FLAT, WITH_LOCATIONS, WITH_MESSAGE
from service.settings import ApiName


class CompatibleApi(NamedTuple):
    """The routes of one API, and how it writes its errors."""

    name: ApiName
    router: APIRouter
    error_shape: ErrorShape


APIS = (
    CompatibleApi("openai", openai.router, WITH_MESSAGE),
    CompatibleApi("jina", jina.router, WITH_MESSAGE),
    CompatibleApi("huggingface", huggingface.router, WITH_MESSAGE),
    CompatibleApi("cohere", cohere.router, WITH_MESSAGE),
    CompatibleApi("voyage", voyage.router, WITH_MESSAGE),
    CompatibleApi("tei", tei.router, FLAT),
    CompatibleApi("infinity", infinity.router, WITH_LOCATIONS),
    CompatibleApi("weaviate", weaviate.router, FLAT),
    CompatibleApi("roboflow", roboflow.router, FLAT),
    CompatibleApi("ollama", ollama.router, FLAT),
    CompatibleApi("open-inference", open_inference.router, FLAT),
    CompatibleApi("immich", immich.router, WITH_MESSAGE),
    CompatibleApi("sagemaker", sagemaker.router, NATIVE_ERRORS),
)


def enabled(names: Iterable[str]) -> list[CompatibleApi]:
    """The APIs of these names, in the order of `APIS`."""
    return [api for api in APIS if api.name in names]
