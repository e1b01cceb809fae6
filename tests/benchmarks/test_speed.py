"""The speed benchmark at its smallest: that every phase runs and what its report says. No speed is asserted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.client import request
from benchmarks.soak import __main__ as soak_command
from benchmarks.soak import bench as soak_bench
from benchmarks.soak import run as soak_run
from benchmarks.speed import __main__ as command
from benchmarks.speed import run as speed_run
from benchmarks.speed.bench import SIZES, Bench, Inputs
from benchmarks.speed.load import LoadError, drive, dummy_server
from benchmarks.speed.photographs import CAMERA, MEDIUM, SMALL, mixed, photographs
from benchmarks.speed.ratios import limit_of, share
from benchmarks.speed.record import Record
from benchmarks.speed.report import page
from benchmarks.speed.targets import EXACT, INT8, targets

BUNDLED = "sightword-small fp32"
PHASES = (
    "generator",
    "ladder",
    "loops",
    "cache",
    "camera",
    "start",
    "memory",
    "ceiling",
)  # "peers" needs what is installed by hand


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, str]:
    file = tmp_path_factory.mktemp("speed") / "run.json"
    phases = [flag for phase in PHASES for flag in ("--phase", phase)]
    called = [sys.executable, "-m", "benchmarks.speed", "--size", "smallest", "--json", str(file), *phases]
    done = subprocess.run(called, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return Record.read(file), done.stdout


def test_every_phase_reads_what_it_is_for(run: tuple[Record, str]) -> None:
    record, _ = run
    assert record.failed == {}
    assert record.machine["cores"] >= 1
    rungs = [*(f"640x480/{rung}" for rung in "ACDEF"), "mixed/C", "mixed/E", "texts/A", "texts/D", "texts/F"]
    loops = [f"{loop}/{part}" for loop in ("closed/1", "open/50") for part in ("rate", "p50", "p99")]
    single = ["lone/http_ms", "camera/ours_ms", "camera/plain_ms", "start/s", "memory/bare_mib", "memory/service_mib"]
    for name in (*rungs, *(f"{rung}/core_ms" for rung in rungs), *loops, *single):
        assert list(record.values(BUNDLED, name)) == [0], name
        assert record.values(BUNDLED, name)[0] > 0, name
    for kind in ("text", "small raw", "640x480 raw", "small base64, list of 4", "text, hit", "text, list of 4, hit"):
        for cost in ("items_s", "loop_ms", "core_ms", "lock_ms", "lock_loop_ms"):
            assert record.values("", f"ceiling/{kind}/{cost}")[0] > 0, (kind, cost)
        assert record.values("", f"ceiling/{kind}/core_ms")[0] >= record.values("", f"ceiling/{kind}/loop_ms")[0], kind
    for workers in (1, 2):
        assert record.values("", f"scaling/text/{workers}")[0] > 0
    for name in ("generator/raw/core_ms", "cache/picture/hit", "cache/picture/empty", "cache/text/hit"):
        assert record.values("", name)[0] > 0, name


def test_readings_are_sane(run: tuple[Record, str]) -> None:
    record, told = run
    for files, rung in (("640x480", "D"), ("640x480", "E"), ("640x480", "F"), ("mixed", "E"), ("texts", "F")):
        measured = share(record, BUNDLED, files, rung)
        assert measured is not None
        assert (
            0 < measured.median < 10
        )  # of 1; a machine that is busy with other things may hold up one and not the other
    assert record.values(BUNDLED, "camera/cosine")[0] > 0.99
    assert record.values(BUNDLED, "memory/service_mib")[0] > record.values(BUNDLED, "memory/bare_mib")[0] / 2
    assert f"## {BUNDLED}" in told
    assert "| 640x480: the limit |" in told
    assert "## Where one process ends" in told
    assert "C(64)" in told


def test_the_report_is_made_from_the_readings_alone(tmp_path: Path) -> None:
    _a_full_run().write(tmp_path / "run.json")
    result = tmp_path / "RESULTS.md"
    called = [sys.executable, "-m", "benchmarks.speed.report", str(tmp_path / "run.json"), "--page", str(result)]
    subprocess.run(called, check=True, timeout=60)
    written = result.read_text("utf-8")
    assert "| ViT-B-32 fp32: D / limit, pictures | ≥ 0.97x | 0.99 (0.9 to 1) | met |" in written
    assert "| ViT-B-32 fp32: E / limit, pictures | ≥ 0.93x | 0.5 (0.45 to 0.55) | **missed** |" in written
    assert "make bench-peers" in written  # of the peer that is not there
    assert "## GPU\n\nNot measured" in written
    assert "- loops: LoadError: 3 of 4 requests failed" in written
    drawn = ElementTree.parse(result.with_suffix(".svg")).getroot()
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"litserve", EXACT, "40"} <= set(texts)
    assert result.with_suffix(".svg").stat().st_size < 200_000


def _a_full_run() -> Record:
    """Two cores; a bare model of 40 pictures/s and 400 decoded by a core make a limit of 2 / (1/400 + 2/40) = 38.1."""
    record = Record("2026-11-23 12:00", "full", {"cores": 2}, failed={"loops": "LoadError: 3 of 4 requests failed"})
    facts = {"provider": "CPUExecutionProvider", "cores": 2, "bare_image": "batches of 4", "bare_text": "batches of 8"}
    record.note(EXACT, **facts)
    limit = 2 / (1 / 400 + 2 / 40)
    for turn, part in enumerate((0.9, 0.99, 1.0)):
        # A slow moment of the machine, in one round, is no slow service.
        for name, value in {"A": 40.0, "C": 400.0, "D": part * limit, "E": (0.45 + turn * 0.05) * limit}.items():
            record.add(EXACT, f"640x480/{name}", turn, value / (1 + turn))
    record.note("litserve", precision="fp32", versions="litserve 0.2.19", missing=None)
    record.note("infinity", precision="fp32", versions="infinity 0.0.78", missing="run make bench-peers")
    for name, rate in ((EXACT, 40.0), (INT8, 80.0), ("litserve", 13.0)):
        record.add(name, "beside/pictures/32", 0, rate)
    return record


def test_a_peer_is_compared_with_its_own_precision_only() -> None:
    measured = {target.what: target.measured for target in targets(_a_full_run())}
    exact = measured[f"{EXACT}: pictures/s against the fastest peer in fp32, 32 clients"]
    assert exact is not None
    assert exact.median == pytest.approx(40 / 13)
    assert measured[f"{INT8}: pictures/s against the fastest peer in int8, 32 clients"] is None


def test_the_limit_is_shared_on_a_cpu_and_the_lesser_one_on_a_gpu() -> None:
    assert limit_of("CPUExecutionProvider", 2, bare=40, decoding=400) == pytest.approx(38.095, abs=0.001)
    assert limit_of("CUDAExecutionProvider", 8, bare=5000, decoding=400) == 3200
    assert limit_of("CUDAExecutionProvider", 8, bare=2000, decoding=400) == 2000


def test_the_commands_name_the_phases_and_sizes_that_there_are() -> None:
    assert (tuple(speed_run.PHASES), tuple(SIZES)) == (command.PHASES, command.SIZES)
    assert (tuple(soak_run.PHASES), tuple(soak_bench.SIZES)) == (soak_command.PHASES, soak_command.SIZES)


def test_a_phase_that_fails_does_not_keep_the_others_from_it() -> None:
    async def fails(bench: Bench) -> None:
        raise LoadError("no answer")

    async def reads(bench: Bench) -> None:
        bench.record.add("", "generator/raw/core_ms", 0, 1.5)

    record = Record("now", "smallest")
    bench = Bench(SIZES["smallest"], [], "cpu", Path(), Inputs({}), record, None)  # type: ignore[arg-type]
    asyncio.run(speed_run.run_phases(bench, {"loops": fails, "generator": reads}))
    assert record.failed == {"loops": "LoadError: no answer"}
    assert "raw 1.5" in page(record)
    assert "- loops: LoadError: no answer" in page(record)


def test_a_rate_of_refusals_is_none() -> None:
    with dummy_server("empty") as (url, pid), pytest.raises(LoadError, match="status 404"):
        asyncio.run(drive(url, pid, [request("GET", "/nothing")], 0.1, clients=2))


def test_pictures_are_the_same_in_every_run_and_all_different() -> None:
    files = photographs({SMALL: 4, MEDIUM: 2})
    assert files == photographs({SMALL: 4, MEDIUM: 2})
    assert len({file for those in files.values() for file in those}) == 6
    assert all(50_000 < len(file) < 150_000 for file in files[SMALL])


def test_sizes_are_spread_evenly() -> None:
    files = {SMALL: [b"s%d" % number for number in range(30)], CAMERA: [b"c0", b"c1", b"c2"]}
    places = [place for place, file in enumerate(mixed(files)) if file.startswith(b"c")]
    assert [later - earlier for earlier, later in pairwise(places)] == [11, 11]
