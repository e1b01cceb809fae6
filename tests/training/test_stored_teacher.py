"""Distillation from vectors that are stored with samples: of the caption that was drawn, and by several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import further, picture, write_config, write_shard
from tests.training.reinforced import members_of, npz, write_reinforced
from training.config import ConfigError, Data, TrainConfig, load_config
from training.data.dataset import TrainingSet
from training.loop.setup import setup
from training.loop.trainer import train_step
from training.metrics import METRICS
from training.objectives.distillation import affinity_loss

STORED = {"objective": {"teacher": "stored", "teacher_scale": 5, "teacher_weight": 2}}


def config(folder: Path, tiny: Path, **changes: Any) -> TrainConfig:
    data = {"train": [{"shards": ["a.tar"]}], "holdout": 0.1, "store_pixels": 32, "max_long_text": 0}
    changed = further(tiny, **{"data": data, "batch_size": 16, **STORED, **changes})
    return load_config(write_config(folder, **changed))


def test_vectors_are_those_of_the_picture_and_of_the_caption_that_was_drawn(tmp_path: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 24)
    data = Data.model_validate({"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0})
    training_set = TrainingSet(data, tmp_path, 0, stored_vectors=True)
    batch = training_set.batch(3, 32)
    images, texts = training_set.teacher_vectors(batch, slice(None), slice(None))
    index = training_set._indexes[0]
    expected: dict[str, list[np.ndarray]] = {}
    for row, item in enumerate(batch.items.tolist()):
        vectors = training_set._read_vectors(item)
        assert np.array_equal(images[row], vectors.image)
        text = batch.texts[int(batch.drawn[row])]
        place = index.annotation(int(training_set._numbers[item])).captions.index(text)
        expected.setdefault(text, []).append(vectors.texts[place])  # of these shards rows are places
    assert all(np.array_equal(texts[row], expected[text][0]) for row, text in enumerate(batch.texts))
    part = training_set.teacher_vectors(batch, slice(4, 9), slice(7, 11))
    assert np.array_equal(part[0], images[4:9])
    assert np.array_equal(part[1], texts[7:11])
    assert training_set.teacher_vectors(batch, slice(0, 2), slice(3, 3))[1].shape == (0, 6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_learns_the_affinity_of_stored_vectors(tmp_path: Path, tiny: Path, accumulate: int) -> None:
    write_reinforced(tmp_path / "a.tar", 40)
    losses = {}
    for name, changes in {"stored": STORED, "none": {"objective": {}}}.items():
        trainer = setup(config(tmp_path, tiny, accumulate=accumulate, **changes), tmp_path / name, tmp_path)
        inputs = trainer.loader.load(0)
        features = trainer.unit.gather(trainer.unit.encoder.forward(inputs), inputs)
        losses[name] = float(train_step(trainer.unit, inputs)["loss"])
        trainer.loader.close()
    vectors = trainer.data  # the one without a teacher drew the same batch
    stored = TrainingSet(config(tmp_path, tiny).data, tmp_path, 0, steps=4, stored_vectors=True)
    batch = stored.batch(0, 16)
    assert batch.texts == vectors.batch(0, 16).texts
    teacher = tuple(map(torch.from_numpy, stored.teacher_vectors(batch, slice(None), slice(None))))
    scale = torch.tensor(1 / 0.07)
    added = 2 * affinity_loss(tuple(each.detach() for each in features), scale, teacher, 5)  # type: ignore[arg-type]
    assert losses["stored"] - losses["none"] == pytest.approx(float(added), rel=1e-4)


def test_two_processes_learn_what_one_does(tmp_path: Path, tiny: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 60)
    program = (
        "import sys\nfrom pathlib import Path\nfrom training.config import load_config\n"
        "from training.loop.setup import setup\n"
        "if __name__ == '__main__':\n"
        "    setup(load_config(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[1]).parent).fit()\n"
    )
    (tmp_path / "run.py").write_text(program)
    config(tmp_path, tiny, batch_size=32)
    (file,) = tmp_path.glob("config-*.yaml")
    setup(load_config(file), tmp_path / "one", tmp_path).fit()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command += [str(tmp_path / "run.py"), str(file), str(tmp_path / "two")]
    subprocess.run(command, check=True, env=environment, timeout=250)
    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / run / METRICS).read_text("utf-8").splitlines()]
        for run in ("one", "two")
    )
    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-4)


def test_what_has_no_vector_is_counted_and_refused(tmp_path: Path, tiny: Path) -> None:
    write_reinforced(tmp_path / "a.tar", 8)
    write_shard(tmp_path / "b.tar", {"k.png": picture("red", 1), "k.json": b'{"label": "cat", "captions": ["x", "y"]}'})
    train = [{"shards": ["a.tar"]}, {"shards": ["b.tar"]}]
    data = {"train": train, "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    with pytest.raises(ConfigError) as refused:
        setup(config(tmp_path, tiny, data=data), tmp_path / "run", tmp_path)
    assert "Of 9 pictures 1 have none" in str(refused.value)
    assert "2 of their captions have no row, and 1 labels" in str(refused.value)
    with pytest.raises(ConfigError, match=r"set data\.max_long_text to 0"):
        config(tmp_path, tiny, data={"train": train, "max_long_text": 0.1})


def test_vectors_of_two_teachers_end_the_run_with_the_picture_that_has_others(tmp_path: Path) -> None:
    members = dict[str, bytes]()
    for number in range(4):
        members |= members_of(f"k{number}", number, "alt", ["one"])
    members["k3.npz"] = npz(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))
    write_shard(tmp_path / "a.tar", members)
    data = Data.model_validate({"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0})
    training_set = TrainingSet(data, tmp_path, 0, stored_vectors=True)
    with pytest.raises(OSError, match=r"vectors of \d dimensions, where others have \d. Leave a\.tar/k\d out by data"):
        training_set.teacher_vectors(training_set.batch(0, 40), slice(None), slice(None))


def test_vectors_that_break_while_it_runs_end_the_run_with_what_to_do(tmp_path: Path) -> None:
    file = write_reinforced(tmp_path / "a.tar", 8)
    data = Data.model_validate({"train": [{"shards": "a.tar"}], "holdout": 0, "store_pixels": 32, "max_long_text": 0})
    training_set = TrainingSet(data, tmp_path, 0, stored_vectors=True)
    batch = training_set.batch(0, 8)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"image_emb", b"imagi_emb"))
    with pytest.raises(OSError, match=r"image_emb.*Leave a\.tar/0000000\d out by data\.exclude"):
        training_set.teacher_vectors(batch, slice(None), slice(None))
