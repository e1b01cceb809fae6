"""Models: every family with random weights in every precision, as our export makes it, and what torch computes."""

from __future__ import annotations

import multiprocessing
import string
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.gpu_check.findings import Findings, Options
from model.bundle import Bundle, bundled
from model.config import (
    ModelConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipViTConfig,
    TextConfig,
    ViTConfig,
    load_preset,
)
from model.runtime.processor import usable_cores

if TYPE_CHECKING:
    from model.network import Network
    from model.tokenizers.clip import TextTokenizer
    from model.variants.options import VariantOptions

BATCH = 16  # items that are compared
LARGE = "ViT-B-32"  # at its full size, for the ladder
VARIANTS = ("fp16", "bf16", "fp32-fused", "fp16-fused")
_TEXT = TextConfig(width=128, heads=4, layers=4, vocab_size=4096)
_TOWER = {"image_size": 96, "patch_size": 16, "width": 192, "layers": 4, "heads": 6}
FAMILIES = {
    "vit": ModelConfig(
        name="vit", embed_dim=128, activation="quick_gelu", image=ViTConfig.model_validate(_TOWER), text=_TEXT
    ),
    "siglip": ModelConfig(
        name="siglip", embed_dim=192, activation="gelu_tanh", image=SiglipViTConfig.model_validate(_TOWER),
        text=SiglipTextConfig(context_length=32, vocab_size=512, width=128, layers=4, heads=4),
    ),
    "resnet": ModelConfig(
        name="resnet", embed_dim=128, activation="gelu",
        image=ResNetConfig(image_size=96, width=32, layers=(1, 2, 2, 1), heads=8), text=_TEXT,
    ),
    "basic-resnet": ModelConfig(
        name="basic-resnet", embed_dim=128, activation="gelu",
        image=ResNetConfig(image_size=96, width=32, layers=(1, 2, 2, 1), heads=8, block="basic", stem="strided"),
        text=_TEXT,
    ),
}  # fmt: skip


class Job(NamedTuple):
    """One model to make, in these variants, into that folder."""

    config: ModelConfig
    variants: tuple[str, ...]
    folder: Path


def run(options: Options, findings: Findings) -> None:
    """Make them, several at once where there are cores."""
    jobs = _jobs(options)
    workers = max(1, min(len(jobs), usable_cores() // 2))
    made = "exported as torch computes it, within 1e-4 on the CPU"
    if workers == 1:
        for job in jobs:
            findings.promise(f"{job.config.name}: {made}", True, _make(job))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for job, what in zip(jobs, pool.map(_make, jobs), strict=True):
            findings.promise(f"{job.config.name}: {made}", True, what)


def _jobs(options: Options) -> list[Job]:
    folder = options.folder / "models"
    if options.quick:  # each block takes a second to trace; in bf16 the graph is that of fp32
        return [Job(_shallow(FAMILIES["vit"]), ("bf16",), folder / "vit")]
    jobs = [Job(load_preset(LARGE), ("fp16",), folder / LARGE)]
    return jobs + [Job(config, VARIANTS, folder / name) for name, config in FAMILIES.items()]


def _shallow(config: ModelConfig) -> ModelConfig:
    towers = {name: getattr(config, name).model_copy(update={"layers": 1}) for name in ("image", "text")}
    return config.model_copy(update=towers)


def _make(job: Job) -> str:
    from model.config import Preprocessing
    from model.export.bundle import export_bundle
    from model.variants.make_variant import make_variant

    network, tokenizer = _random_network(job.config), _tokenizer(job.config)
    preprocessing = Preprocessing(size=job.config.image.image_size)
    exact = export_bundle(network, job.folder / "fp32", tokenizer=tokenizer, preprocessing=preprocessing)
    _write_reference(network, exact, job.folder / "reference.npz")
    for name in job.variants:
        make_variant(exact, job.folder / name, _variant_options(name), lambda step: None)
    report = exact.manifest.export
    return f"{max(report.image_max_abs_diff, report.text_max_abs_diff):.1e}; {', '.join(('fp32', *job.variants))}"


def _variant_options(name: str) -> VariantOptions:
    from typing import cast

    from model.variant_report import Precision
    from model.variants.options import VariantOptions

    precision, _, fused = name.partition("-")
    return VariantOptions(cast(Precision, precision), fused=bool(fused))


def _random_network(config: ModelConfig) -> Network:
    """A network in which nothing is left at a value that hides a mistake, batch statistics included."""
    import torch
    from torch import nn

    from model.network import build_network

    torch.manual_seed(0)
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or "ln_" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def _tokenizer(config: ModelConfig) -> TextTokenizer:
    from model.tokenizers.clip import Tokenizer
    from model.tokenizers.sentencepiece import SentenceTokenizer
    from model.tokenizers.vocabulary import SPACE, Vocabulary

    if isinstance(config.text, TextConfig):
        return Tokenizer.clip(config.text.vocab_size, config.text.context_length)
    letters = [*string.ascii_lowercase, *string.digits]
    ids = {
        piece: index for index, piece in enumerate(["<unk>", "</s>", SPACE, *letters, *(SPACE + a for a in letters)])
    }
    scores = tuple(-1.0 for _ in ids)
    control = frozenset(("<unk>", "</s>"))
    return SentenceTokenizer(Vocabulary("unigram", ids, scores, (), 0, False, control, ()), config.text)


def _write_reference(network: Network, bundle: Bundle, file: Path) -> None:
    """Pixels [n, size, size, 3], token ids [n, length], and what torch makes of them on the CPU in fp32."""
    import torch

    from model import smoke_inputs
    from model.export.graphs import ImageGraph, TextGraph

    pixels = smoke_inputs.pixels(bundle.preprocessing, BATCH)
    rows = smoke_inputs.token_rows(bundle.tokenizer())
    ids = bundle.tokenizer().pad([rows[i * (len(rows) - 1) // (BATCH - 1)] for i in range(BATCH)])
    with torch.no_grad():
        image = ImageGraph(network, bundle.preprocessing).eval()(torch.from_numpy(pixels)).numpy()
        text = TextGraph(network).eval()(torch.from_numpy(ids)).numpy()
    np.savez(file, pixels=pixels, token_ids=ids, image=image, text=text)


def families(options: Options) -> Iterator[Path]:
    """The folders of the models that were made: a reference, and a bundle for each precision."""
    return iter(sorted(each.parent for each in (options.folder / "models").glob("*/reference.npz")))


def bundles(family: Path) -> Iterator[Bundle]:
    """The bundles of a family, exact one first."""
    folders = [each for each in family.iterdir() if each.is_dir()]
    return map(Bundle.load, sorted(folders, key=lambda folder: (folder.name != "fp32", folder.name)))


def to_serve(options: Options, precision: str = "fp16") -> Path:
    """The model that speed is measured with: ViT-B/32, or in a quick run the bundled one."""
    return bundled() if options.quick else options.folder / "models" / LARGE / precision
