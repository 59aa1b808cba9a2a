"""Tasks over files by both clients, against a fake server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.client import FailedPrecondition, FileProgress, RpcError, Unavailable
from bertstream.files.operations import OPERATIONS
from tests.client.fake_encodings import vector
from tests.client.fake_generation import GENERATING
from tests.client.fake_server import Code, FakeServer, status
from tests.client.fake_tasks import LABELS, labels_of, next_probability, relevance

COUNT = 300
MANY = 3000  # of which a stream that has answered 2,000 has handed out more than half: it holds three windows at most


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_encode_file(client: Any, server: FakeServer, tmp_path: Path) -> None:
    texts = [f"text {number}" if number % 50 else f"bad {number}" for number in range(COUNT)]
    source = write(tmp_path / "in.jsonl", *({"body": text, "id": n} for n, text in enumerate(texts)))
    seen: list[FileProgress] = []
    report = client.encode_file(
        source, tmp_path / "v.jsonl", column="body", keep=["id"], pooling="cls", progress=seen.append
    )
    assert (report.rows, report.failed, report.outputs) == (COUNT, 6, (str(tmp_path / "v.jsonl"),))
    expected = [None if "bad" in text else vector(f"text:{text}").tolist() for text in texts]
    assert rows(tmp_path / "v.jsonl") == [{"id": n, "vector": each} for n, each in enumerate(expected)]
    failed = {"reason": "INVALID_TEXT", "status": "INVALID_ARGUMENT", "message": "bad"}
    assert rows(Path(report.failed_file)) == [{"row": n, **failed} for n in range(0, COUNT, 50)]
    assert (seen[-1].rows, seen[-1].failed, seen[-1].finished) == (COUNT, 6, True)


def test_columns_and_layers_in_arrays(client: Any, server: FakeServer, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", {"text": "a", "id": 3})
    client.encode_file(source, tmp_path / "v.jsonl", keep=np.array(["id"]), layers=np.array([0]))
    assert rows(tmp_path / "v.jsonl")[0]["id"] == 3
    assert server.seen.options is not None
    assert list(server.seen.options.pooling.layers) == [0]
    with pytest.raises(TypeError, match="overwrite must be True or False"):
        client.encode_file(source, tmp_path / "v.jsonl", overwrite="no")


@pytest.mark.parametrize("vector_type", ["float32", "float16", "int8"])
def test_vectors_are_sent_as_they_are_stored(client: Any, server: FakeServer, tmp_path: Path, vector_type: Any) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in.txt").write_text("a\nb\n")
    client.encode_file(tmp_path / "in.txt", tmp_path / "v.parquet", vector_type=vector_type, keep="all")
    assert server.seen.options is not None
    sent = server.seen.options.data_type
    table = pq.read_table(tmp_path / "v.parquet")
    assert str(table.schema.field("vector").type.value_type) == {"float32": "float", "float16": "halffloat"}.get(
        vector_type, vector_type
    )
    client.encode_file(tmp_path / "in.txt", tmp_path / "w.parquet", vector_type="float32", wire_type="float16")
    assert (sent == server.seen.options.data_type) == (vector_type == "float16")
    assert table.column("text").to_pylist() == ["a", "b"]


def test_every_task_has_its_columns(client: Any, server: FakeServer, tmp_path: Path) -> None:
    server.does.model.heads.extend(GENERATING)
    record: dict[str, Any] = {
        "text": "Ann [MASK]",
        "query": "q",
        "document": "doc",
        "question": "who?",
        "context": "a b",
    }
    record |= {"first": "one", "second": "two", "prompt": "p", "choices": ["x", "y"]}
    source = write(tmp_path / "in.jsonl", record, {})

    def asked(task: str, **options: Any) -> dict[str, Any]:
        output = tmp_path / f"{task}{len(options)}.jsonl"
        method = getattr(client, f"{task}_file", None)
        report = method(source, output, **options) if method else client.predict_file(task, source, output, **options)
        assert (report.rows, report.failed) == (2, 1)
        first, second = rows(output)
        assert set(second.values()) == {None}
        assert first.keys() == second.keys()
        return first

    best = labels_of("text:Ann [MASK]")[0]
    label = {"label": LABELS[best], "score": 0.5, "label_id": best}
    assert asked("classify", top_k=1) == {"labels": [label]}
    assert asked("zero_shot", labels=["x"])["labels"] == [{"label": "x", "score": 0.5, "label_id": 0}]
    entity = {"label": "ENT", "score": 1.0, "word": "ann", "start": 0, "end": 3, "token_index": None}
    assert asked("entities") == {"entities": [entity]}
    ((candidate,),) = asked("fill_mask", top_k=1)["masks"]
    assert candidate == {"token": "t00", "token_id": 0, "score": 0.5, "sequence": "Ann t00", "position": 1}
    assert asked("rerank") == {"score": relevance("doc")}
    assert asked("answer") == {"answer": "a", "score": 0.5, "start": 0, "end": 1}
    assert [each["text"] for each in asked("answer", top_k=2)["answers"]] == ["a", "b"]
    assert asked("next_sentence") == {"probability": next_probability("pair:one|two")}
    assert asked("choose") == {"probabilities": [0.5, 0.5]}
    assert list(asked("score_text")) == ["score", "perplexity", "token_ids", "log_probabilities"]
    assert list(asked("encode_sparse")) == ["token_ids", "weights", "tokens"]
    assert np.shape(asked("encode_multi")["vectors"]) == (len("text:Ann [MASK]"), 8)
    tokens = asked("tokenize", max_length=4)
    assert tokens["special_tokens_mask"][0] == 1
    assert asked("tokenize", max_length=4, overflow=True)["windows"][0]["token_ids"] == tokens["token_ids"][:4]
    assert (
        asked("tokenize", stride=0, max_length=4, truncation=True)["windows"][0]["token_ids"] == tokens["token_ids"][:4]
    )
    assert list(asked("generate", max_new_tokens=2)) == ["generated", "finish_reason", "score", "input_tokens"]
    several = asked("generate", max_new_tokens=2, num_return_sequences=2, do_sample=True)
    assert len(several["answers"]) == 2
    assert asked("summarize", max_new_tokens=2)["summary"].startswith("text:Ann")
    assert len(asked("encode")["vector"]) == 8
    assert set(OPERATIONS) == {path.stem.rstrip("0123456789") for path in tmp_path.glob("*.jsonl")} - {"in"} - {
        path.stem for path in tmp_path.glob("*.failed.jsonl")
    }


def test_a_text_that_is_the_same_for_all_rows(client: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", {"body": "a"}, {"body": ["b", "c"]}, {"body": []})
    client.predict_file("rerank", source, tmp_path / "out.jsonl", first="q", column="body")
    scores = [row["score"] for row in rows(tmp_path / "out.jsonl")]
    assert scores == [relevance("a"), [relevance("b"), relevance("c")], []]
    client.predict_file("answer", source, tmp_path / "answers.jsonl", first="who?", column="body")
    assert [row["answer"] for row in rows(tmp_path / "answers.jsonl")] == ["a", None, None]


def break_for_good(server: FakeServer, why: str) -> None:
    """Break the next stream, and those after it: of a call that ends while it is written to, grpc.aio loses why."""
    failure = status(Code.UNAUTHENTICATED, why)
    server.does.breaks.extend([(2000, failure), *[(0, failure)] * 5])


def test_a_stream_that_breaks_for_good_leaves_what_is_done(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(MANY)))
    break_for_good(server, "the key is revoked")
    with pytest.raises(Exception, match="the key is revoked"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    server.does.breaks.clear()
    assert not (tmp_path / "v.npy").exists()
    report = client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    assert (report.rows, report.resumed >= 1000) == (MANY, True)
    expected = [vector(f"text:{number}") for number in range(MANY)]
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)


def test_what_a_server_refuses_for_now_fails_no_row(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(500)))
    server.does.refused_items = 300
    report = client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    assert (report.rows, report.failed) == (500, 0)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), [vector(f"text:{number}") for number in range(500)])


def test_a_timeout_stops_a_run_that_goes_on_later(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(500)))
    server.does.refused_items = 1 << 30
    with pytest.raises(RpcError):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy", timeout=2)
    assert not (tmp_path / "v.npy").exists()
    server.does.refused_items = 0
    report = client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    assert (report.rows, report.failed) == (500, 0)


def test_a_model_that_was_replaced_is_another(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n" * MANY)
    break_for_good(server, "no")
    with pytest.raises(Exception, match="no"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    server.does.breaks.clear()
    server.does.model.revision = "def"
    with pytest.raises(FileExistsError, match="another model"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    assert client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy", overwrite=True).resumed == 0


def test_misuse_is_told_before_a_call(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(ValueError, match="task must be one of"):
        client.predict_file("nonsense", tmp_path / "in.txt", tmp_path / "v.jsonl")
    with pytest.raises(TypeError, match="nonsense"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy", nonsense=1)
    with pytest.raises(ValueError, match="vector_type must be one of"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy", vector_type="float64")
    with pytest.raises(ValueError, match="format must be one of"):
        client.encode_file(tmp_path / "in.txt", tmp_path / "v.npy", format="npz")
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        client.encode_file(tmp_path / "none.txt", tmp_path / "v.npy")
    assert server.seen.rpcs.total() == 0


def test_a_model_that_cannot_is_told_before_anything_is_written(client: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(FailedPrecondition, match="cannot summarize"):
        client.summarize_file(tmp_path / "in.txt", tmp_path / "v.jsonl")
    assert list(tmp_path.iterdir()) == [tmp_path / "in.txt"]


def test_no_server(connect: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    with pytest.raises(Unavailable):
        connect("127.0.0.1:1", retries=0).encode_file(tmp_path / "in.txt", tmp_path / "v.npy")
    assert list(tmp_path.iterdir()) == [tmp_path / "in.txt"]
