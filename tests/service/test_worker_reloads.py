"""A reload of several workers is one: all switch or none does, whoever of them fails, hangs or dies in the middle."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import pytest
from prometheus_client import Counter

from model.bundle import Bundle, write_manifest
from model.manifest import WEIGHTS
from service.errors import ApiError
from service.reloading import fingerprint
from service.workers import reloads as module
from service.workers.channel import ChannelError
from service.workers.reloads import Reloads
from tests.service.gpu_member_process import WORKING_BYTES
from tests.service.member_process import Processes, processes
from tests.service.test_reload import point, spoil_graph

KEY = "a-key-of-a-client-0123456789"


@pytest.fixture
def other_path(bundle_path: Path, tmp_path: Path) -> Path:
    """The same weights, other scores: another model by its manifest."""
    folder = shutil.copytree(bundle_path, tmp_path / "other")
    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    write_manifest(folder, manifest | {"logit_scale": 5.0})
    return folder


@pytest.fixture
def folder(bundle_path: Path, tmp_path: Path) -> Path:
    link = tmp_path / "current"
    link.symlink_to(bundle_path)
    return link


async def admitted(workers: Processes) -> Reloads:
    reloads = Reloads(workers, Counter("reloads", "By outcome.", ["outcome"], registry=None))
    for number in workers.connected():
        await reloads.admit(number)
    return reloads


async def served(workers: Processes) -> dict[int, str]:
    return {number: (await workers.ask(number, "served"))["models"][0] for number in workers.connected()}


def outcomes(reloads: Reloads) -> dict[str, float]:
    return {outcome: reloads._counted.labels(outcome)._value.get() for outcome in ("done", "failed")}


def test_all_switch_or_none_does(bundle: Bundle, bundle_path: Path, other_path: Path, tmp_path: Path) -> None:
    """The folder of one of them is spoiled, then both are good."""
    both = {"first": shutil.copytree(other_path, tmp_path / "a" / "bundle"), "second": tmp_path / "b" / "bundle"}
    shutil.copytree(other_path, both["second"])
    spoil_graph(both["second"])
    links = [tmp_path / name / "current" for name in ("a", "b")]
    for link in links:
        link.symlink_to(bundle_path)

    async def test() -> None:
        async with processes(tmp_path, *links) as workers:
            reloads = await admitted(workers)
            old, new = fingerprint(bundle), fingerprint(Bundle.load(other_path))
            point(links[0], both["first"])
            point(links[1], both["second"])
            with pytest.raises(ApiError) as refused:
                await reloads.reload()
            assert (refused.value.code, str(tmp_path) in refused.value.message) == ("invalid_bundle", False)
            assert "image.onnx" in refused.value.message
            assert await served(workers) == {0: old, 1: old}
            with pytest.raises(ApiError) as unknown:
                await reloads.reload("nobody")
            assert unknown.value.code == "model_not_found"
            point(links[1], links[0].resolve())
            reloaded = await reloads.reload()  # what was dropped is in nobody's way
            assert [change.changed for change in reloaded.changes] == [True]
            assert await served(workers) == {0: new, 1: new}
            assert outcomes(reloads) == {"done": 1, "failed": 1}  # a name that nobody has is none
            assert [change.changed for change in (await reloads.reload()).changes] == [False]
            assert workers.killed == []
            point(links[0], bundle_path)  # as when one reads before its folder changes, the other after
            with pytest.raises(ApiError, match="changed while it was read"):
                await reloads.reload()
            assert await served(workers) == {0: new, 1: new}

    asyncio.run(test())


def test_whoever_dies_or_hangs_in_the_middle(
    bundle: Bundle, folder: Path, other_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before all have prepared, nothing changes; after that, the others switch, and who has not is replaced."""
    monkeypatch.setattr(module, "DECIDE_S", 3.0)
    old, new = fingerprint(bundle), fingerprint(Bundle.load(other_path))

    def at(workers: Processes, question: str, signal_number: int) -> None:
        async def send(number: int, what: str) -> None:
            if (number, what) == (1, question):
                workers.send(number, signal_number)

        workers.before = send

    async def replace(workers: Processes, reloads: Reloads) -> None:
        await workers.gone(1)
        reloads.forget(1)
        await workers.start(1, folder)
        await reloads.admit(1)

    async def test() -> None:
        async with processes(tmp_path, folder, folder) as workers:
            reloads = await admitted(workers)
            point(folder, other_path)
            at(workers, "prepare", signal.SIGKILL)
            with pytest.raises(ApiError, match="ended, or hung"):
                await reloads.reload()
            assert await served(workers) == {0: old}
            assert workers.killed == []
            workers.before = nothing
            # The one that takes its place finds the new model: the others follow before it is let in.
            await replace(workers, reloads)
            assert await served(workers) == {0: new, 1: new}

            point(folder, bundle.path)
            at(workers, "commit", signal.SIGKILL)
            assert [change.changed for change in (await reloads.reload()).changes] == [True]
            assert await served(workers) == {0: old}
            workers.before = nothing
            await replace(workers, reloads)

            point(folder, other_path)
            workers.killed.clear()
            at(workers, "commit", signal.SIGSTOP)
            assert [change.changed for change in (await reloads.reload()).changes] == [True]
            assert workers.killed == [1]
            await workers.gone(1)
            assert await served(workers) == {0: new}

    asyncio.run(test())


def test_on_a_gpu_there_is_room_for_all_of_them_or_none_begins(
    bundle: Bundle, folder: Path, other_path: Path, tmp_path: Path
) -> None:
    """Each sees the same free memory: with room for one more model, either of two workers alone would fit."""
    gpu = tmp_path / "gpu"
    gpu.mkdir()
    total, held = gpu / "total", bundle.manifest.files[WEIGHTS].bytes + WORKING_BYTES
    total.write_text(str(10 * held))
    old, new = fingerprint(bundle), fingerprint(Bundle.load(other_path))

    async def test() -> None:
        module = f"tests.service.gpu_member_process {gpu}"
        async with processes(tmp_path, folder, folder, module=module) as workers:
            reloads = await admitted(workers)
            assert len(list(gpu.glob("*-*"))) == 2
            total.write_text(str(2 * held + held + held // 2))
            point(folder, other_path)
            with pytest.raises(ApiError, match=r"in each of 2 workers beside the model that serves") as refused:
                await reloads.reload()
            assert refused.value.code == "invalid_bundle"
            assert len(list(gpu.glob("*-*"))) == 2  # not even one was opened
            assert await served(workers) == {0: old, 1: old}
            # Not 4: two that opened side by side counted what the other took, too, which errs on the safe side.
            total.write_text(str(7 * held))
            await reloads.reload()
            assert await served(workers) == {0: new, 1: new}

    asyncio.run(test())


async def nothing(number: int, what: str) -> None: ...


def test_who_takes_a_number_is_not_let_in_by_what_was_asked_for_the_one_before(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with processes(tmp_path, folder, folder) as workers:
            reloads = Reloads(workers, Counter("reloads", "By outcome.", ["outcome"], registry=None))
            await reloads.admit(0)
            workers.before = hold = Hold("served")
            late = asyncio.create_task(reloads.admit(1))
            await hold.reached.wait()
            workers.send(1, signal.SIGKILL)
            await workers.gone(1)
            reloads.forget(1)
            workers.before = nothing
            await workers.start(1, folder)
            hold.go.set()
            with pytest.raises(ChannelError, match="has ended before"):
                await late
            assert reloads._serving == {0}
            await reloads.admit(1)
            assert reloads._serving == {0, 1}

    asyncio.run(test())


def test_one_at_a_time_and_keys_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.2)
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")

    async def test() -> None:
        async with processes(tmp_path, folder, folder, api_keys_file=str(keys)) as workers:
            reloads = await admitted(workers)

            async def is_client() -> list[bool]:
                return [await workers.ask(number, "is_client", KEY) for number in (0, 1)]

            assert await is_client() == [True, True]
            workers.send(1, signal.SIGSTOP)
            going_on = asyncio.create_task(reloads.reload())
            await asyncio.sleep(0.1)
            workers.send(1, signal.SIGCONT)
            assert (await going_on).keys_problem is None
            keys.write_text(f"{KEY[::-1]}\n")
            workers.before = hold = Hold("prepare")
            first = asyncio.create_task(reloads.reload())
            await hold.reached.wait()
            assert await is_client() == [False, False]
            keys.write_text("")
            with pytest.raises(ApiError, match="Models have been loading"):
                await reloads.reload()
            hold.go.set()
            await first
            assert "The API keys are those from before" in str((await reloads.reload()).keys_problem)

    asyncio.run(test())


class Hold:
    """Holds a question back."""

    def __init__(self, what: str) -> None:
        self.what, self.reached, self.go = what, asyncio.Event(), asyncio.Event()

    async def __call__(self, number: int, what: str) -> None:
        if what == self.what:
            self.reached.set()
            await self.go.wait()
