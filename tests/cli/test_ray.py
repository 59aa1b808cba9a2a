"""Commands over files with --on ray, without Ray: what a job is asked for, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (bertstream[ray])")

from bertstream.cli import main
from bertstream.ray import FilesReport, JobFailed, Progress

Capture = pytest.CaptureFixture[str]
Fails = Callable[..., tuple[int, str]]


class Job:
    """Notes what it is asked for, and reports what it is told to."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.arguments: tuple[Any, ...] = ()
        self.report = FilesReport(files=3, skipped=1, rows=1234, failed_rows=0, seconds=2.0)
        self.error: Exception | None = None

    def __call__(self, *arguments: Any, **given: Any) -> FilesReport:
        self.arguments, self.given = arguments, given
        if self.error is not None:
            raise self.error
        if given["progress"]:
            given["progress"](Progress(2, 3, 1000, 1, 0.5))
        return self.report


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    made = Job()
    for name in ("encode_files", "predict_files"):
        monkeypatch.setattr(f"bertstream.ray.{name}", made, raising=False)
    monkeypatch.setattr("bertstream.ray.data.cluster.join_quietly", lambda: None)
    return made


def test_encode(job: Job, capsys: Capture) -> None:
    command = ["encode", "corpus/", "--on", "ray", "-o", "vectors/", "--column", "body", "--keep", "id,title"]
    assert main([*command, "--vector-type", "int8", "--pooling", "mean", "--num-gpus", "1", "--dtype", "float16"]) == 0
    assert job.arguments == (["corpus/"], "vectors/", "all-MiniLM-L6-v2")
    asked = {name: job.given[name] for name in ("column", "keep", "vector_type", "num_gpus", "server", "pooling")}
    assert asked == {
        "column": "body",
        "keep": ("id", "title"),
        "vector_type": "int8",
        "num_gpus": 1.0,
        "server": {"dtype": "float16"},
        "pooling": "mean",
    }
    progress, told = capsys.readouterr().err.splitlines()
    assert progress == "2 of 3 files, 1,000 rows, 1 failed, 2,000 rows/s"
    assert told == "vectors/: 1,234 rows in 3 files, 2.0 s; 1 files were done before"


def test_heads(job: Job) -> None:
    assert main(["rerank", "a query", "corpus/", "--on", "ray", "-o", "out/", "--model", "m", "--keep", "all"]) == 0
    assert job.arguments == (["corpus/"], "out/", "m", "rerank")
    assert (job.given["first"], job.given["keep"], job.given["columns"]) == ("a query", "all", ())


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"failed_rows": 2, "failed_file": "vectors.failed.jsonl"}, 4, "2 failed, see vectors.failed.jsonl"),
        ({"failed_rows": 2, "failed_files": {"a.parquet": "no column"}}, 1, "a.parquet: no column"),
    ],
)
def test_failures_have_exit_codes(job: Job, changes: dict[str, Any], code: int, told: str, capsys: Capture) -> None:
    job.report = FilesReport(**{"files": 3, "skipped": 0, "rows": 5, "failed_rows": 0, **changes})
    assert main(["encode", "corpus/", "--on", "ray", "-o", "vectors/", "--no-progress", "--json"]) == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"] == 5
    assert told in captured.err or code == 4


def test_a_job_that_cannot_go_on_says_why(job: Job, fails: Fails) -> None:
    job.error = JobFailed("there is no checkpoint x")
    assert fails("encode", "corpus/", "--on", "ray", "-o", "v/") == (1, "bertstream: error: there is no checkpoint x\n")
    job.error = FileExistsError("v/a.parquet was not made by this job")
    code, line = fails("encode", "corpus/", "--on", "ray", "-o", "v/")
    assert (code, line) == (2, "bertstream: error: v/a.parquet was not made by this job\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("encode corpus/ --on ray", "--on goes with --output FILE"),
        ("encode corpus/ -o v/ --actors 2", "--actors goes with --on ray"),
        ("encode corpus/ --on ray -o v/ --format jsonl", "--on ray writes Parquet, not jsonl"),
        ("encode corpus/ --on ray -o v/ --input-format csv", "leave --input-format out"),
        ("entities corpus/ --on ray -o v/", "--on ray needs --model"),
    ],
)
def test_what_makes_no_sense_is_refused(job: Job, command: str, message: str, fails: Fails) -> None:
    code, line = fails(*command.split())
    assert code == 2
    assert message in line
