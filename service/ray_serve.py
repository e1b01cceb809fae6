"""The service on Ray Serve: the same application in each replica, and no server of ours around it.

Ray Serve accepts the connections, chooses a replica, and has as many of them as there is work for; batches, queues and
refusals are what they are anywhere else. `deploy/ray/serve.yaml` names `application`, and says how many and where.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before ray is imported: it would report to its makers

import ray
from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.runtime.processor import limit_cores
from service import logs
from service.app import create_app
from service.memory import configure_malloc, freeze_garbage_collector
from service.metrics import render
from service.settings import Settings, SettingsError, unknown_variables
from service.state import Service
from service.supervisor import Supervisor
from service.web.auth import warn_if_open
from service.workers.samples import Collected, Families, dump, merge

log = logging.getLogger(__name__)
METRICS_S = 5.0  # for all replicas
REQUEST_ID = b"x-request-id"
ANYWHERE = "0.0.0.0"  # noqa: S104 -- for all that is known here
NOT_HERE = {
    "workers": (1, "a replica is one process; num_replicas or autoscaling_config of the deployment make them more"),
    "admin_key": (None, "a request to /admin would reach one replica of several; deploy what has changed instead"),
}


class Replica:
    """One process with its own engine; Ray Serve calls what is public here."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        """Load the models; Ray Serve sends requests once this has returned. Raises what keeps it from serving."""
        settings = read_settings()
        logs.configure(settings.log_format)
        configure_malloc()
        _keep_to_assigned_cores()
        self._failure: str | None = None
        self._service = _ReplicatedService(settings)
        warn_if_open(self._service.keys, ANYWHERE)
        self._service.models.check()
        await self._service.check_stores()
        freeze_garbage_collector()
        await self._service.load()
        supervisor = Supervisor(self._service.models, self._service.metrics, self._fail)
        self._watch = asyncio.get_running_loop().create_task(supervisor.watch())
        log.info("ready after %.1f s", self._service.uptime_s())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return ClientsThatLeave(create_app(self._service))

    def _fail(self, reason: str) -> None:
        log.critical("%s", reason)
        self._failure = reason

    async def check_health(self) -> None:
        """Raise where /health/ready would say 503: Ray Serve takes another replica in place of this one."""
        if self._failure is not None:
            raise RuntimeError(self._failure)
        if not await self._service.ready():
            raise RuntimeError("the model fails on a probe; the log says why")

    async def samples(self) -> Families:
        """What this replica alone would say at /metrics, with its name as a label."""
        await self._service.models.opener.record_device_memory()
        name = serve.get_replica_context().replica_tag
        families = dump(self._service.metrics.registry)
        for *_, samples in families:
            for sample in samples:
                sample[1] = {**sample[1], "replica": name}
        return families

    async def __del__(self) -> None:
        """Called when all requests have been answered, or graceful_shutdown_timeout_s have passed."""
        if hasattr(self, "_watch"):  # else it never began
            self._watch.cancel()
            self._service.draining = True
            await self._service.aclose()


class _ReplicatedService(Service):
    async def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """Of all replicas, whichever is asked, since Ray Serve lets nobody choose one."""
        context = serve.get_replica_context()
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        answers = await handle.broadcast("samples").results_async(timeout_s=METRICS_S, return_exceptions=True)
        silent = [answer for answer in answers if isinstance(answer, BaseException)]
        if silent:
            log.warning("%d of %d replicas are missing in /metrics: %r", len(silent), len(answers), silent[0])
        return render(Collected(merge(answer for answer in answers if answer not in silent)), accept)


class ClientsThatLeave:
    """What differs between Ray Serve and our own server: how it tells that a client is gone, and its own request id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        asked = [value for name, value in scope["headers"] if name == REQUEST_ID]

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":  # Ray Serve adds the header once more
                kept = [
                    (name, value) for name, value in message["headers"] if (name, [value]) != (b"x-request-id", asked)
                ]
                message = {**message, "headers": kept}
            await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, send_without_id))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:  # the client is gone: not an error of ours, which it would count as otherwise
            scope["state"]["context"].hang_up()
            await work
            raise


def read_settings() -> Settings:
    """From the environment of the replica. Raises SettingsError for what cannot hold for one of several."""
    settings = Settings.read({})
    for name, suggestion in unknown_variables(settings).items():
        log.warning("%s is not a setting: %s", name, suggestion or "`python -m service --help` shows those there are")
    for name, (only, why) in NOT_HERE.items():
        if getattr(settings, name) != only:
            raise SettingsError(f"SIGHTWORD_{name.upper()}: {why}")
    return settings


def _keep_to_assigned_cores() -> None:
    """Count as many cores as `num_cpus` of ray_actor_options says, not all of the machine that others share."""
    assigned: dict[str, Any] = ray.get_runtime_context().get_assigned_resources()
    if cores := assigned.get("CPU"):
        limit_cores(cores)


deployment = serve.deployment(name="sightword")(serve.ingress()(Replica))
application = deployment.bind()
