"""The report of captions: figures by source, counted again by hand, and what the filters would leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model.embedder import Embedder
from tests.training.conftest import COLOURS, picture, write_config, write_shard
from tests.training.reinforced import write_reinforced
from training.__main__ import app

RECORDS: list[dict[str, Any]] = [
    {"captions": ["a red dog sleeps on a red chair"], "alt": "IMG_1.jpg", "syn_text": ["a dog", "a chair"]},
    {"captions": ["two <b>birds</b> in a tree"], "alt": "image", "syn_text": ["a bird"]},
    {"alt": "Image"},
    {"captions": ["ein Hund schläft im hohen Gras vor dem Haus"], "alt": "image", "extra": "x", "syn_text": ["a dog"]},
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(tmp_path / "cache"))
    members = {}
    for number, record in enumerate(RECORDS):
        members[f"{number}.png"] = picture(list(COLOURS)[number], number, (16, 16))
        members[f"{number}.json"] = json.dumps(record).encode()
    write_shard(tmp_path / "a.tar", members)
    captions = {"filters": {"max_pictures": 2}, "sources": {"human": "captions", "alt": "alt", "synthetic": "syn_text"}}
    return write_config(tmp_path, data={"train": [{"shards": ["a.tar"]}], "captions": captions})


def told(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["captions", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return str(done.output)


def sources(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "captions.json").read_text("utf-8"))
    return {each["source"]: each for each in record["sources"]} | {"": record}


def test_figures_of_each_source_are_counted(config: Path, tmp_path: Path) -> None:
    output = told("--config", config, "--output", tmp_path / "quality")
    found = sources(tmp_path / "quality")
    human, alt, synthetic = (found[name] for name in ("human", "alt", "synthetic"))
    assert [(each["pictures"], each["captions"]) for each in (human, alt, synthetic)] == [(3, 3), (4, 4), (3, 4)]
    lengths = [8, 7, 9]  # of <b>birds</b> the marks count as words
    assert human["words"]["mean"] == pytest.approx(np.mean(lengths))
    assert human["words"]["median"] == 8
    assert [bar for bar, count in enumerate(human["lengths"]) if count] == [7, 8, 9]
    assert synthetic["distinct_words"] == 4  # a, dog, chair, bird
    assert synthetic["type_token"] == 4 / 8
    assert alt["repeated"] == 3 / 4
    assert alt["most_repeated"] == [["image", 3]]
    assert alt["file_names"] == 1 / 4
    assert human["other_languages"] == 1 / 3
    assert alt["kept"] == 1
    assert human["similarity"] is None
    assert found[""]["left_out"] == {"said of more than 2 pictures": 3}
    assert found[""]["dropped"] == 1
    assert "| alt | 4 | 4 | 1.2, 1 to 2 |" in output
    assert "said of more than 2 pictures 3; 1 pictures have nothing else" in output
    page = (tmp_path / "quality" / "captions.html").read_text("utf-8")
    assert page.count("<svg") == 3
    assert "<b>birds" not in page
    assert "https://" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_teacher_tells_which_captions_fit(config: Path, tiny: Path, tmp_path: Path) -> None:
    output = told("--config", config, "--output", tmp_path / "q", "--set", f"data.captions.teacher={tiny}")
    synthetic = sources(tmp_path / "q")["synthetic"]
    embedder, cosines = Embedder.load(tiny), {}
    for number in (0, 1, 3):
        image = embedder.embed_images([picture(list(COLOURS)[number], number, (16, 16))])[0]
        for text in RECORDS[number]["syn_text"]:
            cosines[f"a.tar/{number}", text] = float(embedder.embed_texts([text])[0] @ image)
    assert synthetic["similarity"]["mean"] == pytest.approx(np.mean(list(cosines.values())), abs=1e-5)
    ranked = sorted(cosines, key=lambda pair: cosines[pair])
    assert [(each["key"], each["caption"]) for each in synthetic["worst"]] == ranked
    assert [(each["key"], each["caption"]) for each in synthetic["best"]] == ranked[::-1]
    assert sum(synthetic["similarities"]) == 4
    assert f"{synthetic['similarity']['mean']:.3f}" in output
    assert (tmp_path / "q" / "captions.html").read_text("utf-8").count("<svg") == 6


def test_what_no_source_names_is_a_row_of_its_own_and_stored_vectors_are_a_teacher(tmp_path: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 8)
    captions = {"sources": {"machine": ["syn_text"]}, "teacher": "stored"}
    file = write_config(tmp_path, data={"train": [{"shards": ["a.tar"]}], "captions": captions})
    told("--config", file, "--output", tmp_path / "q")
    found = sources(tmp_path / "q")
    assert found["machine"]["captions"] == 24
    assert found["of no source"]["fields"] == ["txt"]
    assert found["of no source"]["captions"] == 8
    assert -1 <= found["machine"]["similarity"]["p5"] <= found["machine"]["similarity"]["median"] <= 1
