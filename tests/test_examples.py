"""The scripts in examples/ run as they are, against a real server; the demo starts and stops its own."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.documented import NAMES
from tests.support.markdown import ROOT
from tests.support.server import Server, busy, eventually

EXAMPLES = ROOT / "examples"
MARK = "MARKED_BY_TEST"


def run(name: str, *arguments: str, stdin: str = "") -> list[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_encode(server: Server) -> None:
    shape, first, second, third = run("encode", server.address)
    assert shape == "(3, 384) float32"
    similarities = np.array([line.split()[:3] for line in (first, second, third)], float)
    np.testing.assert_allclose(similarities, similarities.T)
    assert similarities[0, 1] > 0.3 > similarities[0, 2]


def test_semantic_search(server: Server) -> None:
    question, best, *others = run("semantic_search", server.address, "When can I come on a Saturday?")
    assert question == "When can I come on a Saturday?"
    assert "Opening hours" in best
    assert len(others) == 2


def test_async_client(server: Server) -> None:
    assert run("async_client", server.address) == [
        "8 vectors of 384 numbers",
        "NotFound there is no model 'no-such-model'; served: " + ", ".join(model_names(server)),
    ]


def test_raw_grpc(server: Server) -> None:
    window, *rows = run("raw_grpc", server.address)
    assert re.fullmatch(r"window: \d+ items", window)
    assert sorted(int(row.split()[0]) for row in rows) == [0, 1, 100]


def test_bulk_file(server: Server, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    lines = [f"line {number}, naïve 水" for number in range(150)]
    printed = run("bulk_file", str(output), server.address, stdin="\n".join(lines) + "\n")
    assert printed == ["vectors.npy: 150 rows of 384"]
    vectors = np.load(output)
    assert vectors.shape == (150, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_layers(server: Server) -> None:
    title, header, *rows = run("layers", server.address)
    assert "'bank'" in title
    assert header.startswith("layer")
    near = np.array([row.split() for row in rows], float)
    assert near[:, 0].tolist() == list(range(7))
    assert near[0, 1] == pytest.approx(near[0, 2], abs=0.02)
    assert near[-1, 1] > near[-1, 2] + 0.05  # the two of rivers have come to be nearer


def test_late_chunking(server: Server) -> None:
    question, header, best, *others = run("late_chunking", server.address)
    assert question == "How many people live in Berlin?"
    assert header.split() == ["alone", "within"]
    assert best.endswith("The city has three million inhabitants.")
    assert len(others) == 4
    alone, within = map(float, best.split()[:2])
    assert within > alone + 0.1


def test_task_heads(documented: str) -> None:
    lines = run("task_heads", documented)
    heads = [line.split(":")[0].strip() for line in lines if line.startswith("  ")]
    of_generation = {"causal_lm", "sequence_to_sequence"}
    assert {"fill_mask", "next_sentence", "question_answering", "zero_shot_entities"} | of_generation <= set(heads)
    assert sorted(line.split(":")[0] for line in lines if not line.startswith("  ")) == sorted(NAMES)
    (chosen,) = [line for line in lines if line.startswith("  multiple_choice")]
    assert sum(map(float, re.findall(r"\d\.\d+", chosen))) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", ["", "writer", "summarizer"])
def test_generate(documented: str, model: str) -> None:
    *text, last = run("generate", documented, "The quick brown", *filter(None, [model]))
    assert any(text)
    count, reason = re.fullmatch(r"\((\d+) tokens from \d+: (\w+)\)", last).groups()  # type: ignore[union-attr]
    assert (int(count), reason) == (40, "length") or reason == "end_of_sequence"


def test_ray_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the script with a job that does nothing; tests/ray/data has such jobs on a cluster."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")
    from bertstream.ray import FilesReport

    report = FilesReport(3, 1, 1000, 2, "vectors.failed.jsonl", {"a.parquet": "it has no column 'text'"})
    monkeypatch.setattr("bertstream.ray.encode_files", lambda *_, **__: report, raising=False)
    monkeypatch.setattr(sys, "argv", ["ray_data.py", "corpus/", "vectors/"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "ray_data.py"), run_name="__main__")
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert printed.out == "1,000 rows in 3 files, 1 of which were done before\n"
    assert printed.err == "a.parquet: it has no column 'text'\n2 rows failed: see vectors.failed.jsonl\n"


def test_every_example_is_short_and_tested() -> None:
    scripts = {path.stem: path.read_text("utf-8").splitlines() for path in EXAMPLES.glob("*.py") if path.stem != "demo"}
    assert {f"test_{name}" for name in scripts} <= set(globals())
    assert [name for name, lines in scripts.items() if len(lines) >= 30] == []


class Demo:
    """The demo in a process of its own, whose descendants carry a mark that finds them even when it has ended."""

    def __init__(self, cache: Path) -> None:
        self.mark = uuid.uuid4().hex
        variables = {**os.environ, MARK: self.mark, "BERTSTREAM_CACHE": str(cache)}
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(EXAMPLES / "demo.py")],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, part: str) -> list[str]:
        """Return the lines up to the first one that contains this text."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line.rstrip())
            if part in line:
                return lines
        raise AssertionError(f"{part!r} was never printed:\n" + "\n".join(lines))

    def finish(self) -> str:
        """Wait for the end, and return the rest of the output."""
        return self.process.communicate(timeout=250)[0]

    def workers(self) -> list[psutil.Process]:
        """Return the processes of its server that compute."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in children if "bertstream.workers.process" in each.cmdline()]

    def left(self) -> list[int]:
        """Return the ids of the demo's processes that still run."""
        return [each.pid for each in psutil.process_iter() if self._is_ours(each)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False


@pytest.mark.slow
def test_demo(compile_cache: Path) -> None:
    demo = Demo(compile_cache)
    printed = demo.finish()
    assert demo.process.returncode == 0
    assert printed.count("is of the same subject for 8 of 8.") == 2
    assert re.findall(r"ms: layer (\d) \[\d+, 384\]", printed) == list("0123456")
    assert re.search(r"2,000 vectors, [\d,]+ tokens", printed)
    assert printed.rstrip().splitlines()[-1].endswith("with exit code 0")
    eventually(lambda: demo.left() == [], "the demo's processes to go")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [("Starting the server", signal.SIGTERM), ("Streaming", signal.SIGINT), ("Streaming", signal.SIGTERM)],
)
def test_demo_leaves_nothing_behind_when_it_is_stopped(
    moment: str, number: signal.Signals, compile_cache: Path
) -> None:
    """Stop it while it waits for the server, or for the answers of a stream.

    Where gRPC begins a call that streams, an interrupt can have it wait for ever when its channel is closed.
    """
    demo = Demo(compile_cache)
    demo.read_until(moment)
    if moment == "Streaming":
        eventually(busy(*demo.workers()), "a worker to compute")
    else:
        eventually(lambda: len(demo.left()) > 2, "the server to start other processes")
    demo.process.send_signal(number)
    demo.finish()
    assert demo.process.returncode == 128 + number
    eventually(lambda: demo.left() == [], "the demo's processes to go")


def model_names(server: Server) -> list[str]:
    from bertstream.client import Client

    with Client(server.address) as client:
        return [model.name for model in client.models()]
