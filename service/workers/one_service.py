"""What makes the workers of a parent one service: one /metrics, and reloads of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.workers.parent import Parent
from service.workers.reloads import Reloads
from service.workers.scrapes import ServiceMetrics


def join_workers(parent: Parent) -> None:
    """Have the parent answer its workers' questions, and act on their ends and on SIGHUP; before it runs."""
    metrics = ServiceMetrics(parent)
    reloads = Reloads(parent, metrics.reloads)

    async def reload(_: int, model: str | None) -> dict[str, Any]:
        return (await reloads.reload(model)).as_json()

    async def profiles(*_: object) -> Mapping[str, Any]:
        return reloads.profiles

    parent.handlers |= {"metrics": metrics.answer, "reload": reload, "profiles": profiles}
    parent.on_ready = reloads.admit
    parent.on_end += [metrics.forget, reloads.forget]
    parent.on_hangup = reloads.reload_and_log
