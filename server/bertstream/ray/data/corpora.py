"""Files of a corpus in, files of vectors or of answers out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any, Unpack

from bertstream.client import EncodeOptions
from bertstream.files.plan import Plan
from bertstream.files.rows import Keep
from bertstream.files.schema import VectorLayout, VectorType
from bertstream.files.sinks.jsonl import json_line
from bertstream.files.storage import storage_of
from bertstream.files.vectors import VectorFormat
from bertstream.ray.data.actors import FileActor
from bertstream.ray.data.carried import FileOutcome
from bertstream.ray.data.cluster import joined_nodes, outcomes_of
from bertstream.ray.data.filetasks import FileTask
from bertstream.ray.data.jobs import FilesReport, OnProgress, gathered
from bertstream.ray.data.places import FileWork, Place, plan_of, works_of_plan
from bertstream.ray.data.pools import Actors, pool_of
from bertstream.ray.data.records import key_of, undone
from bertstream.ray.data.tasks import RowTask, row_task

# Options of a server on which its numbers depend.
_OF_NUMBERS = ("device", "dtype", "task", "allow_unsupported_modules", "model")


def encode_files(
    source: Place | Sequence[Place],
    output: Place,
    checkpoint: Place,
    *,
    column: str = "text",
    keep: Keep = (),
    vector_type: VectorType = "float32",
    vectors: VectorLayout = "list",
    overwrite: bool = False,
    actors: Actors | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    server: Mapping[str, Any] | None = None,
    progress: OnProgress | None = None,
    **options: Unpack[EncodeOptions],
) -> FilesReport:
    """Encode the texts of a corpus's files on a Ray cluster, into Parquet files of the same names in a folder.

    Each file becomes one with as many rows, in the same order, with a column `vector`. It appears when it is complete.
    Of a job that was killed the same call does what is left; what is done is not done again, unless its input was
    changed. A row that fails has a vector of NaN, and is listed with the reason in OUTPUT.failed.jsonl.

    Args:
        source: files (Parquet, Arrow, jsonl, csv, tsv, txt), folders, or patterns, on this machine or, with fsspec,
            elsewhere. All nodes must see them by the same paths.
        output: the folder to write.
        checkpoint: a directory, or a name on the Hugging Face hub, as `bertstream serve` takes it.
        column: the one that has the texts.
        keep: other columns to carry along, or "all".
        vector_type: float32, float16, or int8 with a column `vector_scale`.
        vectors: as a list of numbers, or as their bytes ("binary").
        overwrite: whether to write over files that another job has made.
        actors: how many processes with an engine each, or (least, most); by default as many as the cluster holds.
        num_cpus: cores of each; by default all of a node's, or with GPUs its share of them.
        num_gpus: GPUs of each.
        server: options of each engine, as in the server's TOML file, such as {"dtype": "int8"}.
        progress: called with a Progress whenever a file is done.
        options: those of the client's `encode`, such as pooling and truncation.

    Raises ValueError for what makes no sense, FileNotFoundError, FileExistsError for files that another job has made,
    and JobFailed where no file can be made, such as where the model does not load.
    """
    task = row_task("encode", (column,), stored=VectorFormat(vector_type, vectors), options=options)
    pool = {"actors": actors, "num_cpus": num_cpus, "num_gpus": num_gpus}
    return _run(task, source, output, checkpoint, keep, overwrite, pool, server, progress)


def predict_files(
    source: Place | Sequence[Place],
    output: Place,
    checkpoint: Place,
    task: str,
    *,
    columns: Sequence[str] = (),
    first: str | None = None,
    second: str | None = None,
    keep: Keep = (),
    vector_type: VectorType = "float32",
    vectors: VectorLayout = "list",
    overwrite: bool = False,
    actors: Actors | None = None,
    num_cpus: float | None = None,
    num_gpus: float = 0.0,
    server: Mapping[str, Any] | None = None,
    progress: OnProgress | None = None,
    **options: Any,
) -> FilesReport:
    """Ask a task head about the rows of a corpus's files, as `encode_files` does.

    Args:
        source: as in `encode_files`, and so are all that are not named here.
        output: the folder to write.
        checkpoint: one with the head.
        task: the name of the client's method, such as "classify", "entities", "fill_mask" or "rerank".
        columns: those that it reads, by default `text`, or for pairs `query,document` or `question,context`.
        first: a text in place of the first column of a pair, such as a query for all documents.
        second: a text in place of the second.
        keep: other columns to carry along, or "all".
        vector_type: of "encode_multi", as in `encode_files`.
        vectors: of "encode_multi", too.
        overwrite: whether to write over files that another job has made.
        actors: how many processes with an engine each, or (least, most).
        num_cpus: cores of each.
        num_gpus: GPUs of each.
        server: options of each engine.
        progress: called with a Progress whenever a file is done.
        options: those of the client's method, such as top_k.
    """
    stored = VectorFormat(vector_type, vectors)
    row = row_task(task, columns, first=first, second=second, stored=stored, options=options)
    pool = {"actors": actors, "num_cpus": num_cpus, "num_gpus": num_gpus}
    return _run(row, source, output, checkpoint, keep, overwrite, pool, server, progress)


def _run(
    task: RowTask,
    source: Place | Sequence[Place],
    output: Place,
    checkpoint: Place,
    keep: Keep,
    overwrite: bool,
    pool: Mapping[str, Any],
    server: Mapping[str, Any] | None,
    progress: OnProgress | None,
) -> FilesReport:
    plan, options = plan_of(source, output), {**(server or {}), "models": [str(checkpoint)]}
    works = works_of_plan(plan)
    numbers = {"device": "cuda" if pool["num_gpus"] else "cpu"}
    numbers |= {name: options[name] for name in _OF_NUMBERS if name in options}
    keep = keep if keep == "all" else tuple(keep)
    key = key_of({**asdict(task), "keep": keep, "model": str(checkpoint), "server": numbers})
    left, done = undone(works, key, overwrite=overwrite)
    outcomes: Iterable[FileOutcome] = ()
    if left:
        arguments = {"task": FileTask(task, keep, key), "server": options}
        outcomes = outcomes_of(left, FileActor, pool_of(joined_nodes(), **pool), arguments)
    report = gathered(outcomes, done, len(works), progress)
    return replace(report, failed_file=write_failures(plan, works), left_out=plan.skipped)


def write_failures(plan: Plan, works: Sequence[FileWork]) -> str | None:
    """Write one list of all rows that failed, by file and row, beside the output; return its path, None for none."""
    storage = storage_of(plan.output)
    listed = [work for work in works if storage.stamp(work.failed) is not None]
    if not listed:
        storage.remove(plan.failed_file)
        return None
    with storage.replace(plan.failed_file) as file:
        for work in listed:
            with closing(storage.open(work.failed)) as lines:
                file.writelines(json_line({"file": work.pair.name, **json.loads(line)}) for line in lines)
    return plan.failed_file
