"""What a run leaves to read: true, in one file, small, and safe whatever a class is called."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from model.bundle import Bundle, bundled, write_manifest
from model.embedder import Embedder
from model.images.preprocessing import decode
from tests.training.conftest import COLOURS, picture, write_shard
from training.evaluation.datasets import parse_dataset
from training.evaluation.evaluator import EvaluationOptions, evaluate
from training.evaluation.results import Result
from training.report.attributions import NOT_STATED, count_attributions, summarize_origins, write_attributions
from training.report.curves import curves
from training.report.diagnostics import SHOWN, CalibrationBin, measure_calibration, measure_confusion
from training.report.findings import (
    THUMBNAIL_PIXELS,
    Findings,
    FindingsCollector,
    Match,
    Mistake,
    Query,
    thumbnail,
)
from training.report.run_report import write_report

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a|b `c` $x$ {{7*7}}",
    "</title></style>&amp;",
]
SOURCE = {
    "kind": "trained from scratch",
    "configuration": {"batch_size": 8, "steps": 2, "name": HOSTILE[0], "optimizer": {"clip_norm": 1.5}},
    "training_items": 100, "held_out_items": 5, "best_step": 2, "best_score": 0.5, "parameters": 1000,
    "skipped_items": {"broken picture": 3},
}  # fmt: skip
RECORDS = [
    {
        "step": step,
        "time": 1.8e9,
        "loss": 2.0,
        "samples_per_s": 10.0,
        "holdout": 0.5,
        "gradient_norm": norm,
        "clipped": c,
    }
    for step, norm, c in ((1, 3.0, 1.0), (2, None, 0.0))
]


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = shutil.copytree(bundled(), tmp_path / "bundle", ignore=shutil.ignore_patterns("*.md", "*.tsv"))
    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    return write_manifest(folder, manifest | {"source": SOURCE})


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return file


def labelled_shard(file: Path, labels: list[str], **told: Any) -> Path:
    members = {}
    for number, label in enumerate(labels):
        colour = list(COLOURS)[number % len(COLOURS)]
        members[f"{number:04d}.png"] = picture(colour, number)
        members[f"{number:04d}.json"] = json.dumps({"label": label, **told}).encode()
    return write_shard(file, members)


def found_in(shard: Path, bundle: Bundle, embedder: Embedder | None = None) -> list[Findings]:
    collector = FindingsCollector(embedder or Embedder(bundle))
    evaluate(collector.embedder, [parse_dataset(f"set={shard}", Path("/"))], EvaluationOptions(), collector)
    return collector.findings


def test_how_often_a_gradient_was_clipped_or_left_out_is_told(tmp_path: Path, bundle: Bundle, metrics: Path) -> None:
    text = " ".join(Page(write_report(tmp_path, bundle, metrics, [], []).read_text("utf-8")).text.split())
    assert "The gradients of 50.0 % of the steps were clipped to a norm of 1.5." in text
    assert "Steps left out, because their gradients overflow float16: 1." in text


def test_hostile_names_stay_text(tmp_path: Path, bundle: Bundle, metrics: Path) -> None:
    told = {"licence": HOSTILE[0], "source": HOSTILE[1], "attribution": HOSTILE[1], "captions": [HOSTILE[0]]}
    shard = labelled_shard(tmp_path / "test-0.tar", HOSTILE * 4, **told)
    page = Page(write_report(tmp_path, bundle, metrics, found_in(shard, bundle), [shard]).read_text("utf-8"))
    tags = [tag for tag, _ in page.elements]
    assert "script" not in tags
    assert tags.count("style") == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.text
    assert "Skipped: broken picture 3." in page.text
    card = (bundle.path / "MODEL_CARD.md").read_text("utf-8")
    assert "Skipped: broken picture 3." in card
    assert "<script>" not in card.partition("```yaml")[0]
    assert "a|b" not in card


def test_a_page_asks_for_nothing_else(tmp_path: Path, bundle: Bundle, metrics: Path) -> None:
    shard = labelled_shard(tmp_path / "test-0.tar", ["red thing", "green thing"] * 6)
    html = write_report(tmp_path, bundle, metrics, found_in(shard, bundle), []).read_text("utf-8")
    page = Page(html)
    links = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action")
    ]
    assert links
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in links)
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    assert len([tag for tag, _ in page.elements if tag == "img"]) >= 16
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg")


def test_a_picture_is_embedded_once_whatever_is_asked_of_it(tmp_path: Path, bundle: Bundle) -> None:
    counts: list[int] = []

    class CountingEmbedder(Embedder):
        def embed_images(self, images: Any, *options: Any) -> Any:
            counts.append(len(images))
            return super().embed_images(images, *options)

    labels = [f"thing {number % 4}" for number in range(12)]
    members = {}
    for number, label in enumerate(labels):
        told = {"label": label, "coarse": label[-1] + " kind", "captions": [f"caption {number}"]}
        members |= {f"{number}.png": picture("red", number), f"{number}.json": json.dumps(told).encode()}
    found = found_in(write_shard(tmp_path / "test-0.tar", members), bundle, CountingEmbedder(bundle))
    assert [each.result.dataset for each in found] == ["set", "set (coarse)", "set (captions)"]
    assert counts == [12]
    assert all(query.text.startswith("caption") for query in found[2].queries)


def test_findings_are_what_the_scores_say(tmp_path: Path, bundle: Bundle) -> None:
    [found] = found_in(labelled_shard(tmp_path / "test-0.tar", ["dog", "car", "pizza", "flower"] * 4), bundle)
    assert found.confusion is not None
    assert sum(found.confusion.totals) == 16
    right = sum(found.confusion.counts[i][i] for i in range(4))
    assert found.result.metrics["acc1"] == right / 16
    assert found.mistakes == sorted(found.mistakes, key=lambda mistake: -mistake.score)
    assert all(mistake.truth != mistake.predicted for mistake in found.mistakes)
    for query in found.queries:
        assert [match.right for match in query.matches] == [match.truth == query.text for match in query.matches]
        cosines = [match.cosine for match in query.matches]
        assert cosines == sorted(cosines, reverse=True)


def test_calibration_by_hand() -> None:
    scores, right = np.array([0.81, 0.83, 0.5, 1.0]), np.array([True, False, True, True])
    found = measure_calibration(scores, right)
    assert found.bins == (
        CalibrationBin(0.5, 1.0, 1),
        CalibrationBin(pytest.approx(0.82), 0.5, 2),
        CalibrationBin(1.0, 1.0, 1),
    )
    assert found.error == pytest.approx((0.5 * 1 + 0.32 * 2) / 4)


def test_confusion_is_scikit_learns_and_shows_the_most_confused_of_many() -> None:
    numbers = np.random.default_rng(0)
    truth, said = numbers.integers(0, 6, 200), numbers.integers(0, 6, 200)
    found = measure_confusion(truth, said, list("abcdef"))
    assert found.counts == confusion_matrix(truth, said).tolist()
    many = np.arange(60).repeat(3)
    wrong = np.where((many >= 7) & (many < 12), 11 + many % 5, many)
    found = measure_confusion(many, wrong, [f"class {number}" for number in range(60)])
    assert (len(found.classes), found.classes_total) == (SHOWN, 60)
    assert {f"class {number}" for number in range(7, 12)} <= set(found.classes)
    assert all(pair.count == 3 == pair.images for pair in found.pairs)


def test_thumbnails_are_upright_small_and_on_white() -> None:
    import base64
    import io

    from PIL import Image

    image = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    shown = decode(base64.b64decode(thumbnail(file.getvalue).partition(",")[2]))
    assert shown.size == (THUMBNAIL_PIXELS // 2, THUMBNAIL_PIXELS)
    assert shown.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_thumbnails_of_sixteen_bits_are_not_white() -> None:
    import base64
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((40, 40), 100 * 257, np.uint16)).save(file, "PNG")
    shown = decode(base64.b64decode(thumbnail(file.getvalue).partition(",")[2]))
    assert shown.convert("L").getpixel((20, 20)) == pytest.approx(100, abs=3)


def test_many_data_sets_stay_under_three_megabytes(tmp_path: Path, bundle: Bundle, metrics: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)

    def png() -> bytes:
        import io

        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        return file.getvalue()

    data = thumbnail(png)  # as large as they get
    result = Result("s", "zeroshot_classification", 10, 2, "acc1", (0.1, 0.2), {"acc1": 0.15})
    queries = [Query("text", [Match(data, "truth", True, 0.2)] * 8)] * 5
    findings = [Findings(result, queries, [Mistake(data, "truth", "said", 0.9)] * 16)] * 30
    many = write_report(tmp_path, bundle, metrics, findings, [])
    assert len(many.read_bytes()) < 3_000_000


def test_a_long_run_has_short_curves() -> None:
    records = [{"step": step, "loss": 1 / (1 + step)} for step in range(20_000)]
    assert len(curves(records)["loss"]) < 60_000


def test_licences_and_authors_are_counted_and_bad_json_is_passed_over(tmp_path: Path) -> None:
    shard = labelled_shard(
        tmp_path / "a.tar", ["x"] * 3, licence="CC BY 4.0 (photo 7)", source="set", attribution="Ann"
    )
    plain = write_shard(
        tmp_path / "b.tar", {"1.png": b"", "1.txt": b"words", "2.json": b"[1]", "3.json": b"{}", "4.json": b"{"}
    )
    [first, second] = summarize_origins(count_attributions([shard, plain]))
    assert (first.licence, first.images, first.sources) == ("CC BY 4.0", 3, ["set"])
    assert (second.licence, second.images) == (NOT_STATED, 1)
    assert write_attributions(count_attributions([shard, plain]), tmp_path / "authors.tsv") == 3
    expected = "pictures\tlicence\tattribution\n3\tCC BY 4.0 (photo 7)\tAnn\n"
    assert (tmp_path / "authors.tsv").read_text() == expected
    write_attributions(count_attributions([shard, plain]), tmp_path / "authors.tsv.gz")
    assert gzip.decompress((tmp_path / "authors.tsv.gz").read_bytes()).decode() == expected
