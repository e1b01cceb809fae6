"""multipart/form-data as browsers, curl -F and HTTP libraries send it: parts in their order, kept in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import MAX_PARAM_CHARACTERS, ApiError
from service.schema.items import BadItem, ImageItem, Item, check_count, parse_item
from service.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_OPTIONS = 32  # parts that are neither items nor labels nor templates
MAX_FIELD_BYTES = 2**20  # of a part that is not an item
UTF_8 = ("utf-8", "utf8", "us-ascii")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MAX_PATH_BYTES = 4096  # what is longer than a path, and in a part called file, was not meant to be one


@dataclass(slots=True)
class Form:
    """A parsed form: items in their order, and the values of all other parts by name."""

    items: list[Item] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)


def read_form(content_type: str, body: bytes, settings: Settings) -> Form:
    """Parts called `file` and `text` are the items, the others are fields. Raises `invalid_request`.

    What is wrong with one item stays with it, at `inputs.N`, counted over files and texts together.
    """
    max_parts = settings.max_items + 2 * settings.max_labels + MAX_OPTIONS
    form = Form()
    for part in read_parts(content_type, body, max_parts, "inputs"):
        if part.name == "file":
            _add_file(form, part)
        elif part.name == "text":
            _add_text(form, part, settings)
        else:
            form.fields.setdefault(part.name, []).append(part.value())
    check_count(len(form.items), settings.max_items, "items", "inputs")
    if not form.items:
        raise ApiError("invalid_request", 'There is nothing to work on; send parts called "file" or "text".', "inputs")
    return form


class Part:
    """One part of a form."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """From the headers of the part, by lower-case name. Raises `invalid_request`."""
        disposition, options = parse_options_header(headers.get("content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if disposition != b"form-data" or not name:
            raise ApiError(
                "invalid_request", 'Each part needs a name, as in Content-Disposition: form-data; name="file".'
            )
        self.name, self.filename = name, options.get(b"filename")
        self.chunks: list[bytes] = []
        self.media_type, parameters = parse_options_header(headers.get("content-type"))
        self._charset = parameters.get(b"charset", b"utf-8").decode("latin-1").lower()
        if self.media_type.startswith(b"multipart/"):
            raise self._invalid("This part is a multipart of its own; send each of its files as a part called file.")
        if headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
            raise self._invalid("This part has a Content-Transfer-Encoding; send the bytes as they are.")

    def content(self) -> bytes:
        """Its bytes."""
        return b"".join(self.chunks)

    def value(self) -> str:
        """Its text, which is no longer than a field may be."""
        content = self.content()
        if len(content) > MAX_FIELD_BYTES:
            hint = "; pictures are sent as parts called file" if self.filename else ""
            raise self._invalid(f"This field is over the limit of {MAX_FIELD_BYTES} bytes{hint}.")
        return self.decoded(content)

    def decoded(self, content: bytes) -> str:
        """The text, without the byte order mark that Windows programs put before it."""
        if self._charset not in UTF_8:
            raise self._invalid(f"This part says that it is {self._charset[:40]!r}; send text as UTF-8.")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            if content.startswith(UTF_16_MARKS):
                raise self._invalid("This is UTF-16 text; save it as UTF-8.") from None
            message = "This is not UTF-8 text; pictures are sent as parts called file."
            raise self._invalid(message) from None

    def _invalid(self, message: str) -> ApiError:
        return ApiError("invalid_request", message, self.name[:MAX_PARAM_CHARACTERS])


def _add_file(form: Form, part: Part) -> None:
    content, param = part.content(), f"inputs.{len(form.items)}"
    if part.filename is None and not part.media_type and _is_path(content):
        message = "This is text without a filename, not a picture; with curl, name the picture as in -F file=@cat.jpg."
        form.items.append(BadItem(ApiError("invalid_request", message, param)))
    elif content:
        form.items.append(ImageItem(content, param))
    elif part.filename != b"":  # a browser's form in which no file was chosen
        form.items.append(BadItem(ApiError("invalid_request", "This file is empty.", param)))


def _is_path(content: bytes) -> bool:
    """Whether this is what `curl -F file=cat.jpg` sends, without the @."""
    try:
        return 0 < len(content) <= MAX_PATH_BYTES and content.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _add_text(form: Form, part: Part, settings: Settings) -> None:
    param = f"inputs.{len(form.items)}"
    try:
        form.items.append(parse_item(part.decoded(part.content()), param, settings))
    except ApiError as error:
        form.items.append(BadItem(error.at(param)))


def _boundary(content_type: str) -> bytes:
    _, parameters = parse_options_header(content_type)
    if boundary := parameters.get(b"boundary"):
        return boundary
    raise ApiError("invalid_request", "The Content-Type names no boundary; let the HTTP client set this header.")


def read_parts(content_type: str, body: bytes, limit: int, param: str | None = None) -> list[Part]:
    """The parts in their order. Raises `invalid_request`, and `too_many_inputs` of `param` above `limit`."""
    boundary = _boundary(content_type)
    # Whatever looks like the end of a part costs the parser time, so the count comes first.
    check_count(body.count(b"--" + boundary) - 1, limit, "parts", param)
    collector = _Collector()
    callbacks: MultipartCallbacks = {
        "on_part_begin": collector.begin,
        "on_header_field": collector.header_name,
        "on_header_value": collector.header_value,
        "on_header_end": collector.header_end,
        "on_headers_finished": collector.headers_finished,
        "on_part_data": collector.part_data,
        "on_end": collector.end,
    }
    try:
        MultipartParser(boundary, callbacks).write(body)
    except FormParserError:
        raise ApiError(
            "invalid_request", "The body is not valid multipart/form-data; let the HTTP client write it."
        ) from None
    if not collector.ended:
        raise ApiError("invalid_request", "The body ends before its closing boundary; send all of it.")
    return collector.parts


class _Collector:
    """Collects parts from the callbacks of MultipartParser, which come with pieces of headers and of contents."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: dict[str, str] = {}
        self._name = self._value = b""

    def begin(self) -> None:
        self._headers.clear()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
        self._name = self._value = b""

    def headers_finished(self) -> None:
        self.parts.append(Part(self._headers))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].chunks.append(data[start:end])

    def end(self) -> None:
        self.ended = True
