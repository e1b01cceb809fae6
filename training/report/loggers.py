"""Loggers of the metrics of a run while it goes: TensorBoard's files in its folder, Prometheus on a port."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from training.config import ConfigError, TrainConfig
from training.metrics import MetricsLogger
from training.progress import console

PREFIX = "sightword_training"
EVENTS = "tensorboard"  # folder in that of the run
METRIC_HELP = {
    "loss": "Training loss of the last step",
    "learning_rate": "Learning rate of the last step",
    "gradient_norm": "Norm of the gradient of the last step, before it was clipped",
    "clipped": "1 if the gradient of the last step was scaled down to optimizer.clip_norm, or else 0",
    "logit_scale": "What cosines are multiplied by",
    "samples_per_s": "Samples a second in the last step",
    "skipped_samples": "Samples found broken so far, and left out",
    "holdout": "Held-out score of the last evaluation, from 0 to 1",
}


class TensorBoardLogger:
    """TensorBoard's event files; those of steps that a killed run did and that are done again are marked as void."""

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only where it is wanted

        self._writer = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a point to the curve of each figure."""
        for name in METRIC_HELP:
            if (value := record.get(name)) is not None:
                self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is not written yet."""
        self._writer.close()


class PrometheusLogger:
    """Metrics for Prometheus over HTTP. Raises ConfigError if the port cannot be had."""

    def __init__(self, host: str, port: int, *, steps: int, batch_size: int) -> None:
        self._registry, self._batch_size = CollectorRegistry(), batch_size
        self._gauges = {name: self._gauge(_metric_name(name), text) for name, text in METRIC_HELP.items()}
        self._step = self._gauge("step", "Steps done, of those of killed runs that were gone on with too")
        self._gauge("steps", "Steps of the whole run").set(steps)
        self._last = self._gauge("last_step_timestamp_seconds", "When the last step ended")
        self._samples = Counter(
            f"{PREFIX}_samples", "Samples learned from by this process", registry=self._registry
        )  # exported as ..._total
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise ConfigError(f"--metrics-port {port} on {host} cannot be listened on: {error.strerror}") from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"
        console.print(f"metrics for Prometheus at {self.url}", soft_wrap=True)

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", description, registry=self._registry)

    def log(self, record: Mapping[str, Any]) -> None:
        """Set what the next scrape reads."""
        for name, gauge in self._gauges.items():
            if (value := record.get(name)) is not None:
                gauge.set(value)
        self._step.set(record["step"])
        self._samples.inc(self._batch_size)
        self._last.set(time.time())

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _metric_name(name: str) -> str:
    return {"samples_per_s": "samples_per_second", "holdout": "holdout_score"}.get(name, name)


@dataclass(frozen=True)
class LoggerConfig:
    """Which loggers a run has, beside the progress bar and metrics.jsonl."""

    tensorboard: bool = True
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"

    @contextmanager
    def open(self, config: TrainConfig, run: Path, step: int) -> Iterator[list[MetricsLogger]]:
        """The loggers of a run that goes on from `step`, until it ends. Raises ConfigError."""
        with ExitStack() as ending:
            loggers: list[MetricsLogger] = []
            if self.metrics_port is not None:
                sizes = {"steps": config.steps, "batch_size": config.batch_size}
                loggers.append(PrometheusLogger(self.metrics_host, self.metrics_port, **sizes))
                ending.callback(loggers[-1].close)
            if self.tensorboard:
                loggers.append(TensorBoardLogger(run, step))
                ending.callback(loggers[-1].close)
            yield loggers
