"""Clients in JavaScript, each run by Node on the packages of package-lock.json."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service_process import Running
from tests.sdks.clients import ADDRESS, Client
from tests.sdks.inputs import BASE64, DATA_URI, IMAGE, MANY, REFUSAL, TEXTS, TOO_LONG, same

PACKAGES = os.environ.get("SIGHTWORD_TEST_NPM")  # the folder that has node_modules
NODE = 20
INPUTS = {"base64": BASE64, "dataUri": DATA_URI, "many": MANY, "texts": TEXTS, "tooLong": TOO_LONG}
# Names cannot be resolved: nothing leaves this machine.
LOOPBACK = """
const dns = require("node:dns");
const only = (name) => { throw new Error(`${name} is not this machine`); };
dns.lookup = dns.promises.lookup = only;
"""


@pytest.fixture
def run(request: pytest.FixtureRequest, service: Running, tmp_path: Path) -> Callable[[str], Any]:
    """Runs an expression after the setting of the test's client; gives its value, or the message of its error."""
    client: Client = request.cls.client
    if not PACKAGES:
        pytest.skip("packages of npm are not installed: make test-sdks, where there is npm")
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(found.removeprefix("v").partition(".")[0]) < NODE:
        pytest.skip(f"these packages want Node {NODE}, and here is {found.strip()}")
    (tmp_path / "loopback.cjs").write_text(LOOPBACK)

    def run(expression: str) -> Any:
        names = "".join(f"const {name} = inputs.{name};\n" for name in INPUTS)
        script = (
            'import { readFileSync } from "node:fs";\n'
            f"const inputs = JSON.parse(readFileSync({json.dumps(str(data))}));\n"
            f"{names}{client.setting.replace(ADDRESS, service.url.removeprefix('http://'))}\n"
            f"let found;\ntry {{ found = {{ value: await ({expression}) }}; }}\n"
            "catch (error) { found = { error: [error.name, error.message, JSON.stringify(error)].join(' ') }; }\n"
            "console.log(JSON.stringify(found));\n"
        )
        ended = subprocess.run(
            ["node", "--require", tmp_path / "loopback.cjs", "--input-type=module"],
            input=script, cwd=PACKAGES, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    data = tmp_path / "inputs.json"
    data.write_text(json.dumps(INPUTS))
    return run


class TestOpenAI:
    client = Client(
        "OpenAI",
        "openai (npm)",
        "npm:openai",
        """
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://localhost:8000/v1", apiKey: "any" });
const embed = (input) => client.embeddings.create({ model: "sightword-small", input });
""",
        "an image is a string that begins `data:image/`",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        found = run("embed(texts)")["value"]
        same([entry["embedding"] for entry in found["data"]], vectors(*TEXTS))

    def test_images(self, run: Any, vectors: Any) -> None:
        same([entry["embedding"] for entry in run("embed([dataUri])")["value"]["data"]], vectors(IMAGE))

    def test_600_inputs(self, run: Any) -> None:
        assert len(run("embed(many)")["value"]["data"]) == len(MANY)

    def test_refusals(self, run: Any) -> None:
        assert REFUSAL in run("embed(tooLong)")["error"]


class TestAiSdk:
    client = Client(
        "OpenAI",
        "@ai-sdk/openai-compatible (npm)",
        "npm:@ai-sdk/openai-compatible",
        """
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany } from "ai";

const server = createOpenAICompatible({ name: "sightword", baseURL: "http://localhost:8000/v1", apiKey: "any" });
const model = server.textEmbeddingModel("sightword-small");
""",
        "an image is a string that begins `data:image/`",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("embedMany({ model, values: texts })")["value"]["embeddings"], vectors(*TEXTS))

    def test_images(self, run: Any, vectors: Any) -> None:
        same(run("embedMany({ model, values: [dataUri] })")["value"]["embeddings"], vectors(IMAGE))

    def test_600_inputs(self, run: Any) -> None:
        assert len(run("embedMany({ model, values: many })")["value"]["embeddings"]) == len(MANY)

    def test_refusals(self, run: Any) -> None:
        assert REFUSAL in run("embedMany({ model, values: [tooLong], maxRetries: 0 })")["error"]


class TestLangChain:
    client = Client(
        "OpenAI",
        "@langchain/openai (npm)",
        "npm:@langchain/openai",
        """
import { OpenAIEmbeddings } from "@langchain/openai";

const configuration = { baseURL: "http://localhost:8000/v1", apiKey: "any" };
const embeddings = new OpenAIEmbeddings({ model: "sightword-small", apiKey: "any", configuration });
""",
        "sends 512 texts a request; line ends become spaces",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("embeddings.embedDocuments(texts)")["value"], vectors(*TEXTS))

    def test_600_inputs(self, run: Any) -> None:
        assert len(run("embeddings.embedDocuments(many)")["value"]) == len(MANY)


class TestCohere:
    client = Client(
        "Cohere",
        "cohere-ai (npm)",
        "npm:cohere-ai",
        """
import { CohereClientV2 } from "cohere-ai";

const client = new CohereClientV2({ environment: "http://localhost:8000", token: "any" });
const options = { model: "sightword-small", inputType: "search_document", embeddingTypes: ["float"] };
""",
        "the base URL without a version",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("client.embed({ texts, ...options })")["value"]["embeddings"]["float"], vectors(*TEXTS))

    def test_images(self, run: Any, vectors: Any) -> None:
        found = run("client.embed({ images: [dataUri], ...options })")["value"]
        same(found["embeddings"]["float"], vectors(IMAGE))

    def test_rerank(self, run: Any) -> None:
        found = run('client.rerank({ model: options.model, query: "a cat", documents: ["a dog", "a cat"] })')["value"]
        assert found["results"][0]["index"] == 1

    def test_refusals(self, run: Any) -> None:
        assert REFUSAL in run("client.embed({ texts: [tooLong], ...options })")["error"]


class TestHuggingFace:
    client = Client(
        "Hugging Face",
        "@huggingface/inference (npm), a model's URL",
        "npm:@huggingface/inference",
        """
import { InferenceClient } from "@huggingface/inference";

const client = new InferenceClient("any", { endpointUrl: "http://localhost:8000/models/sightword-small" });
""",
    )

    def test_classification(self, run: Any) -> None:
        found = run(
            "client.zeroShotImageClassification({ inputs: { image: new Blob([Buffer.from(base64, 'base64')]) }, "
            'parameters: { candidate_labels: ["a cat", "a cup of coffee"] } })'
        )["value"]
        assert found[0]["label"] == "a cup of coffee"

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("client.featureExtraction({ inputs: texts })")["value"], vectors(*TEXTS))


class TestTei:
    client = Client(
        "Text Embeddings Inference",
        "@huggingface/inference (npm), `featureExtraction`",
        "npm:@huggingface/inference",
        """
import { InferenceClient } from "@huggingface/inference";

const client = new InferenceClient("any", { endpointUrl: "http://localhost:8000/tei" });
""",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("client.featureExtraction({ inputs: texts })")["value"], vectors(*TEXTS))

    def test_refusals(self, run: Any) -> None:
        assert REFUSAL in run("client.featureExtraction({ inputs: tooLong })")["error"]


class TestChroma:
    client = Client(
        "Text Embeddings Inference",
        "@chroma-core/huggingface-server (npm)",
        "npm:@chroma-core/huggingface-server",
        """
import { HuggingfaceServerEmbeddingFunction } from "@chroma-core/huggingface-server";

const fn = new HuggingfaceServerEmbeddingFunction({ url: "http://localhost:8000/tei/embed" });
""",
        "texts only; the whole URL",
    )

    def test_texts(self, run: Any, vectors: Any) -> None:
        same(run("fn.generate(texts)")["value"], vectors(*TEXTS))
