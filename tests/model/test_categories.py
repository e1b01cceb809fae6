"""Models whose texts are categories: their tokenizer, network, export, and what no other format can hold."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from model import smoke_inputs
from model.bundle import Bundle, write_manifest
from model.category_config import MAX_CATEGORIES, CategoriesConfig
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.networks import load_network
from model.checkpoints.openclip.folder import write_folder as write_openclip
from model.checkpoints.transformers.hf_folder import write_folder as write_huggingface
from model.config import ModelConfig
from model.embedder import Embedder
from model.manifest import BundleError
from model.network import Network, build_network
from model.runtime.engine import Engine
from model.tokenizers.categories import Category, CategoryTokenizer
from model.tokenizers.clip import TokenizerError, UnknownTextError
from model.tokenizers.near_names import NearNames
from model.variants.inputs import token_rows
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.category_models import CATEGORIES, LABELS, category_bundle, category_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Bundle]:
    return category_bundle(tmp_path_factory.mktemp("categories") / "bundle")


def test_labels_tell_categories_of_one_name_apart() -> None:
    assert CategoryTokenizer(CATEGORIES).labels == LABELS


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("dog", 1),
        ("Domestic  DOG", 1),
        ("canis\tfamiliaris", 1),
        ("dog.n.01", 1),
        ("hot_dog", 5),
        ("Crane (crane.n.05)", 4),
        ("crane.n.04", 3),
        ("Turkey (turkey.n.02)", 6),
        ("republic of turkey", 6),
        ("bank", 8),  # shown for one, only another name of the other
    ],
)
def test_a_text_is_the_name_of_a_category(text: str, index: int) -> None:
    assert CategoryTokenizer(CATEGORIES).encode([text, "cat"]) == [[index], [2]]


def test_every_label_and_synset_is_a_text_of_its_own_category() -> None:
    tokenizer = CategoryTokenizer(CATEGORIES)
    own = [[index] for index in range(1, len(CATEGORIES) + 1)]
    assert tokenizer.encode(tokenizer.labels) == own
    assert tokenizer.encode([category.synset for category in CATEGORIES]) == own
    assert tokenizer.unknown([*LABELS, "side", "zebra"]) == ["side", "zebra"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "domestik dog",
            r"knows its 9 categories by name only, and 'domestik dog' is none of them: did you mean 'dog'",
        ),
        ("xyzzy", r"knows its 9 categories by name only, and 'xyzzy' is not like any of them"),
        ("", r"'' is not like any"),
        ("crane", r"'crane' is a name of 2 .*: say which, as 'crane \(crane.n.04\)' or 'crane \(crane.n.05\)'"),
        ("a photo of a dog.", r"'a photo of a dog.' is n"),
        ("\ud800", r"'\\ud800' is not like any"),
        ("dog " * 1000, r"\.\.\.' is n"),
    ],
)
def test_an_unknown_text_is_told_what_there_is(text: str, message: str) -> None:
    with pytest.raises(UnknownTextError, match=message) as caught:
        CategoryTokenizer(CATEGORIES).encode(["dog", text])
    assert len(str(caught.value)) < 400


def test_a_vocabulary_as_large_as_wordnet_is_opened_and_searched_quickly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 9)) for _ in range(20_000)]
    categories = [Category(f"{word}.n.01", (word, f"{word} thing")) for word in dict.fromkeys(words)]
    CategoryTokenizer(categories).save(tmp_path / "tokenizer.json")
    tokenizer = CategoryTokenizer.parse((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert tokenizer.categories == (*categories,)
    with pytest.raises(UnknownTextError, match=f"did you mean '{words[77]}'"):
        tokenizer.encode([words[77][:-1]])
    began = time.process_time()
    for word in words[:50]:
        with pytest.raises(UnknownTextError):
            tokenizer.encode([word[1:]])
    assert time.process_time() - began < 5  # difflib takes 10 times as long


def test_near_names_are_those_of_dices_coefficient() -> None:
    names = ["traffic light", "light", "traffic", "lightning", "night"]

    def parts(name: str) -> set[str]:
        return {f" {name} "[at : at + 3] for at in range(len(name))}

    def alike(wrong: str, name: str) -> float:
        return 2 * len(parts(wrong) & parts(name)) / (len(parts(wrong)) + len(parts(name)))

    for wrong in ("trafic light", "lihgt", "lightnin", "zzz", ""):
        expected = [name for name in names if alike(wrong, name) >= 0.3]
        found = NearNames(names).find(wrong, 2)
        assert found == sorted(expected, key=lambda name: (-alike(wrong, name), name))[:2]


def _file(categories: Any, **other: Any) -> str:
    return json.dumps({"type": "categories", "categories": categories} | other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no tokenizer.json of categories"),
        ("{", "no tokenizer.json of categories"),
        ("[]", "no tokenizer.json of categories"),
        ('{"type": "categories"}', "categories: Field required"),
        ('{"model": {"type": "BPE"}}', "no tokenizer.json of categories"),
        (_file([]), "at least 1 item"),
        (_file([{"synset": "dog.n.01", "names": []}]), r"categories.0.names: .* at least 1 item"),
        (_file([{"synset": "dog.n.01"}]), "categories.0.names"),
        (_file([{"synset": "dog.n.01", "names": "dog"}]), "categories.0.names"),
        (_file([{"synset": "dog.n.01", "names": [1]}]), "categories.0.names.0"),
        (_file([{"synset": "dog n 01", "names": ["dog"]}]), "categories.0.synset"),
        (_file([{"synset": "dog.n.01", "names": [""]}]), "categories.0.names.0"),
        (_file([{"synset": "dog.n.01", "names": ["a" * 201]}]), "categories.0.names.0"),
        (_file([{"synset": "dog.n.01", "names": ["a\nb"]}]), "cannot be printed"),
        (_file([{"synset": "dog.n.01", "names": ["\x1b[2J"]}]), "cannot be printed"),
        (_file([{"synset": "dog.n.01", "names": ["\ud800"]}]), "categories.0.names.0|valid"),
        (_file([{"synset": "dog.n.01", "names": [" _ "]}]), "shown as ''"),
        (_file([{"synset": "dog.n.01", "names": [str(i) for i in range(65)]}]), "at most 64"),
        (_file([{"synset": "dog.n.01", "names": ["dog"], "more": 1}]), "categories.0.more"),
        (_file([{"synset": "dog.n.01", "names": ["dog"]}], more=1), "more"),
        (_file([{"synset": "dog.n.01", "names": ["dog"]}], type="bpe"), "type"),
        (
            _file([{"synset": "x.n.01", "names": ["dog"]}, {"synset": "x.n.01", "names": ["cat"]}]),
            "the synset 'x.n.01'",
        ),
        (_file([{"synset": "x.n.01", "names": ["a"]}] * 2), "2 categories are shown as 'a .x.n.01.'"),
        (
            _file([{"synset": f"{i}.n.01", "names": [name]} for i, name in enumerate(["a", "a", "a (0.n.01)"])]),
            r"2 categories are shown as 'a \(0.n.01\)'",
        ),
        (_file([{"synset": "dog.n.01", "names": ["dog"]}] * (MAX_CATEGORIES + 1)), "at most 100000"),
        ("[" * 100_000, "no tokenizer.json of categories"),
        (" " * (64 * 2**20 + 1), "more than 64 million characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_tokenizer_file_is_refused(content: str, message: str) -> None:
    with pytest.raises(TokenizerError, match=message) as caught:
        CategoryTokenizer.parse(content)
    assert len(str(caught.value)) < 600


def test_a_hostile_configuration_is_refused() -> None:
    for categories in (0, -1, MAX_CATEGORIES + 1, True, "9"):
        with pytest.raises(ValidationError):
            CategoriesConfig.model_validate({"categories": categories}, strict=True)
    with pytest.raises(ValidationError):  # a table has no layers
        ModelConfig.model_validate({**category_config(3).model_dump(), "text": {"kind": "categories", "layers": 2}})


def test_the_row_of_a_category_is_its_vector() -> None:
    network = build_network(category_config(5))
    table = network.state_dict()["text.embedding.weight"]
    assert table.shape == (6, 32)
    torch.testing.assert_close(network.encode_text(torch.tensor([[3], [1], [0]])), table[[3, 1, 0]])
    F.normalize(network.encode_text(torch.tensor([[0], [2], [2]])), dim=-1)[:, 0].sum().backward()
    gradient = network.get_parameter("text.embedding.weight").grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).nonzero().flatten().tolist() == [2]  # what fills rows is never learned
    assert float(network.logit_scale.detach().exp()) == pytest.approx(10)
    assert network.logit_bias is not None
    assert float(network.logit_bias.detach()) == -10


def test_the_graphs_are_those_of_the_network(made: tuple[Network, Bundle]) -> None:
    network, bundle = made
    assert max(bundle.manifest.export.image_max_abs_diff, bundle.manifest.export.text_max_abs_diff) < 1e-5
    assert (bundle.context_length, bundle.manifest.export.texts) == (1, len(CATEGORIES))
    assert bundle.logit_bias == pytest.approx(-1.5)
    embedder = Embedder(bundle, "cpu")
    with torch.no_grad():
        expected = F.normalize(network.encode_text(torch.arange(1, 10)[:, None]), dim=-1).numpy()
    np.testing.assert_allclose(embedder.embed_texts(LABELS), expected, atol=1e-6)
    np.testing.assert_allclose(embedder.embed_texts(["frankfurter bun"]), expected[4:5], atol=1e-6)
    with pytest.raises(UnknownTextError):
        embedder.embed_texts(["dog", "zebra"])
    Engine(bundle, "cpu").warm_up()


def test_what_is_exported_is_trained_further_with_the_same_weights(made: tuple[Network, Bundle]) -> None:
    network, bundle = made
    again = load_network(Bundle.load(bundle.path)).state_dict()
    assert again.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-6, atol=1e-7)


def test_no_other_format_holds_it(made: tuple[Network, Bundle], tmp_path: Path) -> None:
    for write in (write_openclip, write_huggingface):
        with pytest.raises(
            CheckpointError, match="a table of categories for a text tower, which no other format holds"
        ):
            write(made[1], tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_a_tokenizer_of_other_categories_is_refused(made: tuple[Network, Bundle], tmp_path: Path) -> None:
    for name, file in {"fewer": CATEGORIES[:-1], "more": (*CATEGORIES, Category("zebra.n.01", ("zebra",)))}.items():
        folder = tmp_path / name
        folder.mkdir()
        for graph in ("image.onnx", "text.onnx", "weights.safetensors"):
            (folder / graph).write_bytes((made[1].path / graph).read_bytes())
        CategoryTokenizer(file).save(folder / "tokenizer.json")
        bundle = write_manifest(folder, made[1].manifest.model_dump(exclude={"files"}))
        with pytest.raises(BundleError, match="the two come from different models"):
            bundle.tokenizer()


@pytest.mark.parametrize(("precision", "fused"), [("fp16", False), ("int8", True)])
def test_variants_keep_the_categories(
    made: tuple[Network, Bundle], tmp_path: Path, precision: Any, fused: bool
) -> None:
    variant = make_variant(made[1], tmp_path / precision, VariantOptions(precision, fused=fused), lambda line: None)
    texts = Embedder(made[1], "cpu").embed_texts(LABELS), Embedder(variant, "cpu").embed_texts(LABELS)
    assert (texts[0] * texts[1]).sum(axis=1).min() > 0.999
    assert variant.tokenizer().encode(["cat"]) == [[2]]


def test_what_is_compared_are_categories_from_the_first_to_the_last() -> None:
    many = CategoryTokenizer([Category(f"c{i}.n.01", (f"c{i}",)) for i in range(1000)])
    rows = smoke_inputs.token_rows(many)
    assert (rows[0], rows[-1], len(rows)) == ([1], [1000], 64)
    assert len({row[0] for row in token_rows(many)}) == 100
    assert smoke_inputs.token_rows(CategoryTokenizer(CATEGORIES[:1])) == [[1]]
