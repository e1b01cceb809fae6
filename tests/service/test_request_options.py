"""Every field that a request may have, on every endpoint: changing it changes the answer, and in the way it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel

from service.schema import requests
from service.schema.compat import huggingface, jina, openai
from tests.service import pictures
from tests.service.test_label_sets import put
from tests.settings_table import check_table

SCHEMAS: dict[str, type[BaseModel]] = {
    "/embed": requests.EmbedRequest,
    "/similarity": requests.SimilarityRequest,
    "/classify": requests.ClassifyRequest,
    "/label-sets/options": requests.LabelSetRequest,
    "/v1/embeddings": openai.EmbeddingsRequest,
    "/v1/classify": jina.LabelsRequest,
    "/v1/rerank": jina.RerankRequest,
}
CAT = {"image": pictures.as_base64("cat")}
LONG = "cat " * 200
LABELS = ["a cat", "a rocket", "a cup of coffee"]
STORED = "options-stored"
BAD = {"image": "bad!"}
Answer = dict[str, Any]
Check = Callable[[Answer, Answer], bool]
EMBED, SIMILARITY = {"inputs": "a cat"}, {"queries": "a cat", "candidates": ["a dog", "a cat", CAT]}
CLASSIFY = {"inputs": CAT, "labels": LABELS}
EMBEDDINGS, V1_CLASSIFY = {"input": ["a cat"]}, {"input": [CAT], "labels": LABELS}
RERANK = {"query": "a cat", "documents": ["a dog", "a cat"]}


@dataclass(frozen=True)
class Case:
    """A good request, how it is changed, and what is then true of both answers; `without` fields leave with it."""

    body: Answer
    change: Answer
    check: Check
    without: list[str] = field(default_factory=list)


def code(name: str) -> Check:
    """The change is refused so."""
    return lambda before, after: "error" not in before and after["error"]["code"] == name


def cures(name: str) -> Check:
    """The request was refused so, and with the change it is not."""
    return lambda before, after: before["error"]["code"] == name and "error" not in after


def count(*path: str | int, to: int) -> Check:
    def check(before: Answer, after: Answer) -> bool:
        found: list[Any] = [before, after]
        for part in path:
            found = [each[part] for each in found]
        return len(found[0]) != to == len(found[1])

    return check


def first(answer: Answer) -> Any:
    return answer["data"][0]["embedding"]


def scores(answer: Answer) -> dict[str, float]:
    return {each["label"]: each["score"] for each in answer["data"][0]["predictions"]}


def is_cut(before: Answer, after: Answer) -> bool:
    return "error" in before and after["data"][0]["truncated"] is True


def differ(before: Answer, after: Answer) -> bool:
    return "error" not in before and "error" not in after and before != after


def is_ranked(before: Answer, after: Answer) -> bool:
    return not before.get("ranking") and len(after["ranking"][0]) == 2


def is_base64(before: Answer, after: Answer) -> bool:
    return isinstance(first(before), list) and isinstance(first(after), str)


def is_list_of_the_vector(before: Answer, after: Answer) -> bool:
    return [first(before)] == first(after)


def has_both(before: Answer, after: Answer) -> bool:
    return isinstance(first(before), list) and first(after).keys() == {"float", "binary"}


def has_documents(before: Answer, after: Answer) -> bool:
    return "document" not in before["results"][0] and "document" in after["results"][0]


def is_of_voyage(before: Answer, after: Answer) -> bool:
    return after["data"] == before["results"][:1]


def on(body: Answer, cases: dict[str, Case]) -> dict[str, Case]:
    """The same changes, of another request."""
    return {name: replace(case, body={**body, **case.body}) for name, case in cases.items()}


def other_norm(before: Answer, after: Answer) -> bool:
    return bool(np.linalg.norm(first(before)) > 0.999 > np.linalg.norm(first(after)) + 1e-3)


def other_scores(before: Answer, after: Answer) -> bool:
    return scores(before).keys() == scores(after).keys() and scores(before) != scores(after)


ANOTHER = {"model": "another"}
CLASSIFY_OPTIONS: dict[str, Case] = {
    "model": Case({}, ANOTHER, code("model_not_found")),
    "truncate": Case({"labels": ["cat", LONG]}, {"truncate": True}, cures("text_too_long")),
    "templates": Case({}, {"templates": ["the word {} in a book"]}, other_scores),
    "template_set": Case({}, {"template_set": "imagenet-7"}, other_scores),
    "labels": Case({}, {"labels": LABELS[:2]}, count("data", 0, "predictions", to=2)),
    "label_set": Case({}, {"label_set": STORED}, count("data", 0, "predictions", to=2), ["labels"]),
    "top_k": Case({}, {"top_k": 1}, count("data", 0, "predictions", to=1)),
    "multi_label": Case({}, {"multi_label": True}, other_scores),
    "threshold": Case({}, {"threshold": 0.9999999}, lambda before, after: len(scores(after)) < len(scores(before))),
}
CASES: dict[str, dict[str, Case]] = {
    "/embed": {
        "inputs": Case(EMBED, {"inputs": "a dog"}, differ),
        "model": Case(EMBED, ANOTHER, code("model_not_found")),
        "truncate": Case({"inputs": LONG}, {"truncate": True}, is_cut),
        "dimensions": Case(EMBED, {"dimensions": 16}, count("data", 0, "embedding", to=16)),
        "output": Case(EMBED, {"output": "tokens"}, is_list_of_the_vector),
        "normalize": Case({**EMBED, "dimensions": 16}, {"normalize": False}, other_norm),
        "encoding_format": Case(EMBED, {"encoding_format": "base64"}, is_base64),
        "on_error": Case({"inputs": ["a", BAD]}, {"on_error": "item"}, cures("invalid_image")),
    },
    "/similarity": {
        "queries": Case(SIMILARITY, {"queries": "a dog"}, differ),
        "candidates": Case(SIMILARITY, {"candidates": ["a dog"]}, count("cosine", 0, to=1)),
        "model": Case(SIMILARITY, ANOTHER, code("model_not_found")),
        "truncate": Case({**SIMILARITY, "queries": LONG}, {"truncate": True}, cures("text_too_long")),
        "top_k": Case(SIMILARITY, {"top_k": 2}, is_ranked),
        "on_error": Case({**SIMILARITY, "queries": ["a", BAD]}, {"on_error": "item"}, cures("invalid_image")),
    },
    "/classify": {
        "inputs": Case(CLASSIFY, {"inputs": "a rocket"}, other_scores),
        "on_error": Case({**CLASSIFY, "inputs": ["a", BAD]}, {"on_error": "item"}, cures("invalid_image")),
        **on(CLASSIFY, CLASSIFY_OPTIONS),
    },
    "/label-sets/options": {
        "labels": Case({"labels": LABELS}, {"labels": LABELS[:1]}, count("labels", to=1)),
        "model": Case({"labels": LABELS}, ANOTHER, code("model_not_found")),
        "truncate": Case({"labels": ["cat", LONG]}, {"truncate": True}, cures("text_too_long")),
        "templates": Case({"labels": LABELS}, {"templates": ["a {}", "the {}"]}, count("templates", to=2)),
        "template_set": Case({"labels": LABELS}, {"template_set": "imagenet-7"}, count("templates", to=7)),
    },
    "/v1/embeddings": {
        "input": Case(EMBEDDINGS, {"input": ["a dog"]}, differ),
        "model": Case(EMBEDDINGS, ANOTHER, code("model_not_found")),
        "truncate": Case({"input": [LONG]}, {"truncate": True}, cures("text_too_long")),
        "messages": Case({"messages": [{"content": "a cat"}]}, {"messages": [{"content": "a dog"}]}, differ),
        "modality": Case({"input": [CAT["image"]]}, {"modality": "image"}, cures("text_too_long")),
        "encoding_format": Case(EMBEDDINGS, {"encoding_format": "base64"}, is_base64),
        "embedding_type": Case(EMBEDDINGS, {"embedding_type": ["float", "binary"]}, has_both),
        "dimensions": Case(EMBEDDINGS, {"dimensions": 16}, count("data", 0, "embedding", to=16)),
        "normalized": Case({**EMBEDDINGS, "dimensions": 16}, {"normalized": False}, other_norm),
    },
    "/v1/classify": {
        "input": Case(V1_CLASSIFY, {"input": ["a rocket"]}, other_scores),
        "on_error": Case({**V1_CLASSIFY, "input": ["a", BAD]}, {"on_error": "item"}, cures("invalid_image")),
        **on(V1_CLASSIFY, CLASSIFY_OPTIONS),
    },
    "/v1/rerank": {
        "query": Case(RERANK, {"query": "a dog"}, differ),
        "documents": Case(RERANK, {"documents": ["a dog"]}, count("results", to=1)),
        "model": Case(RERANK, ANOTHER, code("model_not_found")),
        "truncate": Case({**RERANK, "query": LONG}, {"truncate": True}, cures("text_too_long")),
        "top_n": Case(RERANK, {"top_n": 1}, count("results", to=1)),
        "top_k": Case(RERANK, {"top_k": 1}, is_of_voyage),
        "return_documents": Case(RERANK, {"return_documents": True}, has_documents),
        "raw_scores": Case(RERANK, {"raw_scores": True}, differ),
    },
}
TASK = {"inputs": CAT["image"], "parameters": {"candidate_labels": LABELS}}
TASK_CASES = {
    "inputs": {**TASK, "inputs": pictures.as_base64("rocket")},
    "parameters.candidate_labels": {**TASK, "parameters": {"candidate_labels": LABELS[:2]}},
    "parameters.hypothesis_template": {**TASK, "parameters": {"candidate_labels": LABELS, "hypothesis_template": "{}"}},
    "parameters.truncate": {**TASK, "parameters": {"candidate_labels": ["a cat", LONG], "truncate": True}},
}
FEATURES = ("truncate", "truncation_direction", "prompt_name")  # of feature extraction
EVERYWHERE = {  # headers and the like
    "x-request-timeout": ("when 504 comes", "tests/service/test_load.py::test_the_clients_deadline"),
    "x-request-id": ("the id of the answer", "tests/service/test_errors.py::test_request_ids"),
    "authorization": ("who asks", "tests/service/test_keys.py::test_ways_to_send_a_key"),
    "x-api-key": ("who asks", "tests/service/test_keys.py::test_ways_to_send_a_key"),
    "content-type": ("how the body is read", "tests/service/test_multipart.py::test_media_types_of_images"),
    "content-encoding": ("whether it is", "tests/service/test_errors.py::test_a_coded_body_is_not_read"),
    "accept": ("the form of the answer", "tests/service/test_multipart.py::test_npy"),
    "traceparent": ("the trace", "tests/service/test_tracing.py::test_it_belongs_to_the_trace_of_the_caller"),
    "/admin/reload?model": ("which model", "tests/service/test_reload.py::test_two_models_at_once"),
}


def test_every_field_and_header_has_a_test() -> None:
    here = "tests/service/test_request_options.py::test_changing_a_field_changes_the_answer"
    for path, schema in SCHEMAS.items():
        check_table(dict.fromkeys(CASES[path], ("the answer", here)), schema.model_fields)
    of_the_task = {name for name in huggingface.TaskRequest.model_fields if name != "parameters"}
    of_the_task |= {f"parameters.{name}" for name in huggingface.TaskParameters.model_fields}
    check_table(dict.fromkeys(TASK_CASES, ("the answer", here)), of_the_task - set(FEATURES))
    features = "tests/service/test_v1_ranking.py::test_hugging_face_extracts_features"
    check_table(dict.fromkeys(FEATURES, ("the vectors", features)), of_the_task & set(FEATURES))
    check_table(EVERYWHERE, EVERYWHERE)


@pytest.fixture(scope="module", autouse=True)
def stored(service: Any) -> Iterator[None]:
    with httpx.Client(base_url=service.url, timeout=300) as client:
        put(client, STORED, labels=LABELS[:2])
        yield
        for name in (STORED, "options"):
            client.delete(f"/label-sets/{name}")


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, cases in CASES.items() for name in cases])
def test_changing_a_field_changes_the_answer(client: httpx.Client, path: str, name: str) -> None:
    case = CASES[path][name]
    method = "PUT" if path.startswith("/label-sets/") else "POST"
    changed = {key: value for key, value in case.body.items() if key not in case.without} | case.change
    before, after = (client.request(method, path, json=body).json() for body in (case.body, changed))
    assert case.check(before, after), (before, after)


@pytest.mark.parametrize("name", TASK_CASES)
def test_changing_a_field_of_the_task_changes_the_answer(client: httpx.Client, name: str) -> None:
    [model] = client.get("/models").json()["models"]
    before, after = (client.post(f"/models/{model['id']}", json=body) for body in (TASK, TASK_CASES[name]))
    assert (before.status_code, after.status_code) == (200, 200), after.text
    assert before.json() != after.json()
    if name == "parameters.truncate":
        uncut = {**TASK, "parameters": {"candidate_labels": ["a cat", LONG]}}
        assert client.post(f"/models/{model['id']}", json=uncut).json()["error"]["code"] == "text_too_long"
