"""Datasets of Ray Data in, the same with vectors or answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from bertstream.client import EncodeOptions
from bertstream.files.schema import VectorType
from bertstream.files.vectors import VectorFormat
from bertstream.ray.data.actors import TableActor
from bertstream.ray.data.cluster import joined_nodes, on_pool
from bertstream.ray.data.places import Place
from bertstream.ray.data.pools import BLOCKS_UNDER_WAY, Actors, Pool, pool_of
from bertstream.ray.data.tables import OnError, TableTask
from bertstream.ray.data.tasks import RowTask, row_task

if TYPE_CHECKING:
    from ray.data import Dataset

BLOCK_ROWS = 4096  # what an actor is given at once, at least
SPARE_CPUS = 1.0  # of a node, for the tasks that read and write beside the actors


def encode_dataset(
    dataset: Dataset,
    checkpoint: Place,
    *,
    column: str = "text",
    vector_type: VectorType = "float32",
    on_error: OnError = "raise",
    actors: Actors | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    server: Mapping[str, Any] | None = None,
    **options: Unpack[EncodeOptions],
) -> Dataset:
    """Return the dataset with a column `vector`, which actors with an engine each compute when it is read.

    Args:
        dataset: rows with a column of texts.
        checkpoint: a directory, or a name on the Hugging Face hub, as `bertstream serve` takes it.
        column: the one that has the texts.
        vector_type: float32, float16, or int8 with a column `vector_scale`.
        on_error: "raise" ends the job at the first row that fails; "collect" gives it a vector of NaN, and the reason
            in a column `error`, which is null in all other rows.
        actors: how many processes with an engine each, or (least, most); by default as many as the cluster holds.
        num_cpus: cores of each; by default all but one of a node's, which is left to what reads and writes.
        num_gpus: GPUs of each.
        server: options of each engine, as in the server's TOML file, such as {"dtype": "int8"}.
        options: those of the client's `encode`, such as pooling and truncation.

    The order of rows within a block is kept, and that of blocks as Ray's `preserve_order` says. Raises ValueError for
    what makes no sense.
    """
    task = row_task("encode", (column,), stored=VectorFormat(vector_type), options=options)
    return _mapped(
        dataset, task, checkpoint, on_error, pool_of(joined_nodes(), actors, num_cpus, num_gpus, SPARE_CPUS), server
    )


def predict_dataset(
    dataset: Dataset,
    checkpoint: Place,
    task: str,
    *,
    columns: Sequence[str] = (),
    first: str | None = None,
    second: str | None = None,
    on_error: OnError = "raise",
    actors: Actors | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    server: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Return the dataset with the answers of a task head as columns, as `encode_dataset` does.

    Args:
        dataset: rows with the columns that the task reads.
        checkpoint: one with the head.
        task: the name of the client's method, such as "classify", "entities", "fill_mask" or "rerank".
        columns: those that it reads, by default `text`, or for pairs `query,document` or `question,context`.
        first: a text in place of the first column of a pair, such as a query for all documents.
        second: a text in place of the second.
        on_error: as in `encode_dataset`, with null in place of answers.
        actors: how many processes with an engine each, or (least, most).
        num_cpus: cores of each.
        num_gpus: GPUs of each.
        server: options of each engine.
        options: those of the client's method, such as top_k.
    """
    row = row_task(task, columns, first=first, second=second, options=options)
    return _mapped(
        dataset, row, checkpoint, on_error, pool_of(joined_nodes(), actors, num_cpus, num_gpus, SPARE_CPUS), server
    )


def _mapped(
    dataset: Dataset, task: RowTask, checkpoint: Place, on_error: OnError, pool: Pool, server: Mapping[str, Any] | None
) -> Dataset:
    arguments = {"task": TableTask(task, on_error), "server": {**(server or {}), "models": [str(checkpoint)]}}
    mapped: Dataset = on_pool(dataset, TableActor, pool, BLOCK_ROWS, BLOCKS_UNDER_WAY, arguments)
    return mapped
