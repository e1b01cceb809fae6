"""The processes that decode: the same bits however many there are, none outlives the run, a dead one has a cause."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model.tokenizers.clip import Tokenizer
from tests.training.conftest import write_config, write_shard
from tests.training.test_distributed import ENVIRONMENT, TORCHRUN
from tests.training.test_pictures import encoded, varied
from training.config import Data, Source, load_config
from training.data import images as stores
from training.data.collate import Batch
from training.data.dataset import TrainingSet
from training.data.decoded_image import DecodedImage
from training.data.shared_images import SharedImages, available_bytes, check_room, create_shared_images
from training.loop.loader import Loader, read_ahead
from training.loop.processes import Processes
from training.loop.setup import setup
from training.loop.timing import SyntheticData, most_at_once


def on_disk(base: Path, **settings: object) -> TrainingSet:
    data = Data(train=[Source(shards=["*.tar"])], pictures="disk", holdout=0, store_pixels=48, **settings)
    return TrainingSet(data, base, 1)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "forkserver" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_TRAINING_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_processes_decodes_what_one_thread_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    members = varied(70)
    write_shard(tmp_path / "a.tar", members)
    monkeypatch.setattr(stores, "cores_of_process", lambda: processes)
    disk = on_disk(tmp_path)
    drawn = np.random.default_rng(0).integers(0, 70, 150)  # in any order, and some of them again and again
    seen = disk.images(drawn)
    disk.close()
    by_number = {name.partition(".")[0]: data for name, data in members.items() if not name.endswith(".json")}
    for row, key in enumerate(disk.keys(drawn)):
        expected = DecodedImage(by_number[key.partition("/")[2]], 48, 10**7)
        assert np.array_equal(seen.rgba[row].numpy(), expected.pixels)
        assert float(seen.aspects[row]) == np.float32(expected.aspect)
    assert seen.present.all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1", "RGBA", "LA"])
def test_what_is_opaque_has_the_same_bits_without_its_alpha_channel(mode: str) -> None:
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(((301, 180), (31, 57), (640, 33), (1, 9))):
        noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        edges = noise // 128 * 255  # where a bicubic filter goes beyond black and white
        image = Image.fromarray(edges if number % 2 else noise).convert(mode)
        data = encoded(image, "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG")
        opened = Image.open(io.BytesIO(data))
        decoded = DecodedImage(data, 48, 10**7)
        whole = opened.convert("RGBA").resize((48, 48), Image.Resampling.BICUBIC)
        assert np.array_equal(decoded.pixels, np.asarray(whole))
        assert not decoded.transparent


def test_two_threads_may_read_at_once(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", varied(60))
    disk = on_disk(tmp_path)
    expected = disk.images(np.arange(60))
    seen = [torch.empty(0)] * stores.CALLS

    def read(number: int) -> None:
        for _ in range(5):
            seen[number] = disk.images(np.arange(60)).rgba

    threads = [threading.Thread(target=read, args=(number,)) for number in range(stores.CALLS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each.equal(expected.rgba) for each in seen)
    disk.close()


def test_a_process_that_is_killed_is_an_error_with_its_cause(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", varied(40))
    disk = on_disk(tmp_path)
    before = set(children())
    disk.images(np.arange(40))
    decoding = [child for child in set(children()) - before if child.children() == [] and child.ppid() != os.getpid()]
    assert decoding
    decoding[0].kill()
    with pytest.raises(OSError, match="was ended by SIGKILL, mostly by the system for want of memory"):
        deque((disk.images(np.arange(40)) for _ in range(1000)), maxlen=0)  # it is noticed a moment later
    assert psutil.wait_procs(decoding, timeout=20)[1] == []


def test_closing_ends_the_processes_and_what_waits_for_them(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", varied(40))
    disk = on_disk(tmp_path)
    before = set(children())
    disk.images(np.arange(40))
    decoding = [child for child in set(children()) - before if child.ppid() != os.getpid()]
    assert decoding
    assert not any("libtorch" in line for child in decoding for line in mapped(child.pid))
    ended: list[type[BaseException]] = []

    def read() -> None:
        try:
            while True:
                disk.images(np.arange(40).repeat(50))
        except (CancelledError, RuntimeError) as error:
            ended.append(type(error))

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    disk.close()
    reader.join(20)
    assert ended
    assert psutil.wait_procs(decoding, timeout=20)[1] == []


def mapped(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/maps").read_text().splitlines()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, sent: signal.Signals) -> None:
    write_shard(tmp_path / "a.tar", varied(40))
    script = [sys.executable, str(Path(__file__).with_name("decoding.py")), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        script, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(started) >= 2
        if sent == signal.SIGINT:  # as a terminal sends it: to all of them
            os.killpg(parent.pid, sent)
        else:
            parent.send_signal(sent)
        alive = psutil.wait_procs(started, timeout=30)[1]
        for each in alive:
            each.kill()
        parent.wait(30)
        errors = parent.stderr.read()
    assert alive == []
    assert errors.count("Traceback") == (sent == signal.SIGINT), errors  # the one of the run, none of the others


def test_pictures_in_memory_are_decoded_and_held_once_for_all_processes(tmp_path: Path) -> None:
    members = varied(40)
    members["5.jpg"] = b"no picture"
    write_shard(tmp_path / "a.tar", members)
    output = tmp_path / "seen"
    output.mkdir()
    script = [str(Path(__file__).with_name("sharing.py")), str(tmp_path), str(output)]
    done = subprocess.run([*TORCHRUN, *script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((output / f"{rank}.json").read_text()) for rank in range(2))
    assert first["mapped"] == second["mapped"]
    assert len(first["mapped"]) == 1
    assert first["started"]
    assert second["started"] == []  # it decoded nothing
    assert (first["skipped"], second["skipped"]) == ({"broken picture": 1}, {})
    assert first["length"] == second["length"] == 39
    data = TrainingSet(Data(train=[Source(shards=["a.tar"])], holdout=0, store_pixels=48), tmp_path, 1)
    expected = data.images(data.batch(0, 32).items)
    for rank in range(2):
        for name, tensor in load_file(output / f"{rank}.safetensors").items():
            assert tensor.equal(getattr(expected, name)), name


def test_memory_that_is_not_there_is_told_before_anything_is_decoded() -> None:
    check_room(2**30, 16_384, 2**30)
    with pytest.raises(
        OSError, match=r"16,384 decoded pictures take 1.0 GiB of memory, of which 0.5 are free: set data"
    ):
        check_room(2**30, 16_384, 2**29)
    rows = available_bytes() // (4 * 512 * 512)
    with pytest.raises(OSError, match=r"set data.pictures to disk"):
        create_shared_images(2 * rows, 512)


def test_shared_memory_is_gone_with_what_holds_it() -> None:
    held = create_shared_images(3, 32)
    SharedImages(held.address, 3, 32, "r+").aspects[:] = 7
    assert held.aspects.tolist() == [7, 7, 7]
    address = held.address
    del held
    with pytest.raises(OSError, match="No such file"):
        SharedImages(address, 3, 32)


@pytest.mark.parametrize(
    ("batch", "side", "processes", "steps"),
    [(32, 48, 1, 8), (1024, 128, 1, 8), (4096, 128, 1, 4), (4096, 224, 1, 1), (4096, 224, 4, 5), (32_768, 512, 1, 1)],
)
def test_as_many_steps_are_read_ahead_as_a_gibibyte_holds(
    tmp_path: Path, batch: int, side: int, processes: int, steps: int
) -> None:
    data = {"train": [{"shards": ["*.tar"]}], "store_pixels": side}
    config = load_config(write_config(tmp_path, data=data, batch_size=batch))
    assert read_ahead(config, processes) == steps


def test_the_loader_reads_ahead_and_no_further(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, batch_size=16, steps=40))
    seen: list[int] = []

    class Counted(SyntheticData):
        def batch(self, step: int, size: int) -> Batch:
            seen.append(step)
            return super().batch(step, size)

    loader = Loader(config, Counted(32), Tokenizer.clip(), Processes(0, 1, torch.device("cpu"), False))
    steps = loader.iterate(3)
    assert next(steps).step == 3
    ahead = read_ahead(config, 1)
    assert seen[0] == 3
    limit = time.monotonic() + 20
    while len(seen) < 1 + ahead and time.monotonic() < limit:
        time.sleep(0.01)
    assert seen == list(range(3, 4 + ahead))
    loader.close()


@pytest.mark.parametrize(
    ("device", "images"),
    [("cpu", 32), ("cuda", 100)],  # eight images at a time say 0.2 s each, and of activations 200 MiB
)
def test_a_gpu_is_timed_with_as_many_images_as_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch, device: str, images: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (200 * 200 * 2**20, 2**40))
    assert most_at_once(0.2, 200 * 2**20, torch.device(device)) == images


def test_images_are_pinned_once_for_all_blocks_of_a_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(tensor), tensor)[1])
    config = load_config(write_config(tmp_path, batch_size=64, accumulate=2))
    loader = Loader(config, SyntheticData(32), Tokenizer.clip(), Processes(0, 1, torch.device("cuda"), False))
    inputs = loader.load(0)
    loader.close()
    assert sum(len(part.blocks) for part in inputs.micro_batches) == 8
    # Of each the four tensors of the images, seven of how they are varied, the ids of the texts, and their order.
    assert [len(each) for each in pinned] == [32] * (4 + 7 + 1 + 1) * 2


@pytest.mark.parametrize("pictures", ["memory", "disk"])
def test_a_run_that_ends_by_an_error_leaves_no_process(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: str
) -> None:
    data = {"train": [{"shards": ["train-*.tar"]}], "holdout": 0.2, "store_pixels": 48, "pictures": pictures}
    trainer = setup(load_config(write_config(colours, data=data, steps=40)), tmp_path / "run", colours)
    before = set(psutil.Process().children(recursive=True))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_record_of", fail)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    left = [each for each in set(psutil.Process().children(recursive=True)) - before if each.children() == []]
    started = [each for each in left if each.ppid() != os.getpid()]
    assert psutil.wait_procs(started, timeout=20)[1] == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("loader", "drawing"))]
