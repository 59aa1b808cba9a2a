"""Inputs of every format with the same rows, and whoever answers their items."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.files.asked import Asked, FileReport
from bertstream.files.job import Job
from bertstream.files.operations import OPERATIONS
from bertstream.files.plan import planned
from bertstream.files.rows import Failure, inputs_for

WIDTH = 3
BATCH = 16


def texts_of(count: int) -> list[str]:
    """Return texts of many scripts, of which some are empty."""
    return [
        ["fox", "", "世界 \U0001f98a", 'a "quoted", text', "tab and\u2028line"][i % 5] + str(i) * (i % 5 > 0)
        for i in range(count)
    ]


def vector(text: str) -> Any:
    return np.array([len(text), sum(map(ord, text)) % 97, 0.25], np.float32)


def bad(text: str) -> bool:
    return text.endswith("7")


def answer(item: Any) -> Any:
    """Return the vector of a text, or the failure of one that ends with 7."""
    return Failure("BAD_TEXT", "a bad text") if bad(item) else vector(item)


def answered(job: Job, give: Callable[[Any], Any] = answer) -> FileReport:
    """Run a job to its end, in batches, as a stream would."""
    items = chain.from_iterable(job.item_lists())
    while some := list(islice(items, BATCH)):
        job.take([(number, give(item)) for number, item in some])
    return job.finish()


def run(sources: Sequence[Any], output: Any, give: Callable[[Any], Any] = answer, **options: Any) -> FileReport:
    """Run a task over files, with a stand-in for the server."""
    task, columns = options.pop("task", "encode"), options.pop("columns", ())
    named = {name: options.pop(name) for name in ("overwrite", "progress", "time_of") if name in options}
    formats = [options.pop(name, None) for name in ("format", "input_format")]
    texts = {name: options.pop(name, None) for name in ("first", "second")}
    asked = Asked(OPERATIONS[task], inputs_for(OPERATIONS[task], columns, **texts), **options)
    with Job(planned(list(map(str, sources)), str(output), *formats), asked, **named) as job:
        return answered(job, give)


def write_input(path: Path, texts: Sequence[str]) -> Path:
    """Write texts with a column `id`, in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"id": number, "text": text} for number, text in enumerate(texts)]
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    match name.rpartition(".")[2]:
        case "txt":
            data = "".join(f"{text}\n" for text in texts).encode()
        case "jsonl":
            data = "".join(json.dumps(record) + "\n" for record in records).encode()
        case "csv" | "tsv":
            data = "".join(_separated(records, name.endswith("tsv"))).encode()
        case _:
            _write_table(path, records)
            return path
    path.write_bytes(_compressed(data, path.suffix))
    return path


def _separated(records: Sequence[dict[str, Any]], tabs: bool) -> Iterator[str]:
    if tabs:
        yield "id\ttext\n"
        yield from (f"{record['id']}\t{record['text']}\n" for record in records)
        return
    lines: list[str] = []

    class Lines:
        def write(self, line: str) -> None:
            lines.append(line)

    writer = csv.DictWriter(Lines(), ["id", "text"])
    writer.writeheader()
    writer.writerows(records)
    yield from lines


def _compressed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".zst":
        half = len(data) // 2
        compress = pytest.importorskip("pyarrow").compress
        return bytes(b"".join(compress(some, codec="zstd", asbytes=True) for some in (data[:half], data[half:])))
    return data


def _write_table(path: Path, records: Sequence[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(list(records), pa.schema([("id", pa.int64()), ("text", pa.string())]))
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=40)
        return
    make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


def lines_of(path: Path) -> list[Any]:
    """Return the values of a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
