from __future__ import annotations

from typing import Any

import pytest

from bertstream.ray.data.pools import Actors, Node, Pool, engine_options, pool_of

CPUS = [Node(16), Node(16)]
GPUS = [Node(32, 4), Node(32, 4), Node(8)]


@pytest.mark.parametrize(
    ("nodes", "actors", "num_cpus", "num_gpus", "spare", "found"),
    [
        (CPUS, None, None, 0, 0, Pool(2, 2, 16)),  # one actor a node, with all of its cores
        (CPUS, None, None, 0, 1, Pool(2, 2, 15)),
        ([Node(1)], None, None, 0, 1, Pool(1, 1, 1)),  # nothing to spare
        (CPUS, None, 4, 0, 0, Pool(8, 8, 4)),
        (CPUS, None, 4, 0, 1, Pool(6, 6, 4)),
        (CPUS, 3, None, 0, 0, Pool(3, 3, 16)),
        (CPUS, (1, 5), 2, 0, 0, Pool(1, 5, 2)),
        ([Node(8), Node(16)], None, None, 0, 0, Pool(3, 3, 8)),
        (GPUS, None, None, 1, 0, Pool(8, 8, 8, 1)),  # its share of the node's cores
        (GPUS, None, 2, 0.5, 0, Pool(16, 16, 2, 0.5)),
        (CPUS, None, 0, 0, 0, Pool(2, 2, 0)),
    ],
)
def test_a_pool_fills_the_cluster_where_nothing_else_is_said(
    nodes: list[Node], actors: Actors | None, num_cpus: float | None, num_gpus: float, spare: float, found: Pool
) -> None:
    assert pool_of(nodes, actors, num_cpus, num_gpus, spare) == found


@pytest.mark.parametrize(("nodes", "num_gpus"), [(CPUS, 1), (GPUS, 5), ([], 0)])
def test_what_no_node_has_is_refused(nodes: list[Node], num_gpus: float) -> None:
    with pytest.raises(ValueError, match=r"no node has 0 CPUs and . GPUs; the largest has"):
        pool_of(nodes, None, None, num_gpus)


@pytest.mark.parametrize(
    ("given", "num_cpus", "num_gpus", "found"),
    [
        ({}, 16, 0, {"device": "cpu"}),  # the whole machine: the server decides
        ({}, 4.5, 0, {"device": "cpu", "workers": 4, "threads": 1, "tokenizer_threads": 4}),
        ({}, 0.5, 0, {"device": "cpu", "workers": 1, "threads": 1, "tokenizer_threads": 1}),
        ({"threads": 2}, 4, 0, {"device": "cpu", "threads": 2}),
        ({"optimize": "latency"}, 4, 0, {"device": "cpu", "optimize": "latency"}),
        ({"dtype": "float16"}, 4, 1, {"device": "cuda", "dtype": "float16"}),
        ({"device": "cpu"}, 4, 1, {"device": "cpu"}),
    ],
)
def test_an_engine_takes_the_cores_of_its_actor(
    given: dict[str, Any], num_cpus: float, num_gpus: float, found: dict[str, Any]
) -> None:
    assert engine_options(given, num_cpus, num_gpus, 16) == found
