"""Outputs of no rows, or of rows that all failed: their types are those of all others of the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.files.rows import Failure
from bertstream.files.vectors import VectorFormat
from tests.files.conftest import WIDTH, answer, bad, run, write_input


def vectors_of(text: str) -> Any:
    return Failure("BAD_TEXT", "a bad text") if bad(text) else np.ones((2, WIDTH), np.float32)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("layout", ["list", "binary"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("task", ["encode", "encode_multi"])
def test_types_of_few_rows(tmp_path: Path, suffix: str, layout: Any, dtype: Any, task: str) -> None:
    pa = pytest.importorskip("pyarrow")
    for name, texts in (("empty", []), ("bad", ["a7", "b7"]), ("good", ["a", "b7"])):
        write_input(tmp_path / "in" / f"lang={name}" / "p.txt", texts)
    give = answer if task == "encode" else vectors_of
    options: dict[str, Any] = {"format": suffix, "task": task, "stored": VectorFormat(dtype, layout)}
    run([tmp_path / "in"], tmp_path / "out", give, vector_width=WIDTH, **options)
    read = pa.parquet.read_table if suffix == "parquet" else lambda path: pa.ipc.open_file(path).read_all()
    tables = {path.parent.name: read(str(path)) for path in (tmp_path / "out").rglob(f"p.{suffix}")}
    good = [field for field in tables["lang=good"].schema.remove_metadata() if field.name != "lang"]
    assert not any(pa.types.is_null(field.type) for field in good)
    for table in tables.values():
        assert [field for field in table.schema.remove_metadata() if field.name != "lang"] == good
    missing = tables["lang=bad"].column(0).to_pylist()
    assert len(missing) == 2
    if (task, layout) == ("encode", "list"):
        assert np.isnan(missing).all() if dtype != "int8" else missing == [[0] * WIDTH] * 2
    else:
        assert missing == [None, None]


def test_a_folder_is_one_data_set(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    write_input(tmp_path / "in" / "lang=de" / "p.txt", [])
    write_input(tmp_path / "in" / "lang=en" / "p.txt", ["a"])
    run([tmp_path / "in"], tmp_path / "out", vector_width=WIDTH)
    table = pq.read_table(tmp_path / "out")
    assert (table.num_rows, table.column("lang").to_pylist()) == (1, ["en"])


def test_arrays_of_few_rows(tmp_path: Path) -> None:
    for name, texts in (("empty", []), ("bad", ["a7", "b7"])):
        run([write_input(tmp_path / f"{name}.txt", texts)], tmp_path / f"{name}.npy", vector_width=WIDTH)
        assert np.load(tmp_path / f"{name}.npy").shape == (len(texts), WIDTH)


@pytest.mark.parametrize("name", ["p.txt", "p.txt.gz", "p.csv", "p.tsv", "p.parquet", "p.arrow", "p.arrows"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_columns_that_are_carried_of_no_rows(tmp_path: Path, name: str, suffix: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for folder, texts in (("empty", []), ("good", ["a"])):
        write_input(tmp_path / "in" / f"lang={folder}" / name, texts)
    run([tmp_path / "in"], tmp_path / "out", vector_width=WIDTH, keep="all", format=suffix)
    empty, good = (tmp_path / "out" / f"lang={folder}" / f"p.{suffix}" for folder in ("empty", "good"))
    if suffix == "jsonl":
        assert (empty.read_bytes(), good.read_bytes().count(b"\n")) == (b"", 1)
        return
    tables = [pq.ParquetFile(path).schema_arrow.remove_metadata() for path in (empty, good)]
    assert tables[0] == tables[1]
    assert tables[0].names == ["text", "vector"] if "txt" in name else ["id", "text", "vector"]
    assert pq.read_table(tmp_path / "out").num_rows == 1


def test_lines_of_json_that_are_none_have_no_columns_to_carry(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    run([write_input(tmp_path / "t.jsonl", [])], tmp_path / "v.parquet", vector_width=WIDTH, keep=("id",))
    assert pq.read_table(tmp_path / "v.parquet").column_names == ["vector"]
