"""`python -m service bulk --engine ray`, with kill -9 of an actor and of the command: what comes out is the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.service_process import clean_environment
from service.bulk.job import JobError
from service.bulk.ray_actors import Actors, passed_on
from tests.service import pictures

TRIES = 5  # of on_ray.py, which imports Ray
if TYPE_CHECKING:
    from tests.ray.cluster import LocalCluster

PICTURES, ROWS = 240, 10
SETTINGS = {"max_batch": "4"}  # of both, as different sums of floats are


def command(folder: Path, output: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "service", "bulk", str(folder), "-o", str(output), "--part-rows", str(ROWS), *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        (folder / f"{number:04}.jpg").write_bytes(pictures.read(("cat", "rocket", "coffee")[number % 3]))
    (folder / "0100.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> Path:
    """What one process makes of it, which nobody kills."""
    output = folder.parent / "expected"
    done = subprocess.run(command(folder, output), env=clean_environment(SETTINGS), capture_output=True, timeout=200)
    assert done.returncode == 1, done.stderr
    return output


def parts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.parquet")}


def actors_of(cluster: LocalCluster) -> list[psutil.Process]:
    """The processes of Ray Data that have an engine."""
    found = []
    for node in cluster.nodes:
        for child in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if child.name().startswith("ray::MapWorker") and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
    return found


def test_a_killed_actor_and_a_killed_command_cost_no_row(
    cluster: LocalCluster, folder: Path, expected: Path, tmp_path: Path
) -> None:
    from tests.ray.cluster import wait_until

    output, log = tmp_path / "vectors", tmp_path / "log"
    asked = command(folder, output, "--engine", "ray", "--ray-actors", "2")
    environment = clean_environment(SETTINGS) | {"RAY_ADDRESS": cluster.address}

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(asked, env=environment, stdout=stream, stderr=stream)

    def wait_for_parts(running: subprocess.Popen[bytes], count: int) -> None:
        wait_until(lambda: len(parts(output)) >= count or running.poll() is not None)
        assert running.poll() is None, log.read_text("utf-8")

    first = begin()
    wait_for_parts(first, 3)
    first.kill()
    first.wait()
    wait_until(lambda: not actors_of(cluster))
    there = {name: (output / name).stat().st_mtime_ns for name in parts(output)}
    assert len(there) < PICTURES // ROWS
    second = begin()
    wait_for_parts(second, len(there) + 2)
    actors_of(cluster)[0].send_signal(signal.SIGKILL)
    assert second.wait(200) == 1, log.read_text("utf-8")
    assert parts(output) == parts(expected)
    assert {name: (output / name).stat().st_mtime_ns for name in there} == there, "what was there was not done again"
    assert (output / "_errors.jsonl").read_bytes() == (expected / "_errors.jsonl").read_bytes()
    assert json.loads((output / "_errors.jsonl").read_text("utf-8"))["key"] == "0100.jpg"


def test_files_that_could_not_be_read_are_embedded_on_the_cluster_once_they_can(
    cluster: LocalCluster, folder: Path, tmp_path: Path
) -> None:
    some = tmp_path / "pictures"
    shutil.copytree(folder, some, ignore=lambda _, names: [name for name in names if name > "0060.jpg"])
    environment, asked = clean_environment(SETTINGS), command(some, tmp_path / "vectors")
    assert subprocess.run(asked, env=environment, capture_output=True, timeout=200).returncode == 0
    whole = parts(tmp_path / "vectors")
    (tmp_path / "vectors" / "part-00002.parquet").unlink()
    hidden = (some / "0025.jpg").rename(tmp_path / "hidden.jpg")
    assert subprocess.run(asked, env=environment, capture_output=True, timeout=200).returncode == 1
    hidden.rename(some / "0025.jpg")
    asked = [*asked, "--retry-failed", "--engine", "ray"]
    environment["RAY_ADDRESS"] = cluster.address
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "6 of 7 parts are there, with nothing to try again" in done.stderr
    assert parts(tmp_path / "vectors") == whole


def test_what_actors_refuse_is_told_as_it_is(
    cluster: LocalCluster, folder: Path, expected: Path, tmp_path: Path
) -> None:
    output = tmp_path / "vectors"
    shutil.copytree(expected, output)
    (output / "part-00003.parquet").unlink()
    job = json.loads((output / "_job.json").read_text("utf-8"))
    (output / "_job.json").write_text(json.dumps(job | {"digest": "0" * 64}), "utf-8")
    environment = clean_environment(SETTINGS) | {"RAY_ADDRESS": cluster.address}
    asked = command(folder, output, "--engine", "ray")
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "holds another job: digest is 0000" in done.stderr


def test_a_table_that_has_changed_is_told_as_by_one_process(cluster: LocalCluster, tmp_path: Path) -> None:
    table, output = tmp_path / "texts.txt", tmp_path / "vectors"
    table.write_text("a cat\na dog\n", "utf-8")
    environment = clean_environment(SETTINGS) | {"RAY_ADDRESS": cluster.address}
    asked = command(table, output, "--kind", "text")
    assert subprocess.run(asked, env=environment, capture_output=True, timeout=200).returncode == 0
    (output / "part-00000.parquet").unlink()
    table.write_text("a cat\na horse\n", "utf-8")
    done = subprocess.run([*asked, "--engine", "ray"], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2, done.stderr
    assert f"{table} has changed since the job was planned" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_part_that_ends_its_actors_is_not_tried_without_an_end(
    cluster: LocalCluster, folder: Path, tmp_path: Path
) -> None:
    """Whatever the reason: here, each actor is killed once it embeds."""
    environment = clean_environment(SETTINGS) | {"RAY_ADDRESS": cluster.address}
    asked = command(folder, tmp_path / "vectors", "--engine", "ray", "--ray-actors", "1")
    killed = set[int]()
    running = subprocess.Popen(asked, env=environment, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and len(killed) < 4 * TRIES:
        for actor in actors_of(cluster):
            with suppress(psutil.NoSuchProcess):
                if embeds(actor):
                    actor.kill()
                    killed.add(actor.pid)
        time.sleep(0.01)
    running.kill()
    _, told = running.communicate()
    assert TRIES <= len(killed) < 4 * TRIES
    assert running.returncode == 3, told
    assert "the Ray cluster could not go on" in told


def embeds(actor: psutil.Process) -> bool:
    """Whether it has been given a part, by the title that Ray gives its process."""
    return ".submit" in " ".join(actor.cmdline())


def node(**resources: float) -> dict[str, object]:
    return {"Alive": True, "Resources": resources}


def test_how_many_actors_a_cluster_has_room_for() -> None:
    assert Actors.of_nodes([node(), node(CPU=4), node(CPU=8)], None) == (2, 4, 0)
    assert Actors.of_nodes([node(CPU=4), node(CPU=8)], 5) == (5, 2, 0)
    assert Actors.of_nodes([node(CPU=64, GPU=8), node(CPU=8)], None) == (8, 8, 1)
    assert Actors.of_nodes([node(CPU=64, GPU=8)], 2) == (2, 8, 1)
    for nodes, asked in (([node()], None), ([node(CPU=2)], 3), ([node(CPU=8, GPU=1)], 2)):
        with pytest.raises(JobError):
            Actors.of_nodes(nodes, asked)


def test_actors_are_given_no_key_and_no_address() -> None:
    """Ray shows their variables to whoever sees its dashboard."""
    kept = {"SIGHTWORD_MODEL": "a", "SIGHTWORD_DECODER": "simd", "SIGHTWORD_HOME": "b", "SIGHTWORD_URL_HOSTS": "h"}
    names = ("API_KEY", "API_KEYS", "API_KEYS_FILE", "ADMIN_KEY", "REDIS_URL", "IMMICH_FORWARD_URL", "URL")
    assert passed_on(kept | {f"SIGHTWORD_{name}": "secret" for name in names} | {"PATH": "p"}) == kept
