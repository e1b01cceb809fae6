"""Zero-shot classification and retrieval from embeddings, and the choice of prompt templates by forward selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from model.embedder import Vectors
from model.zeroshot import class_vectors
from training.evaluation.intervals import bootstrap, wilson
from training.evaluation.metrics import eleven_point_precision, mean_per_class, ranks, retrieval_ranks
from training.evaluation.results import Result

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
Targets = npt.NDArray[np.int64]
Embed = Callable[[Sequence[str]], Vectors]
Cosines = Callable[[Vectors, Vectors], Vectors]  # of images and of texts -> [images, texts]
Statistic = Callable[[Targets], float]  # of the pictures with these indices


def classify(
    dataset: str,
    scores: Vectors,
    targets: Targets,
    classes: Sequence[str],
    *,
    headline: str = "acc1",
    task: str = CLASSIFICATION,
) -> Result:
    """Score [images, classes] against the index of each picture's class; `headline` is one of the metrics.

    acc1, acc5 (of five classes and more), mean_per_class_recall; with two classes also roc_auc, of the second one.
    """
    found = ranks(scores, targets)
    hits = found == 0
    metrics = {"acc1": float(hits.mean()), "mean_per_class_recall": mean_per_class(hits, targets)}
    if len(classes) >= 5:
        metrics["acc5"] = float((found < 5).mean())
        if headline == "mean_acc1_acc5":
            metrics[headline] = (metrics["acc1"] + metrics["acc5"]) / 2
    drawn: dict[str, Statistic] = {
        "mean_per_class_recall": lambda at: mean_per_class(hits[at], targets[at]),
        "mean_acc1_acc5": lambda at: float((hits[at].mean() + (found[at] < 5).mean()) / 2),
    }
    if len(classes) == 2:
        drawn["roc_auc"] = partial(_roc_auc, scores[:, 1] - scores[:, 0], targets)
        metrics["roc_auc"] = drawn["roc_auc"](np.arange(len(targets)))
    if headline not in metrics:
        raise ValueError(f"{headline} is not defined with {len(classes)} classes: {', '.join(metrics)} are")
    interval = (
        bootstrap(drawn[headline], len(targets)) if headline in drawn else wilson(metrics[headline], len(targets))
    )
    per_class = {
        name: float(hits[targets == number].mean()) for number, name in enumerate(classes) if (targets == number).any()
    }
    return Result(dataset, task, len(targets), len(classes), headline, interval, metrics, per_class)


def _roc_auc(difference: Vectors, targets: Targets, at: Targets) -> float:
    one_class_only = len(set(targets[at])) < 2
    return float("nan") if one_class_only else float(roc_auc_score(targets[at], difference[at]))


def classify_many(dataset: str, scores: Vectors, truth: npt.NDArray[np.bool_], classes: Sequence[str]) -> Result:
    """Where a picture has several classes, `truth` [pictures, classes]: the mean over classes of average precision.

    `mean_average_precision_11_point` is Pascal VOC 2007's, as in the CLIP paper; `mean_average_precision` is
    CLIP_benchmark's, the area under the curve.
    """

    def mean_precision(at: Targets) -> float:
        return float(np.nanmean([eleven_point_precision(scores[at, k], truth[at, k]) for k in range(len(classes))]))

    everything = np.arange(len(truth))
    per_class = {
        name: float(average_precision_score(truth[:, number], scores[:, number]))
        for number, name in enumerate(classes)
        if truth[:, number].any()
    }
    headline = "mean_average_precision_11_point"
    metrics = {headline: mean_precision(everything), "mean_average_precision": float(np.mean(list(per_class.values())))}
    interval = bootstrap(mean_precision, len(truth), rounds=200)
    return Result(dataset, CLASSIFICATION, len(truth), len(classes), headline, interval, metrics, per_class)


def retrieve(
    dataset: str, images: Vectors, captions: Sequence[Sequence[str]], embed: Embed, cosines: Cosines
) -> Result:
    """Recall at 1, 5 and 10 of captions by image and images by caption, from embeddings `images` [images, dim].

    `captions[i]` are those of image i, and `embed` is the text tower.
    """
    column = {text: number for number, text in enumerate(dict.fromkeys(text for own in captions for text in own))}
    own = [[column[text] for text in dict.fromkeys(texts)] for texts in captions]
    owners: list[list[int]] = [[] for _ in column]
    for image, columns in enumerate(own):
        for number in columns:
            owners[number].append(image)
    texts = embed(list(column))
    by_image = retrieval_ranks(lambda rows: cosines(images[rows], texts), own)
    by_text = retrieval_ranks(lambda rows: cosines(images, texts[rows]).T, owners)
    metrics = {
        f"{side}_retrieval_recall@{k}": float((found < k).mean())
        for side, found in (("text", by_image), ("image", by_text))
        for k in (1, 5, 10)
    }
    headline = "text_retrieval_recall@1"
    interval = wilson(metrics[headline], len(images))
    return Result(dataset, RETRIEVAL, len(images), len(column), headline, interval, metrics)


def select_templates(
    images: Vectors,
    targets: Targets,
    vectors: Vectors,
    templates: Sequence[str],
    cosines: Cosines,
    most: int | None = None,
) -> tuple[list[str], list[float]]:
    """Forward selection of templates, as CLIP's authors chose seven of eighty for ImageNet; also top-1 after each.

    One after another the template that raises top-1 the most is added, until none does or there are `most`. `vectors`
    [templates, classes, dim] are of unit length. Choose on pictures that are not the test.
    """
    chosen: list[int] = []
    accuracies: list[float] = []
    while len(chosen) < (most or len(templates)):
        left = [number for number in range(len(templates)) if number not in chosen]
        scores = [_accuracy(images, targets, vectors[[*chosen, number]], cosines) for number in left]
        best = int(np.argmax(scores))
        if accuracies and scores[best] <= accuracies[-1]:
            break
        chosen.append(left[best])
        accuracies.append(scores[best])
    return [templates[number] for number in chosen], accuracies


def _accuracy(images: Vectors, targets: Targets, vectors: Vectors, cosines: Cosines) -> float:
    class_embeddings = class_vectors(vectors.transpose(1, 0, 2))
    return float((ranks(cosines(images, class_embeddings), targets) == 0).mean())
