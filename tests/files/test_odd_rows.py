"""Rows that a format or a task has no place for fail alone, or are told by the file and the line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.files.operations import OPERATIONS
from bertstream.files.rows import Failure, items_of
from bertstream.files.sources import lines
from tests.files.conftest import lines_of, run, write_input
from tests.files.test_round_trips import read


def texts_in(path: Path, content: str) -> list[str]:
    path.write_bytes(content.encode())
    output = path.with_suffix(".out.jsonl")
    run([path], output, lambda _: np.zeros(1), keep=("text",), overwrite=True)
    return [row["text"] for row in lines_of(output)]


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ('id,text\n1,"hello\n2,world\n3,foo\n', 2, "unexpected end of data"),
        ('id,text\n1,a\n2,"hello', 3, "unexpected end of data"),
        ('id,text\n1,"hello\n2,"world"\n3,foo\n', 2, "',' expected"),
        ('id,text\n0,"a\nb"\n1,"x ""y""\nz","open\n2,c\n', 5, "unexpected end of data"),
        ('id,text\r\n\r\n1,"a\r\nb"\r\n2,"open\r\n3,c\r\n', 5, "unexpected end of data"),
        ('id,"text\n1,a\n', 1, "unexpected end of data"),
    ],
)
def test_a_quote_that_is_not_closed_is_told_by_its_line(tmp_path: Path, content: str, line: int, why: str) -> None:
    (tmp_path / "q.csv").write_bytes(content.encode())
    with pytest.raises(ValueError, match=rf"q\.csv: line {line}: a quote that opens here is not closed .*{why}"):
        run([tmp_path / "q.csv"], tmp_path / "v.jsonl")


def test_quotes_of_csv(tmp_path: Path) -> None:
    content = 'id,text\n1,"a\nb, ""c"""\n2,20" x\n3,"20" y\n4,""\n5,"d\r\ne"'
    assert texts_in(tmp_path / "t.csv", content) == ['a\nb, "c"', '20" x', "20 y", "", "d\r\ne"]


def test_a_field_that_is_too_large_is_told_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FIELD_CHARACTERS", 100)
    before = csv.field_size_limit(100)
    try:
        with pytest.raises(ValueError, match=r"t\.csv: line 3: field larger than field limit \(100\); is a quote not"):
            texts_in(tmp_path / "t.csv", 'id,text\n1,a\n2,"open\n' + "3,b\n" * 50)
        csv.field_size_limit(1000)
        assert texts_in(tmp_path / "t.csv", f"id,text\n1,{'a' * 500}\n") == ["a" * 500]
        assert csv.field_size_limit() == 1000  # a caller's own limit is not lowered
    finally:
        csv.field_size_limit(before)


def test_a_line_with_tabs_ends_with_a_line_feed(tmp_path: Path) -> None:
    content = '\ufeffid\ttext\r\n1\ta\rb\r\n\r\n2\t"c\n3\td'
    assert texts_in(tmp_path / "t.tsv", content) == ["a\rb", '"c', "d"]


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("rerank", ("q", [1, 2])),
        ("rerank", ("q", ["a", None])),
        ("rerank", ("q", ["a", ["b"]])),
        ("rerank", ("q", 0)),
        ("rerank", (["q"], "a")),
        ("choose", ("q", [1, 2])),
        ("choose", ("q", "a")),
        ("next_sentence", ("q", ["a"])),
        ("classify", ("q", ["a"])),
        ("classify", (["a", 1],)),
        ("zero_shot", (["a"],)),
        ("zero_shot", ([1],)),
    ],
)
def test_values_that_a_task_does_not_take(task: str, values: tuple[Any, ...]) -> None:
    assert isinstance(found := items_of(OPERATIONS[task], values), Failure)
    assert found.reason == "INVALID_VALUE"


def score(item: Any) -> Any:
    return Failure("BAD_TEXT", "a bad text") if item[1] == "bad" else float(len(item[1]))


def write_documents(path: Path, *documents: Any) -> Path:
    path.write_text("".join(json.dumps({"query": "q", "document": each}) + "\n" for each in documents))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_lists_among_single_texts_fail_alone_in_tables(tmp_path: Path, suffix: str) -> None:
    """A column has values of one kind there, which is that of the first row; lines of JSON have both."""
    pytest.importorskip("pyarrow")
    source = write_documents(tmp_path / "in.jsonl", None, "a", ["b", "cc"], "ddd", [1])
    run([source], tmp_path / f"v.{suffix}", score, task="rerank")
    assert [row["score"] for row in read(tmp_path / f"v.{suffix}")] == [None, 1.0, None, 3.0, None]
    failed = lines_of(tmp_path / f"v.{suffix}.failed.jsonl")
    assert [row["row"] for row in failed] == [0, 2, 4]
    assert failed[1]["message"].startswith("the row has a list, where the first row of the file has one text")
    write_documents(source, ["b", "cc"], "a", [])
    run([source], tmp_path / f"w.{suffix}", score, task="rerank")
    assert [row["score"] for row in read(tmp_path / f"w.{suffix}")] == [[1.0, 2.0], None, []]
    run([source], tmp_path / "x.jsonl", score, task="rerank")
    assert [row["score"] for row in read(tmp_path / "x.jsonl")] == [[1.0, 2.0], 1.0, []]


def test_lists_after_parts_of_which_all_rows_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 2)
    source = write_documents(tmp_path / "in.jsonl", None, None, None, ["a", "bb"], ["bad"], None, None)
    run([source], tmp_path / "v.parquet", score, task="rerank")
    assert [row["score"] for row in read(tmp_path / "v.parquet")] == [None] * 3 + [[1.0, 2.0]] + [None] * 3
    write_documents(source, None, None)
    run([source], tmp_path / "w.parquet", score, task="rerank")
    assert [row["score"] for row in read(tmp_path / "w.parquet")] == [None, None]


def test_a_later_run_keeps_to_the_kind_of_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 2)
    monkeypatch.setattr("tests.files.conftest.BATCH", 2)
    source = write_documents(tmp_path / "in.jsonl", "a", "b", ["c"], "stop", "d")

    def stopping(item: Any) -> Any:
        if item[1] == "stop":
            raise ConnectionError
        return score(item)

    with pytest.raises(ConnectionError):
        run([source], tmp_path / "v.parquet", stopping, task="rerank")
    assert run([source], tmp_path / "v.parquet", score, task="rerank").resumed >= 2
    assert [row["score"] for row in read(tmp_path / "v.parquet")] == [1.0, 1.0, None, 4.0, 1.0]


def test_bytes_of_a_table_that_are_no_utf_8_fail_alone(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    raw = pa.array([b"a", b"\xff", None, b"b"], pa.binary())
    text = pa.StringArray.from_buffers(4, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    words = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4], pa.int32()), text)
    more = pa.StructArray.from_arrays([text, words], ["one", "some"])
    pq.write_table(pa.table({"text": text, "words": words, "more": more}), tmp_path / "t.parquet")

    def give(item: Any) -> Any:
        return Failure("INVALID_TEXT", "no UTF-8") if "\udcff" in item else np.zeros(1)

    for column, failed in (("text", [1, 2]), ("words", [1])):
        output = tmp_path / f"{column}.jsonl"
        run([tmp_path / "t.parquet"], output, give, columns=(column,), keep="all")
        assert [row["row"] for row in lines_of(tmp_path / f"{column}.jsonl.failed.jsonl")][:1] == failed[:1]
        assert [row["text"] for row in read(output)] == ["a", "\udcff", None, "b"]
        assert read(output)[1]["more"] == {"one": "\udcff", "some": ["\udcff"]}
    run([tmp_path / "t.parquet"], tmp_path / "v.arrow", give, keep=("words",))


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a", "n": NaN, "m": {"x": [-Infinity, 1.5]}}\n{"text": "b", "n": 2}\n')
    run([tmp_path / "t.jsonl"], tmp_path / "v.jsonl", lambda _: np.array([np.inf, 1.0]), keep="all")
    first, second = (
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "v.jsonl").read_text().splitlines()
    )
    assert first == {"text": "a", "n": None, "m": {"x": [None, 1.5]}, "vector": [None, 1.0]}
    assert second["n"] == 2


def test_columns_of_a_file_of_lines(tmp_path: Path) -> None:
    source = write_input(tmp_path / "t.txt", ["a"])
    with pytest.raises(ValueError, match=r"t\.txt: a file of lines has one column, 'text', and no body \(see `column`"):
        run([source], tmp_path / "v.npy", columns=("body",))
    with pytest.raises(ValueError, match=r"one column, 'text', and no id, body \(see `keep`\)"):
        run([source], tmp_path / "v.jsonl", keep=("id", "text", "body", "id"))
    run([source], tmp_path / "v.jsonl", columns=("text",), keep=("text", "text"))
    assert [row["text"] for row in read(tmp_path / "v.jsonl")] == ["a"]
    run([source], tmp_path / "w.jsonl", score, task="rerank", first="q")  # whose own column is `document`
    assert [row["score"] for row in read(tmp_path / "w.jsonl")] == [1.0]


def test_a_column_that_is_kept_twice_is_there_once(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("t.csv", "t.parquet"):
        run([write_input(tmp_path / name, ["a"])], tmp_path / f"{name}.arrow", keep=("text", "id", "text"))
        assert list(read(tmp_path / f"{name}.arrow")[0]) == ["text", "id", "vector"]
