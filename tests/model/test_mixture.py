"""Llip's network and bundle: pictures of several vectors, mixed for each text, in torch and in the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from model import mixture_tiles
from model.__main__ import app
from model.bundle import Bundle, BundleError
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.networks import load_network
from model.checkpoints.openclip.folder import write_folder as write_openclip
from model.checkpoints.transformers.hf_folder import write_folder as write_transformers
from model.config import MixtureConfig, ModelConfig, Preprocessing
from model.embedder import Embedder
from model.export.bundle import export_bundle
from model.export.comparison import ExportError, write_measured
from model.manifest import MANIFEST, MIXTURE_GRAPH
from model.network import CLIP, build_network, loss_parameters
from model.network.mixture import Mixture
from model.runtime.engine import Engine, EngineError
from model.tokenizers.clip import Tokenizer
from model.variants.inputs import photograph_crops
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.model.conftest import TINY_LLIP, TINY_RESNET, TINY_VIT, random_network

DIM = 32
PHOTOGRAPHS = Path(__file__).parents[2] / "model" / "probe_data"


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def random_mixture(tokens: int, heads: int, temperature: float = 5.0) -> Mixture:
    torch.manual_seed(1)
    mixture = Mixture(MixtureConfig(tokens=tokens, heads=heads, temperature=temperature), DIM)
    for parameter in mixture.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return mixture


def plain_cosine(mixture: Mixture, image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Of one image [tokens, dim] and one text [dim], head by head, as the formula says."""
    width = DIM // mixture.heads
    heads = []
    for head in range(mixture.heads):
        columns = slice(head * width, (head + 1) * width)
        asked = text @ mixture.query[:, columns]
        scores = torch.stack([DIM * (asked @ (token @ mixture.key[:, columns])) / temperature for token in image])
        shares = scores.exp() / scores.exp().sum()
        heads.append(
            sum(share * (token @ mixture.value[:, columns]) for share, token in zip(shares, image, strict=True))
        )
    mixed = torch.cat(heads) @ mixture.output
    return mixed @ text / mixed.norm()


@torch.no_grad()
@pytest.mark.parametrize(("tokens", "heads", "temperature"), [(1, 1, 5.0), (3, 2, 5.0), (5, 4, 0.5), (4, 1, 100.0)])
def test_cosines_are_those_of_the_formula(tokens: int, heads: int, temperature: float) -> None:
    mixture = random_mixture(tokens, heads, temperature).double()
    images, texts = unit(4, tokens, DIM).double(), unit(6, DIM, seed=1).double()
    expected = [[plain_cosine(mixture, image, text, temperature) for text in texts] for image in images]
    torch.testing.assert_close(mixture(images, texts), torch.tensor(expected, dtype=torch.float64))


def test_a_text_changes_what_it_is_compared_with_and_no_other() -> None:
    mixture = random_mixture(3, 2, 0.1)
    images, texts = unit(2, 3, DIM), unit(5, DIM, seed=1)
    changed = torch.cat([texts[:4], unit(1, DIM, seed=2)])
    before, after = mixture(images, texts), mixture(images, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().min() > 1e-3


def test_one_token_is_a_network_of_one_vector_a_picture() -> None:
    """At first, when values and output are the identity: it has no parameter more in its tower."""
    torch.manual_seed(0)
    plain = CLIP(TINY_VIT).eval()
    mixed = CLIP(TINY_VIT.model_copy(update={"mixture": MixtureConfig(tokens=1, heads=2)})).eval()
    assert not any("mixture_tokens" in name for name, _ in mixed.named_parameters())
    mixed.load_state_dict(plain.state_dict(), strict=False)
    pixels, ids = torch.randn(3, 3, 48, 48), torch.randint(1, 1000, (4, 9))
    image, text = plain(pixels, ids)
    tokens, same_text = mixed(pixels, ids)
    torch.testing.assert_close((tokens[:, 0], same_text), (image, text))
    torch.testing.assert_close(mixed.cosines(tokens, text), plain.cosines(image, text))


def test_the_tokens_of_the_tower_differ_and_see_the_picture() -> None:
    network = random_network(TINY_LLIP)
    first, second = network.encode_image(torch.randn(2, 3, 48, 48)).detach()
    assert first.shape == (3, DIM)
    assert min((first[i] - first[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))) > 0.1
    assert (first - second).norm(dim=-1).min() > 0.1


def test_patch_dropout_leaves_the_tokens() -> None:
    network = random_network(TINY_LLIP)
    pixels = torch.randn(2, 3, 48, 48)
    everything = torch.arange(9).expand(2, -1)
    torch.testing.assert_close(network.encode_image(pixels, everything), network.encode_image(pixels))
    assert network.encode_image(pixels, everything[:, :4]).shape == (2, 3, DIM)


def test_what_belongs_to_the_loss() -> None:
    own = {"logit_scale", "mixture.query", "mixture.key", "mixture.value", "mixture.output"}
    assert loss_parameters(CLIP(TINY_LLIP)).keys() == own
    assert loss_parameters(CLIP(TINY_VIT)).keys() == {"logit_scale"}


@pytest.mark.parametrize(
    ("config", "mixture", "reason"),
    [
        (TINY_RESNET, {}, "an image tower of kind resnet has no mixture tokens"),
        (TINY_VIT, {"heads": 3}, "embed_dim 32 is not a multiple of the 3 heads"),
        (TINY_VIT, {"tokens": 0}, "greater than or equal to 1"),
        (TINY_VIT, {"temperature": 0}, "greater than or equal to 0.001"),
        (TINY_VIT, {"tokens": 256, "heads": 32}, "more weights for each picture and text than 4,096"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(config: ModelConfig, mixture: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ModelConfig.model_validate({**config.model_dump(), "mixture": mixture})


@pytest.fixture(scope="module")
def llip(tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIP, Bundle]:
    network = random_network(TINY_LLIP)
    return network, export_bundle(
        network,
        tmp_path_factory.mktemp("llip"),
        tokenizer=Tokenizer.clip(1024, 77),
        preprocessing=Preprocessing(size=48),
        weights_dtype="float16",
    )


def test_a_bundle_says_how_many_vectors_and_measures_the_cosines(llip: tuple[CLIP, Bundle]) -> None:
    _, bundle = llip
    assert bundle.mixture == TINY_LLIP.mixture
    assert bundle.image_shape == (3, DIM)
    assert MIXTURE_GRAPH in bundle.manifest.files
    assert bundle.manifest.export.mixture_max_abs_diff is not None
    assert bundle.manifest.export.mixture_max_abs_diff < 1e-5


@torch.no_grad()
def test_the_engine_computes_what_torch_does(llip: tuple[CLIP, Bundle]) -> None:
    photographs = [file.read_bytes() for file in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    network, bundle = llip
    embedder = Embedder(bundle, "cpu")
    images, texts = embedder.embed_images(photographs), embedder.embed_texts(["a cat", "an astronaut"])
    assert images.shape == (4, 3, DIM)
    np.testing.assert_allclose(np.linalg.norm(images, axis=-1), 1, atol=1e-6)
    expected = network.cosines(torch.from_numpy(images), torch.from_numpy(texts))
    np.testing.assert_allclose(embedder.cosines(images, texts), expected, atol=1e-6)


def test_cosines_in_parts_are_those_of_the_whole(llip: tuple[CLIP, Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(llip[1], "cpu")
    images, texts = unit(9, 3, DIM).numpy(), unit(11, DIM, seed=1).numpy()
    whole, runs = engine.cosines(images, texts), []
    assert engine.mixture_session is not None
    monkeypatch.setattr(mixture_tiles, "MAX_NUMBERS", 120)
    session = engine.mixture_session.session
    monkeypatch.setattr(
        engine.mixture_session,
        "session",
        type("Counted", (), {"run": lambda _, *given: runs.append(given[1]) or session.run(*given)})(),
    )
    np.testing.assert_allclose(engine.cosines(images, texts), whole, atol=1e-6)
    assert {(len(run["images"]), len(run["texts"])) for run in runs} == {(1, 5), (1, 1)}
    assert engine.cosines(images[:0], texts).shape == (0, 11)
    assert engine.cosines(images, texts[:0]).shape == (9, 0)
    engine.close()
    assert engine.mixture_session.session is None


@torch.no_grad()
def test_a_bundle_is_read_back_as_the_same_network(llip: tuple[CLIP, Bundle]) -> None:
    network, bundle = llip
    again = load_network(bundle)
    assert again.config == network.config
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_bundle_without_the_graph_is_refused(llip: tuple[CLIP, Bundle], tmp_path: Path) -> None:
    copy = shutil.copytree(llip[1].path, tmp_path / "copy")
    manifest = json.loads((copy / MANIFEST).read_text())
    record = manifest["files"].pop(MIXTURE_GRAPH)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"does not list mixture\.onnx: export the bundle again"):
        Bundle.load(copy)
    manifest["config"]["mixture"], manifest["files"][MIXTURE_GRAPH] = None, record
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"lists mixture\.onnx, which a model without a mixture does not have"):
        Bundle.load(copy)


def test_a_mixture_that_the_tower_does_not_have_is_refused_at_the_start(
    llip: tuple[CLIP, Bundle], tmp_path: Path
) -> None:
    copy = shutil.copytree(llip[1].path, tmp_path / "copy")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["config"]["mixture"]["tokens"] = 5
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"does not run as its manifest says|gives"):
        Engine(Bundle.load(copy), "cpu").warm_up()


def test_a_graph_that_mixes_otherwise_is_no_export(llip: tuple[CLIP, Bundle], tmp_path: Path) -> None:
    """Of a network whose W_Q is not that of the graph, which is noticed by the cosines alone."""
    from model.export.bundle import measure

    network, bundle = llip
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    other = build_network(network.config)
    other.load_state_dict(network.state_dict())
    other.eval()
    assert other.mixture is not None
    other.mixture.query.data *= -3
    fields = json.loads((copy / MANIFEST).read_text())
    with pytest.raises(ExportError, match="the exported graphs differ from the network"):
        write_measured(copy, fields, 1e-4, lambda draft: measure(other, draft))


@pytest.mark.parametrize("write", [write_openclip, write_transformers])
def test_no_other_format_has_a_mixture(llip: tuple[CLIP, Bundle], tmp_path: Path, write: Any) -> None:
    with pytest.raises(CheckpointError, match="tiny-llip has 3 vectors of a picture, which are mixed for each text"):
        write(llip[1], tmp_path / "folder")


def test_inspect_and_verify_say_what_is_mixed(llip: tuple[CLIP, Bundle]) -> None:
    path = str(llip[1].path)
    shown = CliRunner().invoke(app, ["inspect", path]).output
    assert "3 vectors of a picture, mixed for each text by 2 heads at temperature 5" in shown
    assert "both towers and what mixes them run" in CliRunner().invoke(app, ["verify", path]).output


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (VariantOptions("int8"), 0.03),
        (VariantOptions("fp16"), 1e-3),
        (VariantOptions("bf16"), 0.02),
        (VariantOptions("fp32", fused=True), 1e-5),
    ],
    ids=lambda value: getattr(value, "suffix", None),
)
def test_a_variant_mixes_in_float32(
    llip: tuple[CLIP, Bundle], tmp_path: Path, options: VariantOptions, difference: float
) -> None:
    """Towers are rounded; what mixes reads the weights of the bundle as they are, but in bf16, where it is rounded."""
    source = llip[1]
    variant = make_variant(source, tmp_path / "variant", options, lambda _: None)
    assert variant.mixture == source.mixture
    engines, tokenizer = [Engine(bundle, "cpu") for bundle in (source, variant)], source.tokenizer()
    pixels = photograph_crops(source.preprocessing)[:8]
    ids = tokenizer.pad(tokenizer.encode(["a cat", "a rocket in the night", "tea"]))
    ours, theirs = (each.cosines(each.embed_images(pixels), each.embed_texts(ids)) for each in engines)
    np.testing.assert_allclose(theirs, ours, atol=difference)
    images, texts = unit(4, 3, DIM).numpy(), unit(5, DIM, seed=1).numpy()
    mixed = [each.cosines(images, texts) for each in engines]
    np.testing.assert_allclose(mixed[1], mixed[0], atol=0.01 if options.precision == "bf16" else 1e-6)
    report = variant.manifest.variant
    assert report is not None
    said = "what mixes it for each text in float32" in report.rows()["image variant"]
    assert said == (options.precision in ("int8", "fp16"))
