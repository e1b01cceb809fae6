"""Results as Markdown tables, the same on a terminal and in a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.evaluation.cards import REFERENCE_MODELS, Reference, cards
from training.evaluation.intervals import too_few
from training.evaluation.results import Comparison, Result

METRIC_NAMES = {
    "acc1": "top-1",
    "acc5": "top-5",
    "mean_acc1_acc5": "mean of top-1 and top-5",
    "mean_per_class_recall": "mean per class",
    "roc_auc": "ROC AUC",
    "mean_average_precision": "mAP",
    "mean_average_precision_11_point": "11-point mAP",
    "text_retrieval_recall@1": "recall at 1",
    "average_overlap@10": "average overlap at 10",
    "average_overlap@10_of_others": "average overlap of other queries",
    "jaccard@10": "Jaccard at 10",
    "acc1_clean": "clean",
    "acc1_lost": "lost",
    "acc1_from_zero": "from zero",
}


def metric_name(metric: str) -> str:
    """The usual name of a metric, for people."""
    return METRIC_NAMES.get(metric, metric.replace("_retrieval_recall@", " R@").replace("_", " "))


def results_table(results: Sequence[Result]) -> str:
    """A Markdown table of results in percent, with 95 % intervals of the headline figures."""
    lines = [
        "| data set | task | pictures | choices | figure | % | 95 % interval | and |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        low, high = result.interval
        others = ", ".join(
            f"{metric_name(name)} {100 * value:.1f}"
            for name, value in result.metrics.items()
            if name != result.headline
        )
        task = result.task.replace("_", " ").replace("zeroshot", "zero-shot")
        headline = metric_name(result.headline)
        lines.append(
            f"| {result.dataset} | {task} | {result.images:,} | {result.choices:,} "
            f"| {headline} | {100 * result.value:.1f} | {100 * low:.1f} to {100 * high:.1f} | {others} |"
        )
    warnings = [f"\nWarning: {few}." for few in small_dataset_warnings(results)]
    return "\n".join([*lines, *_skipped_lines(results), *warnings])


def _skipped_lines(results: Sequence[Result]) -> list[str]:
    """A line on what was skipped of each data set."""
    by_set = {result.dataset: format_counts(result.skipped) for result in results if result.skipped}
    return [""] * bool(by_set) + [f"Skipped of {name}: {counts}." for name, counts in by_set.items()]


def format_counts(reasons: Mapping[str, int]) -> str:
    """Counts of skipped samples by reason, as one line."""
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))


def small_dataset_warnings(results: Sequence[Result]) -> list[str]:
    """Warnings of data sets that are too small for a percentage."""
    names = {result.dataset: result.images for result in results}
    return [few for name, images in names.items() if (few := too_few(images, name))]


def comparison_table(compared: Sequence[Comparison]) -> str:
    """A Markdown table of what training further changed, in percent."""
    lines = [
        "| before and after | pictures | figure | before % | after % | difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in compared:
        change = f"{each.points:+.1f}{' **worse**' if each.is_worse else ''}"
        figures = f"{100 * each.before:.1f} | {100 * each.after:.1f} | {change}"
        lines.append(f"| {each.dataset} | {each.images:,} | {metric_name(each.metric)} | {figures} |")
    return "\n".join(lines)


def reference_table(results: Sequence[Result]) -> str:
    """Zero-shot results beside those of OpenAI's models, in percent; empty where none of them is known."""
    rows = []
    for result in results:
        card = cards().get(result.dataset)
        if result.task == "zeroshot_classification" and card is not None and card.reference is not None:
            cells = [_reference_cell(card.reference, column) for column in range(len(REFERENCE_MODELS))]
            rows.append(
                f"| {card.title} | {metric_name(result.headline)} | {100 * result.value:.1f} | {' | '.join(cells)} |"
            )
    if not rows:
        return ""
    head = f"| zero-shot | figure | this model | {' | '.join(REFERENCE_MODELS)} |"
    note = "OpenAI's models: as in the paper / as LAION measured them again (top-1 there)."
    return "\n".join([head, "| --- | --- | --- |" + " --- |" * len(REFERENCE_MODELS), *rows, "", note])


def _reference_cell(reference: Reference, column: int) -> str:
    values = [row[column] if column < len(row) else None for row in (reference.paper, reference.laion)]
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)
