"""Answers of the native endpoints. The routes write them themselves; these models document them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.errors import ErrorDetail


class Usage(BaseModel):
    """What was computed."""

    texts: int
    tokens: int
    images: int


class ItemError(BaseModel):
    """A bad item, with `on_error: item`."""

    index: int
    error: ErrorDetail


class Embedding(BaseModel):
    """The vector of one item, or with `output: tokens` its vectors."""

    index: int
    embedding: list[float] | list[int] | str | list[list[float]] | list[list[int]]
    truncated: bool


class EmbedAnswer(BaseModel):
    """One entry for each input, in order."""

    model: str
    data: list[Embedding | ItemError]
    usage: Usage


class Ranked(BaseModel):
    """A candidate."""

    index: int
    cosine: float
    probability: float


class SimilarityErrors(BaseModel):
    """The bad ones of both lists, each at its index in its own list."""

    queries: list[ItemError]
    candidates: list[ItemError]


class SimilarityAnswer(BaseModel):
    """Matrices of queries by candidates; with `on_error: item`, null for a bad query and in place of bad candidates."""

    model: str
    cosine: list[list[float | None] | None] = Field(description="queries by candidates")
    probability: list[list[float | None] | None] = Field(
        description="softmax of logit scale times cosine over the candidates that are good; SigLIP: sigmoid"
    )
    ranking: list[list[Ranked] | None] | None = Field(None, description="with top_k: the best candidates of each query")
    errors: SimilarityErrors | None = Field(None, description="with on_error: item")
    usage: Usage


class Prediction(BaseModel):
    """A label and how well it fits."""

    label: str
    score: float
    cosine: float


class Classification(BaseModel):
    """The labels of one item."""

    index: int
    label: str | None = Field(description="the best label; null where no score reaches the threshold")
    score: float | None
    predictions: list[Prediction] = Field(description="best first")


class ClassifyAnswer(BaseModel):
    """One entry for each input, in order."""

    model: str
    data: list[Classification | ItemError]
    usage: Usage


class LabelSetSummary(BaseModel):
    """A label set, without its labels."""

    name: str
    label_count: int = Field(ge=0, le=10**9)
    template_count: int = Field(ge=0, le=10**9)
    template_set: str | None
    truncate: bool = Field(description="labels that are longer than the context are cut")
    updated: str = Field(description="when it was stored, in UTC")
    own_of: str | None = Field(
        None,
        description="id of the model whose own categories these are: they come and go with it, and cannot be stored or "
        "removed; null for a set that was stored",
    )


class LabelSetsAnswer(BaseModel):
    """The stored label sets, by name."""

    label_sets: list[LabelSetSummary]
    skipped: int = Field(description="entries of the store that are no label sets and are left alone; see the log")


class LabelSetAnswer(LabelSetSummary):
    """A stored label set."""

    labels: list[str]
    templates: list[str]


class LabelSetStored(LabelSetAnswer):
    """A label set and what it took to embed it."""

    model: str
    usage: Usage


class ServedVariant(BaseModel):
    """What a variant was made from, and how close it is to that, as measured when it was made."""

    precision: str = Field(description="that was asked for")
    fused: bool
    made_from_id: str
    image_mean_cosine: float
    image_min_cosine: float
    text_mean_cosine: float
    text_min_cosine: float
    top1_agreement: float = Field(description="share of pictures for which both choose the same label")


class ServedMixture(BaseModel):
    """Of a model that mixes the vectors of a picture for each text (Llip)."""

    tokens: int = Field(description="vectors that it makes of a picture, which /embed gives with `output: tokens`")
    heads: int = Field(description="of the attention that mixes them")


class ServedModel(BaseModel):
    """A model and where it runs."""

    id: str
    aliases: list[str] = Field([], description="further names by which clients may ask for it")
    digest: str
    bundled: bool = Field(description="whether it is the checkpoint that ships with this release, whatever its id")
    dimensions: int
    matryoshka_dimensions: list[int] = Field(
        [],
        description="lengths that the vectors were trained to be cut to, `dimensions` among them; empty where nothing "
        "is known of it",
    )
    mixture: ServedMixture | None = Field(
        None, description="how many vectors it makes of a picture, which are mixed for each text; null where it is one"
    )
    library: str | None = Field(
        None, description="open_clip, transformers or onnx, whose network it is; null for a network of Sightword's own"
    )
    architecture: str = Field(description="as that library names it, or the name of the configuration")
    context_length: int
    categories: int | None = Field(
        None,
        description="how many categories the model knows by name only, which are the label set `categories`; null for "
        "one that reads any text",
    )
    image_size: int
    logit_scale: float
    logit_bias: float | None
    precision: str
    weights_dtype: str = Field(description="type in which the weights are stored")
    variant: ServedVariant | None = Field(None, description="of models that were made from another")
    source_warnings: list[str] = Field([], description="what was doubtful when a published checkpoint was imported")
    provider: str = Field(description="the execution provider that is active")
    gpu: str | None = Field(None, description="the GPU that it computes on; null on a CPU")
    provider_problem: str | None = Field(
        None, description="why `auto` leaves out a GPU that this onnxruntime could use; null where it does not"
    )
    fallback_nodes: dict[str, dict[str, int]] = Field(
        description="by tower and operator: nodes that the provider left to the CPU, but for those that compute shapes"
    )
    max_batch: dict[str, int] = Field(description="by tower; it falls where the device has no memory for more")
    padded_sizes: dict[str, list[int]] = Field(
        description="sizes that batches are filled up to, by tower; none on a processor"
    )
    device_bytes: int = Field(description="memory of the GPU that opening the model took; 0 without one")
    shares_weights: bool = Field(description="whether all worker processes together have its weights in memory once")
    workers: dict[str, int] = Field(description="batches run side by side, by tower")
    lanes: dict[str, int] = Field(description="the former name of `workers`", json_schema_extra={"deprecated": True})


class ModelsAnswer(BaseModel):
    """The models served, the default one first."""

    models: list[ServedModel]


class DeviceMemoryAnswer(BaseModel):
    """Memory of the GPU; other processes may hold some of it, too."""

    total_bytes: int
    free_bytes: int


class InfoAnswer(ModelsAnswer):
    """What is served, within which limits."""

    name: str
    version: str
    workers: int = Field(description="processes that serve on this port")
    device_memory: DeviceMemoryAnswer | None = Field(None, description="null without a GPU")
    template_sets: dict[str, list[str]] = Field(description="what /classify knows as template_set")
    limits: dict[str, int | float | None]
    settings: dict[str, Any]


class ReloadedModel(BaseModel):
    """A model after a reload."""

    id: str
    digest: str
    previous_digest: str
    changed: bool


class ReloadAnswer(BaseModel):
    """The models served from now on, the default one first."""

    models: list[ReloadedModel]
    api_keys_problem: str | None = Field(
        None, description="why the keys in the file of keys were not taken over; left out where they were"
    )


class HealthAnswer(BaseModel):
    """One word."""

    status: str
