"""Write the report of a run: report.html in its folder, the model card and the list of authors in the bundle."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from model.bundle import Bundle
from model.category_config import CategoriesConfig
from model.config import (
    MixtureConfig,
    ModelConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipViTConfig,
    TextConfig,
    ViTConfig,
)
from model.pretrained_text import TransformersTextConfig
from training.categories.vocabulary import read_vocabulary
from training.evaluation.intervals import percent
from training.evaluation.results import Comparison
from training.metrics import read_records
from training.report.attributions import count_attributions, summarize_origins, write_attributions
from training.report.curves import curves
from training.report.findings import Findings
from training.report.glossary import terms_of
from training.report.pages import stylesheet, templates
from training.report.tables import (
    comparison_table,
    format_counts,
    results_table,
    small_dataset_warnings,
)
from training.run_folder import CATEGORIES

REPORT, CARD, ATTRIBUTIONS = "report.html", "MODEL_CARD.md", "ATTRIBUTIONS.tsv.gz"
MAX_IMAGES = 420  # of a report, about 4 kB each
MAX_DATASETS = 12  # whose images are shown


def write_report(
    run: Path,
    bundle: Bundle,
    metrics: Path,
    findings: Sequence[Findings],
    shards: Sequence[Path],
    compared: Sequence[Comparison] = (),
) -> Path:
    """Write the report into the folder of the run, card and authors into that of the bundle; returns the report.

    `bundle` is as exported by the run, `metrics` its metrics.jsonl, `shards` what it learned from, `compared` what a
    bundle that was trained further had before.
    """
    records = read_records(metrics)
    counts = count_attributions(shards)
    attributed = write_attributions(counts, bundle.path / ATTRIBUTIONS)
    if not attributed:
        (bundle.path / ATTRIBUTIONS).unlink()
    context = _template_context(bundle, records) | {"origins": summarize_origins(counts), "attributed": attributed}
    context["results"] = [each.result for each in findings]
    context["compared"] = compared
    context["warnings"] = small_dataset_warnings(context["results"])
    context["vocabulary"] = read_vocabulary(run / CATEGORIES) if (run / CATEGORIES).exists() else None
    context["held_out_score"] = percent(context["best_score"], context["held_out_items"])
    card = _card(context, findings)
    (bundle.path / CARD).write_text(card, "utf-8")
    page = (
        templates()
        .get_template("report.html.j2")
        .render(**context, style=stylesheet(), curves=curves(records), findings=_limit_findings(findings))
    )
    report = run / REPORT
    report.write_text(page, "utf-8")
    return report


def _card(context: Mapping[str, Any], findings: Sequence[Findings]) -> str:
    """The model card; what of its words has to be explained is seen where it is written."""
    variables = {
        **context,
        "table": results_table(context["results"]),
        "comparison": comparison_table(context["compared"]),
        "errors": [(each.result.dataset, each.calibration.error) for each in findings if each.calibration],
    }
    template = templates().get_template("card.md.j2")
    return template.render(**variables, terms=terms_of(template.render(**variables, terms=[])))


def _template_context(bundle: Bundle, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The variables of both templates."""
    manifest = bundle.manifest
    towers = manifest.config
    assert isinstance(towers, ModelConfig), "what was trained here is a network of ours"
    source = manifest.source
    configuration = source["configuration"]
    size = configuration["batch_size"]
    return {
        **{name: source[name] for name in ("training_items", "held_out_items", "best_step", "best_score")},
        "name": bundle.id,
        "digest": bundle.digest,
        "skipped": format_counts(source.get("skipped_items", {})),
        "filtered": format_counts(source.get("filtered_captions", {})),
        "dropped": source.get("dropped_by_filters", 0),
        "manifest": manifest,
        "source": source,
        "parameters": source["parameters"],
        "image_tower": _image_tower(towers.image) + _mixed(towers.mixture),
        "text_tower": _text_tower(towers.text),
        "steps": configuration["steps"],
        "batch_size": size,
        "clip_norm": configuration["optimizer"]["clip_norm"],
        "clipped": sum(record.get("clipped", 0) for record in records) / len(records),
        "left_out": sum(record["gradient_norm"] is None for record in records),
        "took": _format_duration(sum(size / record["samples_per_s"] for record in records)),
        "machine": _device_name(),
        "ended": datetime.fromtimestamp(records[-1]["time"], UTC).strftime("%d %B %Y").lstrip("0"),
        "configuration": yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True).strip(),
    }


def _limit_findings(findings: Sequence[Findings]) -> list[Findings]:
    """As many images as a page may hold: fewer of each data set where there are many, of the first MAX_DATASETS."""
    shown = [each for each in findings if each.queries or each.mistakes or each.confusion][:MAX_DATASETS]
    budget = MAX_IMAGES // max(1, len(shown))
    kept = []
    for each in shown:
        queries = each.queries[: max(2, budget // 16)]
        left = budget - sum(len(query.matches) for query in queries)
        kept.append(Findings(each.result, queries, each.mistakes[: max(4, left)], each.confusion, each.calibration))
    return kept


def _image_tower(config: ViTConfig | ResNetConfig | SiglipViTConfig) -> str:
    if isinstance(config, ResNetConfig):
        blocks = ", ".join(map(str, config.layers))
        return f"ModifiedResNet, {config.block} blocks ({blocks}), width {config.width}"
    return f"vision transformer, {config.layers} layers, width {config.width}, patches of {config.patch_size} pixels"


def _mixed(mixture: MixtureConfig | None) -> str:
    return "" if mixture is None else f", {mixture.tokens} vectors of a picture, mixed for each text"


def _text_tower(config: TextConfig | SiglipTextConfig | CategoriesConfig | TransformersTextConfig) -> str:
    if isinstance(config, CategoriesConfig):
        return f"a table of {config.categories:,} categories, which are known by name only"
    if isinstance(config, TransformersTextConfig):
        kind, layers = config.architecture["model_type"], config.alignment_layers
        return (
            f"frozen {kind}, width {config.width}, under {layers} trained layers; {config.context_length} tokens in a "
            "text"
        )
    return (
        f"transformer, {config.layers} layers, width {config.width}; {config.vocab_size:,} tokens in the vocabulary, "
        f"{config.context_length} in a text"
    )


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} cores ({platform.machine()})"


def _format_duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"
