"""How many engines a Ray cluster has room for, and what each is given of its node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from model.environment import HUB, PREFIX
from service.bulk.job import JobError

# What vectors depend on, and where models are. Ray shows the variables of actors on its dashboard, so that no key and
# no address of a service is among them.
SETTINGS = (
    "MODEL", "PROVIDER", "DEVICE", "GPU_MEMORY_BYTES", "DECODER", "TRUNCATE", "MAX_BATCH", "MAX_IMAGE_PIXELS",
    "MAX_BODY_BYTES", "URL_HOSTS", "URL_NETWORKS", *HUB,
)  # fmt: skip


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Those variables that the actors are given, too."""
    return {name: environment[name] for name in (PREFIX + setting for setting in SETTINGS) if name in environment}


class Actors(NamedTuple):
    """At most so many, each with whole cores, and a GPU or none."""

    most: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} cores" + (" and a GPU" if self.gpus else "")

    @classmethod
    def of_nodes(cls, nodes: Iterable[Mapping[str, Any]], asked: int | None) -> Actors:
        """For `ray.nodes()`: one for each GPU or, where there is none, one for each node; else as many as asked for.

        More than one a node share its cores. Raises JobError.
        """
        alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not alive:
            raise JobError("no node of the Ray cluster has a core to give: start nodes with --num-cpus 1 or more.")
        if with_gpu := [node for node in alive if node.get("GPU", 0) >= 1]:
            most = sum(int(node["GPU"]) for node in with_gpu)
            if asked is not None and asked > most:
                raise JobError(f"--ray-actors: the cluster has {most} GPUs, and an actor has one of its own.")
            return cls(asked or most, max(1, int(min(node["CPU"] // node["GPU"] for node in with_gpu))), 1)
        cores = [int(node["CPU"]) for node in alive]
        if asked is not None and asked > sum(cores):
            raise JobError(f"--ray-actors: the cluster has {sum(cores)} cores, and an actor has at least one.")
        most = asked or len(cores)
        cpus = next(each for each in range(max(cores), 0, -1) if sum(core // each for core in cores) >= most)
        return cls(most, cpus, 0)

    def options(self) -> dict[str, Any]:
        """As Ray takes them."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}
