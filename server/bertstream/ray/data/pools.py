"""How many actors compute, and what each of them takes: decisions without Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Actors: TypeAlias = "int | tuple[int, int]"  # so many, or from so many up to so many
BLOCKS_UNDER_WAY = 3  # of an actor: one is computed, one is tokenized, and one is made into columns
FILES_UNDER_WAY = 2  # of an actor: one begins while the other ends


@dataclass(frozen=True, slots=True)
class Node:
    """The resources of one node of the cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """The actors of a job, and the resources of each."""

    least: int
    most: int
    num_cpus: float
    num_gpus: float = 0.0


def pool_of(
    nodes: Iterable[Node], actors: Actors | None, num_cpus: float | None, num_gpus: float, spare_cpus: float = 0.0
) -> Pool:
    """Return the pool for what the caller has asked for, and where nothing was asked, one that fills these nodes.

    An actor takes all cores of a node, or with GPUs its share of them. `spare_cpus` of each node are left to other
    tasks, such as those that read. Raises ValueError for what no node has.
    """
    nodes = list(nodes)
    fit = [node for node in nodes if node.gpus >= num_gpus and node.cpus >= (num_cpus or 0)]
    if not fit:
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus), default=Node(0))
        raise ValueError(
            f"no node has {num_cpus or 0:g} CPUs and {num_gpus:g} GPUs; the largest has {largest.cpus:g} and "
            f"{largest.gpus:g}: give other num_cpus and num_gpus"
        )
    if num_cpus is None:
        num_cpus = min(_cpus_of_an_actor(node, num_gpus, spare_cpus) for node in fit)
    if isinstance(actors, tuple):
        return Pool(*actors, num_cpus, num_gpus)
    count = actors or sum(_room(node, num_cpus, num_gpus, spare_cpus) for node in fit) or 1
    return Pool(count, count, num_cpus, num_gpus)


def _cpus_of_an_actor(node: Node, num_gpus: float, spare_cpus: float) -> float:
    share = max(1.0, node.gpus // num_gpus) if num_gpus else 1.0
    return max(1.0, (node.cpus - spare_cpus) // share)


def _room(node: Node, num_cpus: float, num_gpus: float, spare_cpus: float) -> int:
    """Return how many actors a node has room for; one where they take nothing."""
    if not num_cpus and not num_gpus:
        return 1
    by_cpus = max(node.cpus - spare_cpus, num_cpus) // num_cpus if num_cpus else math.inf
    by_gpus = node.gpus // num_gpus if num_gpus else math.inf
    return int(min(by_cpus, by_gpus))


def engine_options(given: Mapping[str, Any], num_cpus: float, num_gpus: float, machine_cpus: int) -> dict[str, Any]:
    """Return the options of an actor's server: those given, and as many workers as the actor has cores.

    An actor that has GPUs, or the whole machine, leaves that to the server, whose workers then take idle cores too.
    """
    device = "cuda" if num_gpus else "cpu"
    cores = max(1, int(num_cpus))
    if num_gpus or cores >= machine_cpus or any(given.get(name) for name in ("workers", "threads", "optimize")):
        return {"device": device, **given}
    return {"device": device, "tokenizer_threads": cores, "workers": cores, "threads": 1, **given}
