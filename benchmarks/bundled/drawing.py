"""Curves, calibration and answers to photographs, drawn for the card of the bundled checkpoint; and its tables.

The photographs are those of scikit-image that are free of any licence.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from model.bundle import Bundle
from model.embedder import Embedder
from model.zeroshot import DEFAULT_TEMPLATES, label_vectors, softmax
from training.config import TrainConfig, load_config
from training.evaluation.evaluator import EvaluationOptions, evaluate
from training.metrics import METRICS
from training.report.diagnostics import BINS, Calibration
from training.report.findings import FindingsCollector
from training.report.tables import results_table
from training.run import tests_of

TO = Path("docs/bundled")
SURE = (11 / BINS, 13 / BINS)  # between these scores about 80 % should be right
# File in scikit-image, and what is on it. NASA, Stefan van der Walt, Rachel Michetti, SpaceX, Lav Varshney.
PHOTOGRAPHS = {
    "coffee.png": "cup of coffee",
    "rocket.jpg": "rocket",
    "chelsea.png": "cat",
    "astronaut.png": "astronaut",
    "camera.png": "camera",
    "clock_motion.png": "clock",
    "moon.png": "moon",
    "hubble_deep_field.jpg": "galaxy",
}
OTHERS = ("dog", "flower", "airplane", "pizza", "shoe", "banana")  # that may be answered, too
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
COLOURS = [mpl.colormaps["tab20"](number) for number in (*range(0, 20, 2), *range(1, 20, 2))]
FEWEST = 10  # answers in a bin that is drawn


def draw(run: Path, config: Path) -> list[str]:
    """Write the pictures into docs/bundled; the tables, in Markdown. The tests of `config` must be there."""
    settings = load_config(config)
    bundle = Bundle.load(run / "bundle")
    records = [json.loads(line) for line in (run / METRICS).read_text("utf-8").splitlines()]
    TO.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        _save(_curves(records, settings), "curves")
        embedder = Embedder(bundle)
        _photographs(embedder).savefig(
            TO / "photographs.webp", dpi=100, pil_kwargs={"quality": 80}, bbox_inches="tight"
        )
        collector = FindingsCollector(embedder)
        results = evaluate(
            embedder, tests_of(settings, config.parent), EvaluationOptions(templates=settings.templates), collector
        )
        found = {each.result.dataset: each.calibration for each in collector.findings if each.calibration}
        _save(_reliability(found), "calibration")
    seconds = sum(settings.batch_size / record["samples_per_s"] for record in records)
    took = f"{len(records)} steps of {settings.batch_size} in {seconds / 60:.0f} minutes"
    return [results_table(results), _calibration_table(found), took]


def _save(figure: Figure, name: str) -> None:
    """As lossless WebP of few colours: a tenth of an SVG of as many points."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=144)
    few = Image.open(drawn).convert("RGB").quantize(48, dither=Image.Dither.NONE).convert("RGB")
    few.save(TO / f"{name}.webp", lossless=True, method=6)


def _curves(records: Sequence[Mapping[str, Any]], config: TrainConfig) -> Figure:
    """Loss by step, and held-out accuracy of each source."""
    figure = Figure((10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.set_prop_cycle(color=COLOURS)
    steps = np.array([record["step"] for record in records])
    losses = np.array([record["loss"] for record in records])
    width = max(1, len(losses) // 60)
    left.plot(steps, losses, color="#c9cfd6", linewidth=0.6)
    left.plot(steps[width - 1 :], np.convolve(losses, np.ones(width) / width, mode="valid"), color="#1f6feb")
    left.set(xlabel="step", ylabel="loss")
    measured = [record for record in records if record.get("holdout_by_source")]
    for source in measured[-1]["holdout_by_source"]:
        pattern = Path(config.data.train[int(source.removeprefix("source "))].where[0]).name
        name = pattern.removeprefix("train-").removesuffix("-*.tar")
        right.plot(
            [record["step"] for record in measured],
            [100 * record["holdout_by_source"][source] for record in measured],
            label=name, marker=".", linewidth=1,
        )  # fmt: skip
    right.set(xlabel="step", ylabel="held-out top-1, %")
    _legend(right)
    return figure


def _photographs(embedder: Embedder) -> Figure:
    """Each photograph with its answers, the right one in green."""
    labels = [*PHOTOGRAPHS.values(), *OTHERS]
    words = label_vectors(embedder.embed_texts, labels, DEFAULT_TEMPLATES)
    folder = Path(str(files("skimage"))) / "data"
    pictures = embedder.embed_images([(folder / name).read_bytes for name in PHOTOGRAPHS])
    scores = softmax(embedder.bundle.logit_scale * pictures @ words.T)
    figure = Figure((9, 5.6), layout="constrained")
    for index, (axes, (name, truth)) in enumerate(zip(figure.subplots(2, 4).flat, PHOTOGRAPHS.items(), strict=True)):
        with Image.open(folder / name) as image:
            axes.imshow(image.convert("RGB"))
        axes.axis("off")
        best = np.argsort(-scores[index])[:3]
        answers = "\n".join(f"{labels[each]} {scores[index, each]:.2f}" for each in best)
        axes.set_title(answers, color="#1a7f37" if labels[best[0]] == truth else "#cf222e", fontsize=9)
    return figure


def _reliability(found: Mapping[str, Calibration]) -> Figure:
    """Share of right answers by score, for each test; a calibrated model is on the diagonal."""
    figure = Figure((5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=COLOURS)
    axes.plot([0, 1], [0, 1], color="#8b949e", linestyle="--", linewidth=1)
    for name, of in found.items():
        bins = [each for each in of.bins if each.predictions >= FEWEST]
        axes.plot([each.score for each in bins], [each.accuracy for each in bins], marker=".", label=name)
    axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _calibration_table(found: Mapping[str, Calibration]) -> str:
    low, high = SURE
    lines = [
        f"| test | expected calibration error, points | answers from {low:.2f} to {high:.2f} | of them right, % |",
        "| --- | --- | --- | --- |",
    ]
    for name, of in found.items():
        sure = [each for each in of.bins if low < each.score < high]
        answers = sum(each.predictions for each in sure)
        right = sum(each.predictions * each.accuracy for each in sure)
        share = f"{100 * right / answers:.0f}" if answers else "-"
        lines.append(f"| {name} | {100 * of.error:.1f} | {answers:,} | {share} |")
    return "\n".join(lines)
