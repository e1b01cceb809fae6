"""A reload of all workers as of one: all open what the folders hold now, and only if all have, all switch to it.

Two phases, as a transaction over several databases has: what can fail is done by all beside what serves ("prepare"),
then all switch ("commit") or none does ("drop"). A worker that ends or hangs before it has prepared makes the whole
fail; one that does so afterwards is replaced, and the others switch. Between the first switch and the last, which is
milliseconds, clients may meet either model; after the answer they meet the new one only.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter

from service.errors import ApiError
from service.reloading import Change, ChangeLock, Reloaded
from service.workers.channel import ChannelError
from service.workers.siblings import Workers, ask_each

log = logging.getLogger(__name__)
PREPARE_S = 3600.0  # of a worker that lives and whose own bounds have not ended it before
GRACE_S = 5.0  # for the others, once one cannot
DECIDE_S = 10.0  # to switch, or to drop: no more than a turn of the event loop, on a machine that may be busy
KEYS_S = 10.0
WAIT_S = 10.0  # for a reload that goes on already


class Reloads:
    """Reloads of the service, one at a time."""

    def __init__(self, workers: Workers, counted: Counter) -> None:
        """`counted` has the label `outcome`."""
        self._workers, self._counted = workers, counted
        self._serving: set[int] = set()
        self._joining: set[int] = set()  # their models are loaded, and may not be what the others serve
        self._lives: defaultdict[int, int] = defaultdict(int)  # by number: how many have ended that had it
        self._models: Sequence[str] = ()  # fingerprints of what all workers serve
        self.profiles: Mapping[str, Any] = {}  # what their warm-up has measured
        self._changing = ChangeLock()
        self._numbers = itertools.count()

    async def reload(self, model: str | None = None) -> Reloaded:
        """What `Service.reload` does, in all workers. Raises ApiError, and then all serve what they did before."""
        problem = await self._reload_keys()  # at once: who takes away a key does not wait for models
        async with self._changing.hold(WAIT_S):
            changes = await self._swap(model)
        return Reloaded(changes, problem)

    async def reload_and_log(self) -> None:
        """What SIGHUP does."""
        try:
            reloaded = await self.reload()
        except ApiError as error:
            log.error("nothing was reloaded, what was served still is: %s", error)
        except Exception:
            log.exception("nothing was reloaded, what was served still is")
        else:
            log.info("reloaded: %s", ", ".join(change.describe() for change in reloaded.changes))

    async def admit(self, number: int) -> None:
        """A worker has loaded its models: see to it that all serve the same, before it takes connections.

        It read the folders later than the others. Raises ApiError or ChannelError where that cannot be, or where it has
        ended meanwhile: another may have its number by then, and be far from ready.
        """
        life = self._lives[number]
        self._joining.add(number)
        try:
            await self._workers.ask(number, "reload_keys", None, KEYS_S)  # it may have read them before a reload
            async with self._changing.hold(PREPARE_S):
                self._check_life(number, life)
                found = await self._workers.ask(number, "served")
                if self._serving and found["models"] != self._models:
                    log.warning("worker %d found other models than the others serve: all are reloaded", number)
                    self.profiles = {**found["profiles"], **self.profiles}
                    await self._swap(None)
                else:
                    self._models, self.profiles = found["models"], found["profiles"]
                self._check_life(number, life)
                self._serving.add(number)
        finally:
            if life == self._lives[number]:
                self._joining.discard(number)

    def forget(self, number: int) -> None:
        """A worker has ended."""
        self._lives[number] += 1
        self._serving.discard(number)
        self._joining.discard(number)

    def _check_life(self, number: int, life: int) -> None:
        if life != self._lives[number]:
            raise ChannelError(f"worker {number} has ended before it could join the others")

    async def _reload_keys(self) -> str | None:
        """Why some worker may still have the keys of before; None if none has."""
        answers = await ask_each(self._workers, [*self._serving, *self._joining], "reload_keys", None, KEYS_S)
        for number, answer in answers.items():
            if isinstance(answer, BaseException):
                log.error("worker %d has not yet read the API keys again: %r", number, answer)
                return "A worker has not yet read the API keys again; ask again whether it has."
        return next((answer for answer in answers.values() if answer is not None), None)

    async def _swap(self, model: str | None) -> list[Change]:
        """The two phases. Gives each model served, changed or not."""
        workers = [*sorted(self._serving), *sorted(self._joining)]
        if not workers:
            raise ApiError("unavailable", "The model is still loading; try again shortly.")
        number = next(self._numbers)
        try:
            prepared = await self._prepare_all(workers, {"reload": number, "model": model})
        except ApiError as error:
            await ask_each(self._workers, workers, "drop", number, DECIDE_S)
            if error.code != "model_not_found":
                self._counted.labels("failed").inc()
            raise
        committed = await ask_each(self._workers, workers, "commit", number, DECIDE_S)
        first = prepared[workers[0]]
        self._models, self.profiles = first["models"], first["profiles"]
        for worker, answer in committed.items():
            if isinstance(answer, BaseException):
                log.error("worker %d has not switched models (%r), and is replaced", worker, answer)
                self._workers.kill(worker)
        self._counted.labels("done").inc()
        changes = [[Change(**change) for change in answer["changes"]] for answer in prepared.values()]
        return max(changes, key=lambda each: sum(change.changed for change in each))  # of a newcomer, there are none

    async def _prepare_all(self, workers: Sequence[int], argument: Mapping[str, Any]) -> Mapping[int, Any]:
        """What each has prepared, once all have. Raises ApiError where one cannot.

        One begins: what warm-up has to measure, it measures undisturbed by the others, and for all. It also sees
        whether there is room on the GPU for all of them; the others would see what is free change meanwhile.
        """
        first, *others = workers
        copies = max(1, len(self._serving))  # a newcomer has read the folder just now
        answers = await self._prepare([first], {**argument, "profiles": self.profiles, "copies": copies})
        if others:
            profiles = answers[first]["profiles"]
            answers |= await self._prepare(others, {**argument, "profiles": profiles, "copies": 0})
        if len({tuple(answer["models"]) for answer in answers.values()}) > 1:
            raise _unavailable("a folder changed while it was read")
        return answers

    async def _prepare(self, workers: Sequence[int], argument: Mapping[str, Any]) -> dict[int, Any]:
        asking = {
            number: asyncio.ensure_future(self._workers.ask(number, "prepare", argument, PREPARE_S))
            for number in workers
        }
        _, late = await asyncio.wait(asking.values(), return_when=asyncio.FIRST_EXCEPTION)
        if late:
            await asyncio.wait(late, timeout=GRACE_S)
        for task in asking.values():
            task.cancel()
        outcomes = dict(zip(workers, await asyncio.gather(*asking.values(), return_exceptions=True), strict=True))
        failed = {number: error for number, error in outcomes.items() if isinstance(error, BaseException)}
        for number, error in failed.items():
            log.error("worker %d cannot reload: %r", number, error)
        if failed:
            refusals = [error for error in failed.values() if isinstance(error, ApiError)]
            raise refusals[0] if refusals else _unavailable("a worker ended, or hung, meanwhile")
        return outcomes


def _unavailable(why: str) -> ApiError:
    return ApiError("unavailable", f"Nothing was reloaded: {why}; try again.")
