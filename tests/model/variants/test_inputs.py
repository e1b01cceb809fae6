"""The pictures that a variant is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle
from model.config import Preprocessing
from model.variants import inputs
from model.variants.make_variant import make_variant
from model.variants.options import VariantError, VariantOptions

SMALL = Preprocessing(size=32)


def fill(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(count):
        file = folder / f"{i % 3}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(file)


def test_crops_of_the_photographs_are_all_different() -> None:
    crops = inputs.photograph_crops(SMALL)
    assert crops.shape == (112, 32, 32, 3)
    assert len({crop.tobytes() for crop in crops}) == 112


def test_a_folder_is_read_whole_and_what_is_no_picture_is_counted(tmp_path: Path) -> None:
    fill(tmp_path, 7)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "0" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    pixels, unreadable = inputs.read_images(tmp_path, SMALL)
    assert pixels.shape == (7, 32, 32, 3)
    assert unreadable == 2


def test_of_many_pictures_some_are_taken_always_the_same(tmp_path: Path) -> None:
    fill(tmp_path, 20)
    first, second = inputs.read_images(tmp_path, SMALL, 5)[0], inputs.read_images(tmp_path, SMALL, 5)[0]
    assert len(first) == 5
    np.testing.assert_array_equal(first, second)


def test_files_that_are_too_large_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(inputs.MAX_FILE_BYTES + 1)
    assert inputs.read_images(tmp_path, SMALL)[1] == 1


def test_a_folder_without_pictures_is_refused(vit: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(VariantError, match="0 readable pictures among 0 files"):
        make_variant(vit, tmp_path / "to", VariantOptions("int8", pictures=tmp_path / "empty"), lambda step: None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty"]


def test_the_report_counts_pictures_of_ones_own(vit: Bundle, tmp_path: Path) -> None:
    fill(tmp_path / "pictures", 6)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    options = VariantOptions("bf16", pictures=tmp_path / "pictures")
    report = make_variant(vit, tmp_path / "to", options, lambda step: None).manifest.variant
    assert report is not None
    assert (report.image.compared, report.unreadable_pictures) == (6, 1)
    assert report.pictures == "pictures of one's own"
