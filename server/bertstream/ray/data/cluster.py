"""What is asked of Ray: the nodes that there are, and a pool of actors for a class."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bertstream.ray.data.carried import FileOutcome, outcome_of, work_row
from bertstream.ray.data.places import FileWork
from bertstream.ray.data.pools import FILES_UNDER_WAY, Node, Pool

USAGE_STATISTICS = "RAY_USAGE_STATS_ENABLED"
MOST_BLOCKS = 10_000  # Ray keeps some memory for each


def joined_nodes() -> list[Node]:
    """Return the nodes of the cluster. Where this process is in none, it joins that of RAY_ADDRESS, or begins one.

    One that it begins sends no statistics, and has no dashboard. Raises ImportError, which says how to get Ray.
    """
    _join()
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(float(has.get("CPU", 0)), float(has.get("GPU", 0))) for has in alive]


def join_quietly() -> None:
    """Join the cluster as `joined_nodes` does; of what Ray would say of the job only errors are left."""
    _join(log_to_driver=False, logging_level=logging.ERROR)
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _join(**how: Any) -> None:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f"this needs Ray: pip install 'bertstream[ray]' ({error})") from error
    if not ray.is_initialized():
        os.environ.setdefault(USAGE_STATISTICS, "0")
        own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        ray.init(**own, **how)


def outcomes_of(
    works: Sequence[FileWork], actor: type, pool: Pool, arguments: Mapping[str, Any]
) -> Iterator[FileOutcome]:
    """Yield what has become of files, as actors of a class are done with them."""
    import ray.data

    # A block a file, so that each goes to whichever actor is free, and is done again by itself if that one dies.
    work = ray.data.from_items([work_row(each) for each in works], override_num_blocks=min(len(works), MOST_BLOCKS))
    for row in on_pool(work, actor, pool, 1, FILES_UNDER_WAY, arguments).iter_rows():
        yield outcome_of(row)


def on_pool(dataset: Any, actor: type, pool: Pool, rows: int, calls: int, arguments: Mapping[str, Any]) -> Any:
    """Return the dataset mapped by actors of a class, which get tables of about so many rows, and so many at once."""
    import ray.data

    strategy = ray.data.ActorPoolStrategy(
        min_size=pool.least,
        max_size=pool.most,
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=True,
    )
    return dataset.map_batches(
        actor,
        batch_size=rows,
        batch_format="pyarrow",
        compute=strategy,
        fn_constructor_kwargs=dict(arguments),
        num_cpus=pool.num_cpus,
        **({"num_gpus": pool.num_gpus} if pool.num_gpus else {}),
    )
