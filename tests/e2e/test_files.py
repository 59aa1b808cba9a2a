"""Files in and out with a real server: the answers of the methods, and a command that is killed and goes on."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.markdown import Documented
from tests.support.server import eventually

TEXTS = ["I love it.", "Angela Merkel met Barack Obama in Berlin.", "", "世界 is a [MASK]", "a fox and a dog"] * 6
QUESTIONS = [("Where does she live?", "My name is Sarah and I live in London."), ("Who?", "Ann and Bob")] * 6


@pytest.fixture(scope="module")
def client(documented_server: Documented) -> Iterator[Client]:
    with Client(documented_server.address) as connected:
        yield connected


def write(path: Path, **columns: list[Any]) -> Path:
    records = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(values: Any) -> Any:
    """Return plain values with numbers as float32 has them, so that decimals of both sides are the same."""
    if isinstance(values, dict):
        return {name: numbers(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [numbers(value) for value in values]
    return pytest.approx(values, rel=1e-4, abs=1e-6) if isinstance(values, float) else values


def test_vectors_are_those_of_encode(client: Client, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": TEXTS, "id": range(len(TEXTS))}), tmp_path / "in.parquet")
    report = client.encode_file(tmp_path / "in.parquet", tmp_path / "v.parquet", keep=["id"], normalize=True)
    assert (report.rows, report.failed) == (len(TEXTS), 0)
    table = pq.read_table(tmp_path / "v.parquet")
    found = np.array(table.column("vector").to_pylist(), np.float32)
    np.testing.assert_allclose(found, client.encode(TEXTS, normalize=True), atol=1e-5)
    assert table.column("id").to_pylist() == list(range(len(TEXTS)))
    client.encode_file(tmp_path / "in.parquet", tmp_path / "q.parquet", vector_type="int8", normalize=True)
    table = pq.read_table(tmp_path / "q.parquet")
    scales = np.array(table.column("vector_scale").to_pylist(), np.float32)[:, None]
    quantized = np.array(table.column("vector").to_pylist(), np.int8) * scales
    np.testing.assert_allclose(quantized, client.encode(TEXTS, normalize=True, wire_type="int8"), atol=1e-5)


@pytest.mark.parametrize(
    ("task", "model", "column", "options"),
    [
        ("classify", "sentiment", "labels", {"top_k": 1}),
        ("entities", "ner", "entities", {"aggregation": "none"}),
        ("fill_mask", "bert-base-uncased", "masks", {"top_k": 2}),
        ("zero_shot", "nli", "labels", {"labels": ["sport", "weather"]}),
    ],
)
def test_answers_are_those_of_the_method(
    client: Client, tmp_path: Path, task: str, model: str, column: str, options: dict[str, Any]
) -> None:
    texts = [f"{text} [MASK]" for text in TEXTS]
    source = write(tmp_path / "in.jsonl", text=texts)
    report = client.predict_file(task, source, tmp_path / "out.jsonl", model=model, **options)
    assert (report.rows, report.failed) == (len(texts), 0)
    expected = getattr(client, task)(texts, model=model, **options)
    assert [row[column] for row in rows(tmp_path / "out.jsonl")] == numbers([_plain(answer) for answer in expected])


def _plain(answer: list[Any]) -> list[Any]:
    return [_plain(each) if isinstance(each, list) else asdict(each) for each in answer]


def test_pairs(client: Client, tmp_path: Path) -> None:
    questions, contexts = map(list, zip(*QUESTIONS, strict=True))
    source = write(tmp_path / "in.jsonl", question=questions, context=contexts)
    client.predict_file("answer", source, tmp_path / "a.jsonl", model="qa")
    expected = [asdict(answer) for answer in client.answer(QUESTIONS, model="qa")]
    assert [row["answer"] for row in rows(tmp_path / "a.jsonl")] == [each["text"] for each in expected]
    assert [row["start"] for row in rows(tmp_path / "a.jsonl")] == [each["start"] for each in expected]
    client.predict_file("rerank", source, tmp_path / "r.jsonl", first="a query", column="context", model="reranker")
    ranked = sorted(client.rerank("a query", contexts, model="reranker"), key=lambda each: each.index)
    assert [row["score"] for row in rows(tmp_path / "r.jsonl")] == numbers([each.score for each in ranked])


def test_tokens_sparse_vectors_and_summaries(client: Client, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", text=TEXTS[:5])
    client.tokenize_file(source, tmp_path / "t.jsonl")
    expected = client.tokenize(TEXTS[:5])
    assert [row["tokens"] for row in rows(tmp_path / "t.jsonl")] == [each.tokens for each in expected]
    client.predict_file("encode_sparse", source, tmp_path / "s.jsonl", model="bert-base-uncased", top_k=4)
    sparse = client.encode_sparse(TEXTS[:5], model="bert-base-uncased", top_k=4)
    assert [row["token_ids"] for row in rows(tmp_path / "s.jsonl")] == [each.token_ids.tolist() for each in sparse]
    options: dict[str, Any] = {"model": "summarizer", "max_new_tokens": 4, "num_beams": 1}
    client.summarize_file(source, tmp_path / "z.jsonl", **options)
    assert [row["summary"] for row in rows(tmp_path / "z.jsonl")] == client.summarize(TEXTS[:5], **options)


def test_rows_that_are_too_long_fail_alone(client: Client, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", text=["fox", "fox " * 600, "dog"])
    report = client.encode_file(source, tmp_path / "v.jsonl", truncation=False)
    assert [row["vector"] is None for row in rows(tmp_path / "v.jsonl")] == [False, True, False]
    assert report.failed_file is not None
    (failed,) = rows(Path(report.failed_file))
    assert (failed["row"], failed["reason"], failed["status"]) == (1, "INVALID_TEXT_LENGTH", "INVALID_ARGUMENT")
    assert "items" not in failed["message"]


COMMAND = """
import sys
import bertstream.files.parts as parts
from bertstream.cli import main
parts.PART_ROWS = 100
sys.exit(main())
"""


def test_a_command_that_is_killed_goes_on(documented_server: Documented, client: Client, tmp_path: Path) -> None:
    """Kill it with SIGKILL at random moments; in the end no row is lost, and none is there twice."""
    count, chance = 1500, random.Random(3)
    texts = [f"fox {number} and dog {number % 7}" for number in range(count)]
    expected = client.encode(texts, model="bert-base-uncased")
    environment = {**os.environ, "BERTSTREAM_ADDRESS": documented_server.address}

    def kills_until_done(folder: Path) -> int:
        """Run the command until it ends by itself, see what it has written, and return how often it was killed."""
        folder.mkdir()
        source = write(folder / "in.jsonl", id=list(range(count)), text=texts)
        work, output, kills = folder / ".v.jsonl.unfinished", folder / "v.jsonl", 0
        arguments = ["encode", str(source), "-o", str(output), "--keep", "id", "--model", "bert-base-uncased"]
        while True:
            child = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *arguments], env=environment, stderr=subprocess.PIPE
            )
            before = len(list(work.glob("files/*/*.json")))
            while child.poll() is None and (kills == 3 or len(list(work.glob("files/*/*.json"))) <= before):
                time.sleep(0.005)
            if child.poll() is None:
                time.sleep(0.1 * chance.random())
                child.send_signal(signal.SIGKILL)
            errors = child.communicate()[1].decode()
            if child.returncode != -signal.SIGKILL:
                break
            kills += 1
        assert child.returncode == 0, errors
        assert ("goes on with" in errors) == (kills > 0)
        found = rows(output)
        assert [row["id"] for row in found] == list(range(count))
        np.testing.assert_allclose(np.array([row["vector"] for row in found]), expected, atol=1e-5)
        assert sorted(path.name for path in folder.iterdir()) == ["in.jsonl", "v.jsonl"]
        return kills

    folders = (tmp_path / str(number) for number in itertools.count())
    # It takes a third of a second, in which whoever kills may get no core on a machine with much else to do.
    eventually(lambda: kills_until_done(next(folders)) >= 2, "a command that is killed in time")
