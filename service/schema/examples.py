"""A request for each path that takes JSON, as `/docs` offers it to be tried: each is answered with 200 as it stands."""

from __future__ import annotations

from typing import Any

# A PNG of 8 x 8 pixels, in two colours.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQMAAAD+wSzIAAAABlBMVEX/yADIICCpkHKLAAAAGElEQVR42mNgYGBgsGFiYGJgYmBgYGAAAALUAEMQ"
    "6XlWAAAAAElFTkSuQmCC"
)
PICTURE_URI = f"data:image/png;base64,{PICTURE}"
_LABELS = ["a cat", "a dog", "a sunset"]
_CAPTIONS = ["a yellow square", "a dog on grass"]
_CONTENT = [
    {"content": [{"type": "text", "text": "a red car"}]},
    {"content": [{"type": "image_url", "image_url": {"url": PICTURE_URI}}]},
]
_RERANK = {"query": "a red car", "documents": ["a fire engine", "a bowl of soup", {"image": PICTURE_URI}], "top_n": 2}

# By path, and there by what the request is for.
REQUESTS: dict[str, dict[str, Any]] = {
    "/embed": {
        "a text and a picture": {"inputs": ["a red car", {"image": PICTURE}]},
        "short vectors as bytes": {"inputs": _CAPTIONS, "dimensions": 64, "encoding_format": "int8"},
        "bad items spare the rest": {"inputs": ["a red car", {"image": "no picture"}], "on_error": "item"},
    },
    "/similarity": {
        "texts against a picture": {"queries": _CAPTIONS, "candidates": {"image": PICTURE}},
        "the best two for each query": {"queries": "a car", "candidates": ["a lorry", "a tree", "a bus"], "top_k": 2},
    },
    "/classify": {
        "which label fits": {"inputs": {"image": PICTURE}, "labels": _LABELS},
        "which labels fit, each judged alone": {
            "inputs": {"image": PICTURE},
            "labels": _LABELS,
            "templates": ["a photo of {}."],
            "multi_label": True,
            "threshold": 0.2,
        },
    },
    "/label-sets/{name}": {"labels under a name": {"labels": ["cat", "dog"], "templates": ["a photo of a {}."]}},
    "/v1/embeddings": {
        "as OpenAI's clients send": {"input": _CAPTIONS},
        "as Jina's clients send": {"input": [{"text": "a red car"}, {"image": PICTURE_URI}], "dimensions": 64},
    },
    "/v1/classify": {"as Jina's clients send": {"input": [{"image": PICTURE_URI}], "labels": _LABELS}},
    "/v1/rerank": {"as Jina's clients send": _RERANK},
    "/v1/embed": {"as Cohere's clients send": {"texts": _CAPTIONS, "input_type": "search_query"}},
    "/v2/embed": {
        "as Cohere's clients send": {
            "inputs": _CONTENT,
            "input_type": "search_document",
            "embedding_types": ["float"],
        }
    },
    "/v2/rerank": {"as Cohere's clients send": {"query": "a red car", "documents": _CAPTIONS, "top_n": 1}},
    "/v1/multimodalembeddings": {
        "as Voyage's clients send": {
            "inputs": [{"content": [{"type": "image_base64", "image_base64": PICTURE_URI}]}],
        }
    },
    "/models/{id}": {
        "zero-shot classification": {"inputs": PICTURE, "parameters": {"candidate_labels": _LABELS}},
        "features": {"inputs": _CAPTIONS},
    },
    "/tei/embed": {"texts": {"inputs": _CAPTIONS, "normalize": True}},
    "/tei": {"one text": {"inputs": "a red car"}},
    "/tei/rerank": {"texts": {"query": "a car", "texts": ["a lorry", "a tree"], "return_text": True}},
    "/embeddings": {"as Infinity's clients send": {"input": _CAPTIONS}},
    "/rerank": {"as Infinity's clients send": _RERANK},
    "/vectorize": {"as Weaviate's modules send": {"texts": ["a red car"], "images": [PICTURE]}},
    "/clip/embed_image": {"as Roboflow's clients send": {"image": {"type": "base64", "value": PICTURE}}},
    "/clip/embed_text": {"as Roboflow's clients send": {"text": _CAPTIONS}},
    "/clip/compare": {
        "as Roboflow's clients send": {"subject": {"type": "base64", "value": PICTURE}, "prompt": _CAPTIONS}
    },
    "/api/embed": {"as Ollama's clients send": {"input": _CAPTIONS}},
    "/api/embeddings": {"as Ollama's clients send": {"prompt": "a red car"}},
    "/v2/models/{id}/infer": {
        "texts": {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": _CAPTIONS}]},
        "a picture": {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [PICTURE]}]},
    },
    "/invocations": {
        "as SageMaker sends: classify": {"inputs": {"image": PICTURE}, "labels": _LABELS},
        "as Vertex AI sends: embed": {"instances": ["a red car", {"image": PICTURE}]},
    },
}
