"""What the Open Inference Protocol (KServe, Triton) sends and gets: tensors `text` and `image` in, `embedding` out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema

from service.errors import ApiError
from service.schema.compat.items import parse_any_image
from service.schema.items import BadItem, ImageItem, Item, check_count, check_surrogates, parse_item
from service.settings import Settings

VERSION = "1"  # a bundle is served in one version
BINARY_DATA = "binary_tensor_data"  # the extension, as Triton calls it
TEXT, IMAGE, EMBEDDING = "text", "image", "embedding"
DATATYPE = "BYTES"
MAX_RANK = 8
_IN_WORDS = (b"data:image/", b"http://", b"https://")  # which begins no image file
_NO_SHARED_MEMORY = "There is no shared memory between clients and this server; send the tensor itself."


def _parse_inputs(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    """The items of all tensors, in their order."""
    if not isinstance(value, list) or not value:
        raise ApiError("invalid_request", f"This is a list of the tensors {TEXT}, {IMAGE}, or both.", "inputs")
    items: list[Item] = []
    names: list[object] = []
    for index, tensor in enumerate(value):
        path = f"inputs.{index}"
        if not isinstance(tensor, dict):
            raise ApiError("invalid_request", "A tensor is an object with name, shape, datatype and data.", path)
        name = tensor.get("name")
        if name not in (TEXT, IMAGE) or name in names:
            raise ApiError("invalid_request", f"The inputs are {TEXT} and {IMAGE}, each once.", f"{path}.name")
        names.append(name)
        elements = _elements(tensor, path)
        check_count(len(items) + len(elements), info.context.compatible_items(), "items", "inputs")
        parse = _parse_text if name == TEXT else _parse_image
        items += [parse(each, f"{path}.data.{number}", info.context) for number, each in enumerate(elements)]
    if not items:
        raise ApiError("invalid_request", "The tensors are empty; send at least one element.", "inputs")
    return items


def _elements(tensor: dict[str, Any], path: str) -> Sequence[object]:
    """The elements in their order, as many as the shape says."""
    parameters = tensor.get("parameters")
    if isinstance(parameters, dict) and "shared_memory_region" in parameters:
        raise ApiError("invalid_request", _NO_SHARED_MEMORY, f"{path}.parameters.shared_memory_region")
    if tensor.get("datatype") != DATATYPE:
        raise ApiError("invalid_request", f"The datatype is {DATATYPE}.", f"{path}.datatype")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_RANK or not all(map(_is_size, shape)):
        raise ApiError("invalid_request", f"A shape is a list of 1 to {MAX_RANK} sizes.", f"{path}.shape")
    data = tensor.get("data")
    if not isinstance(data, list):
        message = "This is a list; or bytes behind the JSON, where parameters have binary_data_size."
        raise ApiError("invalid_request", message, f"{path}.data")
    for _ in shape[1:]:
        if data and all(isinstance(each, list) for each in data):
            data = [each for row in data for each in row]
    if len(data) != (expected := math.prod(shape)):
        raise ApiError("invalid_request", f"The shape is of {expected} elements; there are {len(data)}.", path)
    return data


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _parse_text(value: object, param: str, settings: Settings) -> Item:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return _bad("This is not UTF-8 text.", param)
    return parse_item(value, param, settings) if isinstance(value, str) else _bad("This must be a string.", param)


def _parse_image(value: object, param: str, settings: Settings) -> Item:
    """From bytes the file itself, or as strings may be: base64, a data: URI, a URL."""
    if not isinstance(value, bytes):
        return parse_any_image(value, param, settings)
    if value[:11].lower().startswith(_IN_WORDS):
        return parse_any_image(value.decode("latin-1"), param, settings)
    return ImageItem(value, param) if value else _bad("This image is empty.", param)


def _bad(message: str, param: str) -> BadItem:
    return BadItem(ApiError("invalid_request", message, param))


def _check_id(value: str | None) -> str | None:
    if value is not None:
        check_surrogates(value, "id")
    return value


def _refuse(reason: str) -> AfterValidator:
    def check(value: object) -> object:
        if value is not None:
            raise ValueError(reason)
        return value

    return AfterValidator(check)


class _Ignoring(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class InferParameters(_Ignoring):
    """Parameters beside these are ignored."""

    binary_data_output: bool | None = Field(None, description="answer the vectors as bytes behind the JSON")
    truncate: bool | None = Field(None, description="cut texts that are longer than the context")


class OutputParameters(_Ignoring):
    """Of one output."""

    binary_data: bool | None = Field(None, description="as binary_data_output, which it goes before")
    classification: Annotated[Any, _refuse("Vectors have no classes; ask /classify")] = Field(
        None, description="refused"
    )
    shared_memory_region: Annotated[Any, _refuse(_NO_SHARED_MEMORY.rstrip("."))] = Field(None, description="refused")


class RequestedOutput(_Ignoring):
    """The one output there is."""

    name: Literal["embedding"]
    parameters: OutputParameters = OutputParameters()


class InferRequest(_Ignoring):
    """An inference request. Behind the JSON may be the bytes of tensors."""

    id: Annotated[str | None, AfterValidator(_check_id)] = Field(None, description="repeated in the answer")
    parameters: InferParameters = InferParameters()
    inputs: Annotated[
        list[Item],
        PlainValidator(_parse_inputs),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"enum": [TEXT, IMAGE]},
                        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                        "datatype": {"const": DATATYPE},
                        "data": {"type": "array", "description": "texts, or pictures as base64; flat or nested"},
                        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer"}}},
                    },
                    "required": ["name", "shape", "datatype"],
                },
            }
        ),
    ]
    outputs: list[RequestedOutput] | None = Field(None, max_length=1)

    @property
    def is_answered_in_binary(self) -> bool:
        """Whether the vectors are bytes behind the JSON."""
        chosen = self.outputs[0].parameters.binary_data if self.outputs else None
        return bool(self.parameters.binary_data_output if chosen is None else chosen)


class TensorMetadata(BaseModel):
    """A tensor; -1 in its shape is any number."""

    name: str
    datatype: str
    shape: list[int]


class ServerMetadataAnswer(BaseModel):
    """Of this service."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadataAnswer(BaseModel):
    """Of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReadyAnswer(BaseModel):
    """Of a model that takes requests."""

    name: str
    ready: bool


class OutputTensor(TensorMetadata):
    """The vectors, in the order of the elements of all inputs; `data` is left out where they are in binary."""

    data: list[float] | None = None
    parameters: dict[str, Any] | None = None


class InferAnswer(BaseModel):
    """An inference response."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]
