from __future__ import annotations

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertstream.workers.process import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *args: object, created: float = 1_700_000_000.5, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("bertstream.x", logging.WARNING, "x.py", 1, message, args, None)
    made.created, made.msecs = created, (created % 1) * 1000
    vars(made).update(extra)
    return made


def test_json_has_one_object_a_line_with_the_extras() -> None:
    line = logs.JsonFormatter("worker-0").format(record("lost %s\nand more", "it", pid=7, path={"a"}))
    assert "\n" not in line
    values = json.loads(line)
    assert values["message"] == "lost it\nand more"
    assert (values["level"], values["process"], values["logger"]) == ("warning", "worker-0", "bertstream.x")
    assert (values["time"], values["pid"], values["path"]) == ("2023-11-14T22:13:20.500Z", 7, "{'a'}")


def test_the_last_half_millisecond_of_a_second_is_still_of_that_second() -> None:
    line = logs.JsonFormatter("x").format(record("m", created=1_700_000_000.9997))
    assert json.loads(line)["time"] == "2023-11-14T22:13:20.999Z"


@pytest.mark.parametrize("formatter", [logs.JsonFormatter("x"), logs.HumanFormatter("x")])
def test_tracebacks_are_there(formatter: logging.Formatter) -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        made = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), sys.exc_info())
    assert "KeyError" in formatter.format(made)


def test_people_get_text() -> None:
    line = logs.HumanFormatter("frontend").format(record("lost %s", "it", pid=7))
    assert line.split(maxsplit=1)[1] == "frontend   warning  lost it  pid=7"


def test_setup_takes_the_level_and_captures_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.setup("worker-1", "info")
    logging.getLogger("a").debug("no")
    logging.getLogger("a").info("yes")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", UserWarning, stacklevel=1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["a", "py.warnings"]
    assert lines[0]["message"] == "yes"
    assert "careful" in lines[1]["message"]


def test_an_exception_that_nobody_caught_is_a_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.setup("supervisor")
    try:
        raise KeyError("gone")
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["level"] == "critical"
    assert "KeyError: 'gone'" in line["traceback"]


def test_a_child_logs_where_its_supervisor_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.set_inheritable(fd, True)
    monkeypatch.setenv(logs.LOG_FD, str(fd))
    logs.setup("worker-1")
    logging.getLogger("a").info("yes \udcff")
    assert json.loads(file.read_text())["message"] == "yes \udcff"
    assert logs.LOG_FD not in os.environ
    assert not os.get_inheritable(fd)
    logging.getLogger().handlers[0].stream.close()  # type: ignore[attr-defined]
