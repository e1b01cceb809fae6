"""`make gpu-check` at its smallest, on a CPU: every section runs, and a promise that is broken makes it fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.client import NO_ANSWER, Answer
from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import decoding, ladder, memory, out_of_memory, parity, placement, service, training_steps
from benchmarks.gpu_check.device import NoGpuError, gpu
from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.models import FAMILIES, _random_network, _tokenizer
from benchmarks.gpu_check.outcome import Section
from benchmarks.gpu_check.run import SECTIONS, check
from model.config import ModelConfig

CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
ON_GPU = Options("cuda", quick=False, folder=Path())


def _command(folder: Path, *flags: str, device: str = "cpu") -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "benchmarks.gpu_check", "--device", device, "--folder", str(folder / "made")]
    called += ["--page", str(folder / "page.md"), "--budget-s", "2000", *flags]  # the machine may be busy
    return subprocess.run(called, capture_output=True, text=True, timeout=550)


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    folder = tmp_path_factory.mktemp("gpu-check")
    done = _command(folder, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout, (folder / "page.md").read_text("utf-8")


def test_every_section_runs_without_a_gpu_and_says_what_needs_one(checked: tuple[Path, str, str]) -> None:
    _, told, page = checked
    assert "Every promise that was judged was kept." in page
    for section in SECTIONS.values():
        assert f"\n## {section.title}\n" in page
        assert section.title in told
    assert page.startswith("# CPU ")
    for what in (
        "GPU, driver, CUDA and cuDNN",
        "TF32, CUDA graphs and TensorRT",
        "memory that runs out",
        "bf16 and compile",
    ):
        assert re.search(f"^- not run: {what}.*: needs CUDA$", page, re.MULTILINE)
    assert "vit fp32, image tower, batches of 1: cosine ≥ 0.99999" in page
    assert "| sightword-small fp32 | text | resident on the device | 4 |" in page
    for arrangement in ("1 | 1", "1 | 2", "1 | 4", "2 | 1"):
        assert f"| texts | {arrangement} |" in page


def test_no_speed_is_judged_in_a_quick_run(checked: tuple[Path, str, str]) -> None:
    page = checked[2]
    assert "warm-up's choice has ≥ 0.9 of the best speed found | not judged |" in page


def test_wrong_vectors_make_it_fail(checked: tuple[Path, str, str]) -> None:
    folder = checked[0]
    file = folder / "made" / "models" / "vit" / "reference.npz"
    with np.load(file) as held:
        good = dict(held)
    turned = good["image"].copy()
    turned[3] = -turned[3]
    np.savez(file, **good | {"image": turned})
    try:
        done = _command(folder, "--quick", "--section", "parity")
    finally:
        np.savez(file, **good)
    assert done.returncode == 1
    page = (folder / "page.md").read_text("utf-8")
    assert "**Not everything holds**: Parity with torch." in page
    assert (
        "vit fp32, image tower, batches of 16: cosine ≥ 0.99999, difference ≤ 0.0001 | **BROKEN** | -1.000000" in page
    )
    assert "vit fp32, text tower, batches of 16: cosine ≥ 0.99999, difference ≤ 0.0001 | kept" in page


def test_without_a_gpu_it_fails_at_once(tmp_path: Path) -> None:
    try:
        gpu()
    except NoGpuError:
        done = _command(tmp_path, device="cuda")
    else:
        pytest.skip("there is a GPU here")
    assert done.returncode == 1
    page = (tmp_path / "page.md").read_text("utf-8")
    assert "no driver of NVIDIA is here" in page
    assert page.count("not run: Environment did not succeed") == len(SECTIONS) - 1


SECTIONS_OF_TESTS = {
    "keeps": "findings.promise('two and two', 2 + 2 == 4, '4')",
    "breaks": "findings.promise('two and two', 2 + 2 == 5, '4')",
    "raises": "findings.promise('before', True, 1); raise RuntimeError('the session is gone')",
    "crashes": "findings.promise('before', True, 1); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs": "findings.promise('before', True, 1); import time; time.sleep(600)",
    "silent": "pass",
    "needs more": "findings.skip('everything', 'needs CUDA')",
}


@pytest.fixture
def sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Section]:
    made = {}
    for number, (name, body) in enumerate(SECTIONS_OF_TESTS.items()):
        (tmp_path / f"section_{number}.py").write_text(f"def run(options, findings):\n    {body}\n", "utf-8")
        made[name] = Section(f"section_{number}", name, 3.0 if name == "hangs" else 60.0)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return made


def _check(sections: dict[str, Section], folder: Path, budget_s: float = 200.0) -> tuple[bool, str]:
    page = folder / "page.md"
    return check(Options("cpu", True, folder), page, budget_s, sections=sections), page.read_text("utf-8")


def test_one_section_that_fails_does_not_end_the_others(sections: dict[str, Section], tmp_path: Path) -> None:
    kept, page = _check(sections, tmp_path)
    assert not kept
    assert "**Not everything holds**: breaks, raises, crashes, hangs, silent." in page
    assert page.count("| before | kept | 1 |") == 3  # what was found before stays
    assert "RuntimeError: the session is gone" in page
    assert "exit code -11" in page
    assert "it was ended after 3 s" in page
    assert "it looked at no promise, and gave no reason" in page
    assert "- not run: everything: needs CUDA" in page


@pytest.mark.parametrize("name", SECTIONS_OF_TESTS)
def test_what_is_not_kept_makes_it_fail(sections: dict[str, Section], tmp_path: Path, name: str) -> None:
    kept, _ = _check({name: sections[name]}, tmp_path)
    assert kept == (name in ("keeps", "needs more"))


def test_a_section_that_time_does_not_suffice_for_was_not_kept(sections: dict[str, Section], tmp_path: Path) -> None:
    kept, page = _check({"keeps": sections["keeps"]}, tmp_path, budget_s=0.5)
    assert not kept
    assert "not run: the 0.5 s of all sections have passed" in page


def test_the_page_is_written_after_each_section(sections: dict[str, Section], tmp_path: Path) -> None:
    copy = f"import shutil; shutil.copy({str(tmp_path / 'page.md')!r}, {str(tmp_path / 'seen.md')!r})"
    (tmp_path / "looks.py").write_text(
        f"def run(options, findings):\n    {copy}; findings.skip('all', 'none')\n", "utf-8"
    )
    kept, page = _check({"keeps": sections["keeps"], "looks": Section("looks", "looks", 60.0)}, tmp_path)
    seen = (tmp_path / "seen.md").read_text("utf-8")
    assert "**Not finished**: still to come looks." in seen
    assert "| two and two | kept | 4 |" in seen
    assert kept
    assert "Not finished" not in page


def test_what_a_section_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = "import subprocess; child = subprocess.Popen(['sleep', '600'])"
    body = f"{start}; findings.figure('child', child.pid); findings.promise('started', True, child.pid)"
    (tmp_path / "starts.py").write_text(f"def run(options, findings):\n    {body}\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    kept, _ = _check({"starts": Section("starts", "starts", 60.0)}, tmp_path)
    assert kept
    child = int(Findings.read(tmp_path / "starts.json").figures["child"])
    ends = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_the_command_names_the_sections_that_there_are() -> None:
    assert tuple(SECTIONS) == command.NAMES


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_every_family_can_be_built(config: ModelConfig) -> None:
    network, tokenizer = _random_network(config), _tokenizer(config)
    rows = tokenizer.encode(["a photo of 3 cats"])
    assert max(rows[0]) < config.text.vocab_size
    assert network.config == config


def test_there_is_a_family_for_each_kind_of_tower() -> None:
    kinds = {(config.image.kind, getattr(config.image, "block", ""), config.text.kind) for config in FAMILIES.values()}
    assert kinds == {
        ("vit", "", "clip"), ("siglip", "", "siglip"), ("resnet", "bottleneck", "clip"), ("resnet", "basic", "clip")
    }  # fmt: skip


def _answers(*told: int) -> list[Answer]:
    return [Answer(status, sent=float(number), seconds=0.1) for number, status in enumerate(told)]


UNIT = np.eye(4, dtype=np.float32)
NAN = np.full((4, 4), np.nan, np.float32)
LOSSES = [4.0, 3.0, 2.0, 1.0]
# What a section is given, and how many promises that breaks.
JUDGED: dict[str, tuple[Callable[[Findings], None], int]] = {
    "the same vectors": (lambda f: parity.judge(f, "", UNIT, UNIT, parity.TOLERANCES["fp32"]), 0),
    "TF32's rounding": (lambda f: parity.judge(f, "", UNIT + 1e-3, UNIT, parity.TOLERANCES["fp32"]), 1),
    "vectors that are not numbers": (lambda f: parity.judge(f, "", NAN, UNIT, parity.TOLERANCES["fp16"]), 1),
    "too few vectors": (lambda f: parity.judge(f, "", UNIT[:3], UNIT, parity.TOLERANCES["fp16"]), 1),
    "all nodes on the GPU": (
        lambda f: placement.judge(f, ON_GPU, "", "text", "fp16", {(GPU, "MatMul"): 9, (CPU, "Gather"): 2}), 0,
    ),
    "a node on the CPU": (
        lambda f: placement.judge(f, ON_GPU, "", "text", "fp32", {(GPU, "MatMul"): 9, (CPU, "ArgMax"): 1}), 1,
    ),
    "no node at all": (lambda f: placement.judge(f, ON_GPU, "", "text", "fp32", {}), 1),
    "a good batch size": (lambda f: ladder.judge_choice(ON_GPU, f, "", 950, 1000), 0),
    "a tenth of the speed": (lambda f: ladder.judge_choice(ON_GPU, f, "", 100, 1000), 1),
    "a graph that replays old inputs": (lambda f: ladder.judge_same(f, "", UNIT, UNIT[::-1]), 1),
    "a second process that helps": (lambda f: service.judge_several(ON_GPU, f, "", "", 100, 150), 0),
    "a second process that halves": (lambda f: service.judge_several(ON_GPU, f, "", "", 100, 50), 1),
    "other vectors over HTTP": (lambda f: service.judge_vectors(f, "", UNIT[::-1], UNIT), 1),
    "memory as it was": (lambda f: memory.judge_growth(ON_GPU, f, "", 2**30, 2**30 + 2**20), 0),
    "a model that stays": (lambda f: memory.judge_growth(ON_GPU, f, "", 2**30, 2**30 + 2**29), 1),
    "answers and refusals": (lambda f: out_of_memory.judge_answers(f, _answers(200, 503, 500, 200), 3), 0),
    "a request without an answer": (lambda f: out_of_memory.judge_answers(f, _answers(200, NO_ANSWER, 200), 2), 2),
    "no recovery": (lambda f: out_of_memory.judge_answers(f, _answers(200, 200, 503), 2), 1),
    "a deadline that passed": (lambda f: out_of_memory.judge_answers(f, _answers(200, 504, 200, 200), 3), 1),
    "the same losses": (lambda f: training_steps.judge_losses(f, "", LOSSES, LOSSES), 0),
    "losses that do not fall": (lambda f: training_steps.judge_losses(f, "", [4.0] * 4, LOSSES), 3),
    "losses that are not numbers": (lambda f: training_steps.judge_losses(f, "", [np.nan] * 4, LOSSES), 3),
    "a loader that keeps up": (lambda f: training_steps.judge_loader(ON_GPU, f, 95, 100), 0),
    "a loader of one thread": (lambda f: training_steps.judge_loader(ON_GPU, f, 7, 100), 1),
    "threads that wait for each other": (lambda f: decoding.judge_threads(ON_GPU, f, "", 10, 100), 1),
}  # fmt: skip


@pytest.mark.parametrize("what", JUDGED)
def test_a_promise_is_broken_by_what_breaks_it(what: str) -> None:
    judge, broken = JUDGED[what]
    findings = Findings()
    judge(findings)
    assert [promise.kept for promise in findings.promises].count(False) == broken, findings.promises
    assert findings.promises
