"""Rows of every format become rows of every format, in order, none lost and none twice."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.files.rows import Failure
from bertstream.files.vectors import VectorFormat
from tests.files.conftest import bad, lines_of, run, texts_of, vector, write_input

COUNT = 130
INPUTS = (
    *("t.txt", "t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.arrow", "t.arrows", "t.feather"),
    *("t.txt.gz", "t.jsonl.gz", "t.csv.gz", "t.txt.zst", "t.jsonl.zst"),
)
FAILED = [number for number, text in enumerate(texts_of(COUNT)) if bad(text)]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an output."""
    if path.suffix == ".jsonl":
        return lines_of(path)
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path.read_bytes()).read_all()
    return list(table.to_pylist())


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    texts = texts_of(COUNT)
    source = write_input(tmp_path / name, texts)
    keep = ("text",) if "txt" in name else ("id", "text")
    report = run([source], tmp_path / "v.jsonl", keep=keep)
    rows = read(tmp_path / "v.jsonl")
    assert [row["text"] for row in rows] == texts
    if "id" in keep:
        assert [int(row["id"]) for row in rows] == list(range(COUNT))
    assert [row["vector"] for row in rows] == [None if bad(text) else vector(text).tolist() for text in texts]
    assert (report.rows, report.failed, report.failed_file) == (
        COUNT,
        len(FAILED),
        str(tmp_path / "v.jsonl.failed.jsonl"),
    )
    assert [row["row"] for row in lines_of(tmp_path / "v.jsonl.failed.jsonl")] == FAILED
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "v.jsonl", "v.jsonl.failed.jsonl"])


def some_vectors(text: str) -> Any:
    """Return a vector for each character: none for an empty text, and a failure where `bad` says so."""
    rows = np.array([[ord(each) % 50, number, 0.5] for number, each in enumerate(text)], np.float32).reshape(-1, 3)
    return Failure("BAD_TEXT", "a bad text") if bad(text) else rows


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl"])
@pytest.mark.parametrize(
    ("layout", "dtype"), [("list", "float32"), ("list", "float16"), ("list", "int8"), ("binary", "float16")]
)
def test_lists_of_vectors(tmp_path: Path, suffix: str, layout: Any, dtype: Any) -> None:
    texts = ["bad7", "", *texts_of(COUNT)]
    source, output = write_input(tmp_path / "t.jsonl", texts), tmp_path / f"v.{suffix}"
    stored = VectorFormat(dtype, layout)
    options: dict[str, Any] = {"task": "encode_multi", "stored": stored, "keep": ["text"]}
    if (suffix, layout) == ("jsonl", "binary"):
        with pytest.raises(ValueError, match=r"binary are for \.parquet and \.arrow"):
            run([source], output, some_vectors, **options)
        return
    run([source], output, some_vectors, **options)
    found = read(output)
    assert [row["text"] for row in found] == texts
    assert [row["vectors"] is None for row in found] == [bad(text) for text in texts]
    for text, row in zip(texts, found, strict=True):
        if bad(text):
            assert row.get("vector_scales") is None
            continue
        numbers = [np.frombuffer(each, "<f2") for each in row["vectors"]] if layout == "binary" else row["vectors"]
        scales = np.array(row["vector_scales"]) if dtype == "int8" else np.ones(len(text))
        assert len(scales) == len(numbers) == len(text)
        made = np.array(numbers, np.float32).reshape(-1, 3) * scales[:, None]
        np.testing.assert_allclose(made, some_vectors(text), atol=scales.max(initial=0) / 2 if dtype == "int8" else 0)


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl"])
def test_lists_of_vectors_of_which_the_first_part_has_none(tmp_path: Path, suffix: str) -> None:
    """A part is written every ten seconds; here each row is one."""
    texts = ["bad7", "a", "", "worse7"]
    source, clock = write_input(tmp_path / "t.jsonl", texts), iter(range(0, 10**6, 100))
    run([source], tmp_path / f"v.{suffix}", some_vectors, task="encode_multi", time_of=lambda: next(clock))
    assert [row["vectors"] and len(row["vectors"]) for row in read(tmp_path / f"v.{suffix}")] == [None, 1, [], None]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("layout", ["list", "binary"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_vectors_in_tables(tmp_path: Path, suffix: str, layout: Any, dtype: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    texts = texts_of(COUNT)
    source, output = write_input(tmp_path / "t.parquet", texts), tmp_path / f"v.{suffix}"
    run([source], output, keep="all", stored=VectorFormat(dtype, layout))
    rows = read(output)
    expected = np.array([vector(text) for text in texts])
    good = [number for number in range(COUNT) if number not in FAILED]
    if layout == "binary":
        assert [number for number, row in enumerate(rows) if row["vector"] is None] == FAILED
        found = np.array([np.frombuffer(rows[number]["vector"], np.dtype(dtype).newbyteorder("<")) for number in good])
    else:
        kind = pa.ipc.open_file(output.read_bytes()).schema.field("vector").type if suffix == "arrow" else None
        assert kind is None or (kind.list_size, str(kind.value_type)) == (3, str(pa.from_numpy_dtype(np.dtype(dtype))))
        missing = np.array([rows[number]["vector"] for number in FAILED], np.float32)
        assert (missing == 0).all() if dtype == "int8" else np.isnan(missing).all()
        found = np.array([rows[number]["vector"] for number in good])
    if dtype == "int8":
        assert [number for number, row in enumerate(rows) if row["vector_scale"] is None] == FAILED
        scales = np.array([[rows[number]["vector_scale"]] for number in good])
        np.testing.assert_allclose(found * scales, expected[good], atol=scales.max() / 2)
    else:
        np.testing.assert_array_equal(found, expected[good])
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts))


def test_vectors_of_numpy(tmp_path: Path) -> None:
    texts = texts_of(COUNT)
    run([write_input(tmp_path / "t.txt", texts)], tmp_path / "v.npy")
    found = np.load(tmp_path / "v.npy")
    assert (found.shape, found.dtype) == ((COUNT, 3), np.float32)
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == FAILED
    good = [number for number in range(COUNT) if number not in FAILED]
    np.testing.assert_array_equal(found[good], [vector(texts[number]) for number in good])


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("texts", [[], ["7", "17"], ["7"] * 40 + ["a"]], ids=["none", "all fail", "first ones fail"])
def test_outputs_of_few_good_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, texts: list[str]
) -> None:
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 20)
    if suffix in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    output = tmp_path / f"v.{suffix}"
    report = run([write_input(tmp_path / "t.txt", texts)], output)
    assert (report.rows, report.failed) == (len(texts), sum(map(bad, texts)))
    if suffix == "npy":
        found = np.load(output)
        assert len(found) == len(texts)
        assert found.shape[1] == (3 if "a" in texts else 0)
        assert np.isnan(found[:-1]).all()
        return
    rows = read(output)
    assert len(rows) == len(texts)
    if "a" in texts:
        assert rows[-1]["vector"] == vector("a").tolist()


def test_rows_without_a_text_fail_alone(tmp_path: Path) -> None:
    lines = ['{"text": "a"}', '{"text": null}', "nonsense", '{"text": 5}', '{"other": 1}', "", "[1]", '{"text": "b"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    report = run([tmp_path / "t.jsonl"], tmp_path / "v.jsonl", keep="all")
    assert [row["vector"] is None for row in read(tmp_path / "v.jsonl")] == [False, *[True] * 5, False]
    reasons = [(row["row"], row["reason"]) for row in lines_of(tmp_path / "v.jsonl.failed.jsonl")]
    missing, invalid, json_ = "MISSING_VALUE", "INVALID_VALUE", "INVALID_JSON"
    assert reasons == [(1, missing), (2, json_), (3, invalid), (4, missing), (5, json_)]
    assert (report.rows, report.failed) == (7, 5)


def test_records_that_lack_fields_fail_alone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,text\n1,a\n2\n\n3,"b\nc"\n')
    run([tmp_path / "t.csv"], tmp_path / "v.jsonl", keep=("id", "text"))
    assert [row["text"] for row in read(tmp_path / "v.jsonl")] == ["a", None, "b\nc"]
    (row,) = lines_of(tmp_path / "v.jsonl.failed.jsonl")
    told = "the record has 1 fields where the header has 2"
    assert row == {"row": 1, "reason": "INVALID_RECORD", "status": "INVALID_ARGUMENT", "message": told}


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\r\n\nb")))
    run(["-"], tmp_path / "v.jsonl", keep="all")
    assert [row["text"] for row in read(tmp_path / "v.jsonl")] == ["a", "", "b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"body": "x"}\n')))
    run(["-"], tmp_path / "w.jsonl", columns=("body",), input_format="jsonl")
    assert [row["vector"] for row in read(tmp_path / "w.jsonl")] == [vector("x").tolist()]


def test_lists_are_words_and_token_ids(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"words": [["a", "b"], []], "ids": [[1, 2], None]}), tmp_path / "t.parquet")
    asked: list[Any] = []

    def give(item: Any) -> Any:
        asked.append(item)
        return vector("a")

    run([tmp_path / "t.parquet"], tmp_path / "w.npy", give, columns=("words",))
    run([tmp_path / "t.parquet"], tmp_path / "i.npy", give, columns=("ids",))
    assert asked == [["a", "b"], [], [1, 2]]


def test_columns_of_types_that_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are written one by one, and the output has a type for all of them."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("bertstream.files.parts.PART_ROWS", 2)
    values = [1, None, 2.5, 3, None, None]
    lines = [json.dumps({"text": "a", "n": value, **({"late": "x"} if value == 3 else {})}) for value in values]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    run([tmp_path / "t.jsonl"], tmp_path / "v.parquet", keep="all")
    rows = read(tmp_path / "v.parquet")
    assert [row["n"] for row in rows] == values
    assert [row["late"] for row in rows] == [None, None, None, "x", None, None]
    lines[0] = json.dumps({"text": "a", "n": "a text"})
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"different types.*write \.jsonl, or leave the column out"):
        run([tmp_path / "t.jsonl"], tmp_path / "w.parquet", keep="all")


def test_values_that_json_lacks(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    day = datetime.datetime(2026, 1, 2, 3, 4)
    table = pa.table({"text": ["a"], "when": [day], "raw": [b"\x00\xff"], "kind": pa.array(["x"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "t.parquet")
    run([tmp_path / "t.parquet"], tmp_path / "v.jsonl", keep=("when", "raw", "kind"))
    (row,) = read(tmp_path / "v.jsonl")
    assert (row["when"], row["raw"], row["kind"]) == ("2026-01-02T03:04:00", "AP8=", "x")
    run([tmp_path / "t.parquet"], tmp_path / "v.parquet", keep=("when", "raw", "kind"))
    (row,) = read(tmp_path / "v.parquet")
    assert (row["when"], row["raw"], row["kind"]) == (day, b"\x00\xff", "x")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_bytes_that_are_no_utf_8_fail_alone(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "t.txt").write_bytes(b"a\n\xff\nb\n")

    def give(item: str) -> Any:
        return Failure("INVALID_TEXT", item) if not item.isascii() else vector(item)

    run([tmp_path / "t.txt"], tmp_path / f"v.{suffix}", give, keep="all")
    found = read(tmp_path / f"v.{suffix}")
    assert [row["text"] for row in found] == ["a", "\udcff" if suffix == "jsonl" else "?", "b"]
    assert lines_of(tmp_path / f"v.{suffix}.failed.jsonl")[0]["row"] == 1


@pytest.mark.parametrize(("name", "content"), [("t.csv", b"a,text,text\n1,x,y\n"), ("t.tsv", b"text\ttext\nx\ty\n")])
def test_a_column_that_comes_twice_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: it has 2 columns 'text'"):
        run([tmp_path / name], tmp_path / "v.jsonl")


def test_types_that_parquet_lacks_are_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.jsonl").write_text('{"text": "a", "more": {}}\n')
    with pytest.raises(ValueError, match=r"struct.*write \.jsonl, or leave the column out"):
        run([tmp_path / "t.jsonl"], tmp_path / "v.parquet", keep="all")
    run([tmp_path / "t.jsonl"], tmp_path / "v.arrow", keep="all")
    assert read(tmp_path / "v.arrow")[0]["more"] == {}
