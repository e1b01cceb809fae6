"""How many engines a Ray cluster has room for, and what each is given of its node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from service.bulk.job import JobError


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
