from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ray.data.fake_engine import FakeEngine, vector_of

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")

from bertstream.files.vectors import VectorFormat  # noqa: E402 - what needs pyarrow comes after it was asked for
from bertstream.ray.data.tables import RowFailed, TableTask  # noqa: E402
from bertstream.ray.data.tasks import row_task  # noqa: E402


def vectors_of(column: Any) -> Any:
    return np.array(column.to_pylist(), np.float32)


def test_a_table_gets_the_vectors_of_its_rows() -> None:
    table = pa.table({"id": [7, 8, 9], "text": ["one", "three", "to"]})
    engine = FakeEngine()
    found = TableTask(row_task("encode", options={"pooling": "cls"})).extend(engine, table)
    assert found.select(["id", "text"]).equals(table)
    assert found.schema.field("vector").type == pa.list_(pa.float32(), 3)
    assert np.array_equal(vectors_of(found["vector"]), np.stack([vector_of(text) for text in ("one", "three", "to")]))
    assert engine.client.options["pooling"] == "cls"


def test_failures_are_raised_or_collected() -> None:
    table = pa.table({"text": ["one", None, "bad", "two"]})
    task = row_task("encode")
    with pytest.raises(RowFailed, match=r"MISSING_VALUE: .*row 1 of a block"):
        TableTask(task).extend(FakeEngine(), table)
    found = TableTask(task, "collect").extend(FakeEngine(), table)
    assert [bool(np.isnan(row).all()) for row in vectors_of(found["vector"])] == [False, True, True, False]
    first, missing, poisonous, last = found["error"].to_pylist()
    assert first is None
    assert last is None
    assert missing.startswith("MISSING_VALUE: ")
    assert poisonous == "POISONOUS_INPUT: do not send it again"


def test_a_row_may_have_a_vector_for_each_token() -> None:
    table = pa.table({"text": ["on", "bad", "e"]})
    found = TableTask(row_task("encode_multi"), "collect").extend(FakeEngine(), table)
    assert found.schema.field("vectors").type == pa.list_(pa.list_(pa.float32(), 3))
    vectors = [None if text == "bad" else [vector_of(each).tolist() for each in text] for text in ("on", "bad", "e")]
    assert found["vectors"].to_pylist() == vectors


@pytest.mark.parametrize("name", ["encode", "encode_multi"])
@pytest.mark.parametrize("texts", [["bad"], [None, None], []])
def test_columns_have_their_types_without_a_single_answer(name: str, texts: list[str | None]) -> None:
    stored = VectorFormat("int8")
    task = TableTask(row_task(name, stored=stored), "collect")
    none = task.extend(FakeEngine(), pa.table({"text": pa.array(texts, pa.string())}))
    some = task.extend(FakeEngine(), pa.table({"text": ["one"]}))
    assert none.schema == some.schema
    assert none.num_rows == len(texts)


def test_heads_give_their_own_columns() -> None:
    found = TableTask(row_task("classify", ("title",)), "collect").extend(
        FakeEngine(), pa.table({"title": ["one", "bad"]})
    )
    assert found["labels"].to_pylist() == [[{"label": "one", "score": 1.0, "label_id": 0}], None]


def test_a_row_may_have_several_documents_and_a_query_of_all_rows() -> None:
    documents = pa.array([["a", "bb"], ["ccc"], []], pa.list_(pa.string()))
    engine = FakeEngine()
    found = TableTask(row_task("rerank", first="what?")).extend(engine, pa.table({"document": documents}))
    assert found["score"].to_pylist() == [[1.0, 2.0], [3.0], []]
    assert engine.client.texts == [("what?", "a"), ("what?", "bb"), ("what?", "ccc")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"title": ["one"]}, "there is no column 'text'; there is title"),
        ({"text": ["one"], "vector": [1]}, "there is a column 'vector' already"),
    ],
)
def test_columns_that_do_not_fit_are_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableTask(row_task("encode")).extend(FakeEngine(), pa.table(columns))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task must be one of encode, .*, not 'embed'"):
        row_task("embed")


@pytest.mark.parametrize(
    ("name", "options"), [("encode", {"pooling": "average"}), ("encode", {"top_k": 2}), ("classify", {"top_k": 0})]
)
def test_options_are_checked_before_anything_begins(name: str, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        row_task(name, options=options)
