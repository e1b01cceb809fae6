"""The form of immich's /predict: `entries`, which is JSON, and a file `image` or a `text`."""

from __future__ import annotations

from typing import Any

from service.errors import ApiError
from service.request_context import RequestContext
from service.schema.compat.immich import Entries, PredictRequest
from service.settings import Settings
from service.state import RequestContextDep, ServiceDep
from service.web.body import (
    FORM,
    REF,
    BodyReader,
    expect_no_coding,
    expect_no_query,
    find_media_type,
    header,
    parse_object,
    validate,
    within,
)
from service.web.multipart import Part, read_parts

MAX_PARTS = 16
ONE_INPUT = "Send the file in a part called image, or a text in one called text: one of the two, once."


class PredictReader(BodyReader[PredictRequest]):
    """Reads the form."""

    def content(self) -> dict[str, Any]:
        """The form."""
        return {FORM: {"schema": {"$ref": REF.format(model=self.model.__name__)}}}

    async def read(self, service: ServiceDep, context: RequestContextDep) -> PredictRequest:
        """The request. Raises `invalid_request` with the path of the part, or of the field of `entries`."""
        if find_media_type(context) != FORM:
            raise ApiError("unsupported_media_type", f"Send {FORM} with the parts entries, and image or text.")
        expect_no_coding(context)
        expect_no_query(context)
        return await service.shared.pool.run_in_thread(self._parse, context, service.settings)

    def _parse(self, context: RequestContext, settings: Settings) -> PredictRequest:
        parts = read_parts(header(context, b"content-type"), context.body, MAX_PARTS)
        entries, image, text = (_only(parts, name) for name in ("entries", "image", "text"))
        if entries is None:
            raise ApiError("invalid_request", "This part is missing: the tasks, as JSON.", "entries")
        with within("entries"):
            tasks = validate(Entries, parse_object(entries.value().encode()), settings)
        if not tasks.clip and not tasks.others:
            raise ApiError("invalid_request", "There is no task.", "entries")
        if (image is None) == (text is None):
            raise ApiError("invalid_request", ONE_INPUT, "image")
        file = image.content() if image else None
        if file == b"":
            raise ApiError("invalid_request", "This file is empty.", "image")
        if tasks.clip and (tasks.clip.tower == "visual") != (file is not None):
            raise ApiError("invalid_request", "visual is of an image, textual of a text.", "entries.clip")
        return PredictRequest.model_construct(entries=tasks, image=file, text=text.value() if text else None)


def _only(parts: list[Part], name: str) -> Part | None:
    found = [part for part in parts if part.name == name]
    if len(found) > 1:
        raise ApiError("invalid_request", "This part is there more than once.", name)
    return found[0] if found else None
