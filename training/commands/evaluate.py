"""python -m training evaluate and datasets: measure a model; what can be measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.suggestions import did_you_mean, not_one_of
from model.zeroshot import template_sets
from training.commands.common import user_errors
from training.evaluation.results import TASKS

if TYPE_CHECKING:
    from training.evaluation.cards import DatasetCard
    from training.evaluation.datasets import DatasetSpec


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A bundle, the folder of a run, or a checkpoint that can be imported; the bundled one if left out."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of a data set, shards as 'DIR/test-*.tar', or KEY=FOLDER with a key of `datasets`; "
            "may be given several times.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Take the tests of this configuration instead.")] = None,
    task: Annotated[list[str] | None, typer.Option(help=f"{', '.join(TASKS)}; by default what the data allow.")] = None,
    train: Annotated[str | None, typer.Option(help="What probes learn from, where --data has no split for it.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help=f"Prompt template, or a set: {', '.join(template_sets())}; several are averaged."),
    ] = None,
    select_templates: Annotated[
        bool, typer.Option("--select-templates", help="Keep the templates that help on the training split.")
    ] = False,
    class_names: Annotated[
        Path | None, typer.Option(help='JSON of other names: {"crane": ["crane bird", "wading bird"]}.')
    ] = None,
    paraphrases: Annotated[
        Path | None,
        typer.Option(help="Pairs for --task paraphrase: CSV, TSV or JSON lines with `query` and `paraphrase`."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the results: a .json file, or a folder for `clip_benchmark build`.")
    ] = None,
) -> None:
    """Measure a model, exactly as it would be served, with 95 % intervals.

    zeroshot: top-1, top-5, mean per class, ROC AUC of two classes, 11-point mAP of several a picture. retrieval: recall
    at 1, 5, 10, both ways. linear-probe, few-shot: logistic regression on the vectors. transfer: such a head that
    begins with what the model knows of the classes' names, beside one from zero. robustness: the other --data beside
    the first. paraphrase: how far the ten pictures agree that a text and its paraphrase find, by average overlap and
    Jaccard similarity; captions of one picture, names of one class, templates and --paraphrases are pairs.

    Examples:

        python -m training evaluate runs/mine/bundle --data 'shards/test-*.tar'

        python -m training evaluate vit-b-32 --data pets=/data/pets --task zeroshot --task linear-probe

        python -m training evaluate runs/mine --config my.yaml --output results.json

        python -m training evaluate --data 'shards/test-*.tar' --task paraphrase --paraphrases pairs.csv
    """
    with user_errors():
        from model.bundle import bundled
        from model.embedder import Embedder
        from model.zeroshot import fill
        from training.config import ConfigError
        from training.data.captions import load_synonyms
        from training.evaluation.datasets import DataError, parse_dataset
        from training.evaluation.evaluator import EvaluationOptions
        from training.evaluation.evaluator import evaluate as run_evaluation
        from training.evaluation.paraphrase_file import read_pairs
        from training.evaluation.results import write_results
        from training.open_bundle import open_bundle
        from training.report.tables import reference_table, results_table

        specs, data_templates, synonyms = datasets_of(data, config)
        unknown = sorted(set(task or ()) - set(TASKS))
        if unknown:
            raise DataError(f"there is no task {unknown[0]}: {not_one_of(unknown[0], TASKS)}")
        prompt_templates = [each for name in template or () for each in template_sets().get(name, (name,))]
        for each in prompt_templates:
            if "{}" not in each and (near := did_you_mean(each, template_sets())):
                raise ConfigError(
                    f"--template {each!r} is neither a template, with {{}} for the label, nor a set: {near}"
                )
            fill(each, "label")
        if paraphrases and "paraphrase" not in (task or ()):
            raise DataError("--paraphrases gives the pairs of --task paraphrase: add that, or leave it away")
        options = EvaluationOptions(
            tasks=task or (),
            templates=prompt_templates or data_templates,
            class_names=_class_names(class_names),
            select_templates=select_templates,
            train=parse_dataset(train, Path.cwd()) if train else None,
            synonyms=load_synonyms(synonyms),
            paraphrases={f" ({paraphrases.name})": read_pairs(paraphrases)} if paraphrases else {},
        )
        with open_bundle(model or bundled()) as bundle:
            if bundle.categories is not None and (template or select_templates):
                raise ConfigError("--template: this model knows categories by name only: leave prompts out")
            results = run_evaluation(Embedder(bundle), specs, options)
            if not results:
                raise DataError("nothing is measured: the model knows categories by name only, and none of these")
            typer.echo("\n\n".join(filter(None, (results_table(results), reference_table(results)))))
            if output:
                write_results(results, bundle.id, bundle.digest, output)


def datasets(key: Annotated[str | None, typer.Argument(help="Tell all of this one.")] = None) -> None:
    """List the data sets of the CLIP paper: what they are, how to get them, what they are measured by."""
    with user_errors():
        from training.config import ConfigError
        from training.evaluation.cards import cards
        from training.report.tables import metric_name

        if key is not None and key not in cards():
            near = did_you_mean(key, cards(), cutoff=0.5)
            raise ConfigError(
                f"there is no data set {key}: {near}{' ' if near else ''}python -m training datasets lists them"
            )
    if key is not None:
        typer.echo(_describe(cards()[key]))
        return
    typer.echo("| key | data set | classes | train | test | figure | templates | read from |")
    typer.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for card in cards().values():
        forms = "archives, CLIP_benchmark" if card.layout else "folders, CLIP_benchmark"
        cells = [card.key, card.title, card.classes or "", f"{card.train:,}" if card.train else "", f"{card.test:,}"]
        cells += [metric_name(card.metric), len(card.prompt_templates()), forms]
        typer.echo(f"| {' | '.join(map(str, cells))} |")


def _describe(card: DatasetCard) -> str:
    from training.report.tables import metric_name

    metric = metric_name(card.metric)
    lines = [
        f"{card.title} ({card.key})",
        f"  {card.classes} classes; {card.train:,} pictures to train, {card.test:,} to test; {metric}",
        f"  licence: {card.licence}",
        f"  from: {card.obtain}",
        f"  then: python -m training evaluate MODEL --data {card.key}=FOLDER",
        "  templates:",
        *(f"    {template}" for template in card.prompt_templates()),
    ]
    return "\n".join(lines)


def datasets_of(data: list[str] | None, config: Path | None) -> tuple[list[DatasetSpec], list[str] | None, Path | None]:
    """The data sets that --data or the tests of --config name, and the templates and synonyms of the latter."""
    from training.config import ConfigError, load_config
    from training.evaluation.datasets import parse_datasets
    from training.run import tests_of

    if data:
        return parse_datasets(data, Path.cwd()), None, None
    if config:
        settings, base = load_config(config), config.resolve().parent
        synonyms = base / settings.data.synonyms if settings.data.synonyms else None
        return tests_of(settings, base), settings.templates, synonyms
    raise ConfigError("name what to measure on: --data 'SHARDS' or --data KEY=FOLDER, or --config FILE for its tests")


def _class_names(file: Path | None) -> dict[str, list[str]]:
    if file is None:
        return {}
    from pydantic import TypeAdapter, ValidationError

    from model.data.files import MAX_LIST_BYTES, read_bounded
    from training.config import ConfigError

    try:
        names = TypeAdapter(dict[str, str | list[str]]).validate_python(json.loads(read_bounded(file, MAX_LIST_BYTES)))
    except (RecursionError, ValueError, ValidationError) as error:
        raise ConfigError(f"{file} is not a JSON object of class: name or class: [names]: {error}") from error
    return {name: [others] if isinstance(others, str) else others for name, others in names.items()}
