"""Publish a bundle: find the served model, measure it, swap the bundles, measure again, roll back if it is worse."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.bundle import Bundle
from model.manifest import BundleError
from model.tokenizers.categories import CategoryTokenizer
from model.zeroshot import default_templates
from training.evaluation.datasets import DataError, DatasetSpec
from training.evaluation.intervals import too_few, wilson
from training.progress import console
from training.publishing.served_folder import ServedFolder
from training.publishing.service_client import LabelledImages, PublishError, ServedModel, ServiceClient

IMAGES = 400  # by which a model is judged


@dataclass(frozen=True)
class PublishTarget:
    """A service, and which of its models a bundle is to replace."""

    url: str
    folder: Path | None = None  # as this machine sees it; by default the one in the service's settings
    model: str | None = None  # id of the model to replace; by default that of the bundle


def draw_labelled_images(specs: Sequence[DatasetSpec], templates: Sequence[str]) -> LabelledImages:
    """At most IMAGES, evenly out of the first data set that has one class for each image. Raises DataError."""
    for spec in specs:
        for suffix, split in spec.read("test").items():
            if split.classes and split.truth is None:
                rows = np.unique(np.linspace(0, len(split) - 1, min(IMAGES, len(split))).astype(int))
                labels = [split.classes[split.targets[row]] for row in rows]
                images = [split.images[row] for row in rows]
                return LabelledImages(f"{spec.name}{suffix}", images, labels, split.classes, templates)
    raise DataError("there are no labelled pictures to check the model with: name some with --check 'SHARDS'")


def known_to(bundle: Bundle, labelled: LabelledImages) -> LabelledImages:
    """What a model that knows categories by name only can be asked of these; all of it, of any other model.

    Raises DataError where that is nothing.
    """
    tokenizer = bundle.tokenizer()
    if not isinstance(tokenizer, CategoryTokenizer):
        return labelled
    unknown = set(tokenizer.unknown(labelled.classes))
    classes = [name for name in labelled.classes if name not in unknown]
    rows = [row for row, label in enumerate(labelled.labels) if label not in unknown]
    if not rows:
        raise DataError(f"{labelled.name}: none of its classes is a category of {bundle.id}, which knows no other text")
    images, labels = [labelled.images[row] for row in rows], [labelled.labels[row] for row in rows]
    return LabelledImages(labelled.name, images, labels, classes, default_templates(bundle))


def publish(bundle: Bundle, target: PublishTarget, labelled: LabelledImages) -> None:
    """Put `bundle` into the service's folder, have it loaded, and put the old one back if it answers worse.

    Worse is fewer right answers on the same pictures, by one already. Raises PublishError; what is served then, and
    what lies in the folder, is what was there before.
    """
    labelled = known_to(bundle, labelled)
    with closing(ServiceClient(target.url)) as client:
        old, path = find_served_model(client, bundle.id, target)
        folder = ServedFolder(path)
        with folder.lock():
            if folder.recover():
                _print(f"{path}: an earlier publication was cut off; what was there before it is back")
                client.reload(old.id)
                old, _ = find_served_model(client, bundle.id, target)
            _check_folder(path, old)
            before = client.classify_correctly(old, labelled)
            if few := too_few(len(before), labelled.name):
                _print(f"warning: {few}: name more to judge by")
            _print(f"{old.id} as served now: {_format_accuracy(before)} right in {labelled.name}")
            new = folder.prepare(bundle, old.id)
            _swap_and_measure(client, folder, replace(old, digest=new.digest), labelled, before)
            _print(f"published: {client.url} serves {new.digest[:12]}; the old bundle is {folder.commit()}")


def check_target(bundle_id: str, target: PublishTarget) -> None:
    """Raise PublishError for what would fail after hours of training, before them."""
    with closing(ServiceClient(target.url)) as client:
        served, path = find_served_model(client, bundle_id, target)
        if not ServedFolder(path).is_undecided:
            _check_folder(path, served)


def find_served_model(client: ServiceClient, bundle_id: str, target: PublishTarget) -> tuple[ServedModel, Path]:
    """The model to replace and its folder."""
    models = client.models()
    model_id = target.model or bundle_id
    found = [model for model in models if model.id == model_id]
    if not found:
        served = ", ".join(model.id for model in models)
        raise PublishError(
            f"{client.url} serves {served}, and clients that name it would not find {model_id}. To take the place of "
            "one of them under its name: --replace NAME; or train with --set name=NAME"
        )
    setting = found[0].setting
    if target.folder is not None:
        return found[0], target.folder.absolute()
    if setting is None:
        raise PublishError(
            f"{client.url} serves the checkpoint inside its package, which is not to be replaced: copy it to a folder "
            "of its own, and start the service with SIGHTWORD_MODEL=FOLDER"
        )
    if not Path(setting).is_absolute():
        raise PublishError(f"{client.url} was told to serve {setting!r}: say with --folder which folder that is here")
    return found[0], Path(setting)


def _check_folder(path: Path, served: ServedModel) -> None:
    try:
        bundle = Bundle.load(path)
    except BundleError as error:
        raise PublishError(f"the folder that is served is not here: {error}. Name it with --folder") from error
    if bundle.digest != served.digest:
        raise PublishError(
            f"{path} holds {bundle.digest[:12]}, but {served.digest[:12]} is served: it is another folder (name the "
            "right one with --folder), or it was changed and not reloaded"
        )


def _swap_and_measure(
    client: ServiceClient, folder: ServedFolder, new: ServedModel, labelled: LabelledImages, before: list[bool]
) -> None:
    try:
        folder.swap()
        digest = client.reload(new.id)
        if digest != new.digest:
            raise PublishError(f"after the reload {client.url} serves {digest[:12]}: it does not read {folder.path}")
        after = client.classify_correctly(new, labelled)
        summary = f"{_format_accuracy(after)} right in {labelled.name}, {_format_accuracy(before)} before"
        _print(f"{new.id} as published: {summary}")
        if sum(after) < sum(before):
            raise PublishError(f"the new model is worse: {summary}")
    except BaseException as error:  # also of somebody who interrupts
        folder.recover()
        try:
            client.reload(new.id)
        except PublishError as again:
            raise PublishError(
                f"{error}. The old bundle is back in {folder.path}, but could not be loaded again: {again}"
            ) from error
        if isinstance(error, PublishError):
            raise PublishError(f"{error}. The old model is served again") from error
        raise


def _format_accuracy(correct: list[bool]) -> str:
    low, high = wilson(sum(correct) / len(correct), len(correct))
    accuracy = f"{sum(correct)} of {len(correct)} ({sum(correct) / len(correct):.1%})"
    return f"{accuracy} [95 %: {100 * low:.1f} to {100 * high:.1f}]"


def _print(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)
