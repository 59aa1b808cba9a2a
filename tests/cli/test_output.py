"""Output on terminals and into pipes of any encoding, and the last line of commands that write a file."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertstream.cli import main
from bertstream.cli._map import ASCII_SHADES, SHADES
from bertstream.cli._options import utf8_argument
from tests.client.fake_encodings import vector
from tests.client.fake_server import FakeServer

TEXT = "naïve 世界 😀"
POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
LOCALES = [POSIX, LATIN, {**POSIX, **LATIN}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C.UTF-8"}]
locales = pytest.mark.parametrize("locale", LOCALES, ids=lambda locale: " ".join(locale.values()))


def command(*arguments: str | bytes) -> list[str | bytes]:
    return [sys.executable, "-m", "bertstream.cli", *arguments]


def environment(server: FakeServer, locale: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "BERTSTREAM_ADDRESS": server.address, **locale}


def piped(server: FakeServer, locale: Mapping[str, str], *arguments: str | bytes) -> bytes:
    done = subprocess.run(
        command(*arguments), env=environment(server, locale), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def on_terminal(server: FakeServer, locale: Mapping[str, str], *arguments: str | bytes) -> bytes:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments), env=environment(server, locale), stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
    )
    os.close(theirs)
    printed = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while data := terminal.read(4096):
                printed += data
        except OSError:  # Linux's sign that the other end is closed
            pass
    assert process.wait(60) == 0, printed
    return printed.replace(b"\r\n", b"\n")


@locales
def test_a_pipe_gets_utf_8(server: FakeServer, locale: dict[str, str]) -> None:
    printed = piped(server, locale, "tokenize", TEXT, "--json").decode()
    assert json.loads(printed)["text"] == TEXT
    assert TEXT in printed
    assert piped(server, locale, "tokenize", TEXT).decode().startswith(f"{TEXT}  (")


@locales
def test_texts_of_the_command_line_are_utf_8(server: FakeServer, locale: dict[str, str], tmp_path: Path) -> None:
    piped(server, locale, "zero-shot", TEXT, "--labels", "größer,世", "--template", "Es ist {} – ja.")
    request = server.seen.requests[-1]
    assert list(request.inputs.texts) == [TEXT]
    assert (list(request.options.labels), request.options.hypothesis_template) == (
        ["größer", "世"],
        "Es ist {} – ja.",
    )
    (tmp_path / "größer").write_text(TEXT, "utf-8")
    printed = piped(server, locale, "encode", "--input", str(tmp_path / "größer"), "--json")
    assert json.loads(printed)["vector"] == vector(f"text:{TEXT}").tolist()


@locales
def test_a_files_name_is_seen_in_any_locale(server: FakeServer, locale: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "größer").touch()
    done = subprocess.run(
        command("encode", "größer"),
        cwd=tmp_path,
        env=environment(server, locale),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()[:50]) == (2, "bertstream: error: größer is the name of a file: `")


def test_an_argument_that_is_not_utf_8_is_told(server: FakeServer) -> None:
    done = subprocess.run(
        command("tokenize", b"\xff"), env=environment(server, POSIX), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count(b"\n"), b"not valid Unicode" in done.stderr) == (1, 1, True)


def test_an_argument_stays_as_the_locale_reads_it_where_it_is_not_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("latin-1"))
    assert [utf8_argument(each) for each in ("a", "Ã©", "é")] == ["a", "é", "é"]


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        (LATIN, "naïve \\u4e16\\u754c \\U0001f600".encode("latin-1")),
        (POSIX, b"na\\xefve \\u4e16\\u754c \\U0001f600"),
        ({"LC_ALL": "C.UTF-8"}, TEXT.encode()),
    ],
)
def test_a_terminal_gets_what_it_can_show(server: FakeServer, locale: dict[str, str], shown: bytes) -> None:
    assert on_terminal(server, locale, "tokenize", TEXT).startswith(shown)
    assert json.loads(on_terminal(server, locale, "tokenize", TEXT, "--json"))["text"] == TEXT


def test_a_map_for_a_terminal_without_blocks(server: FakeServer) -> None:
    plain = on_terminal(server, {**POSIX, "NO_COLOR": "1"}, "attention", "hi").decode("ascii")
    blocks = on_terminal(server, {"LC_ALL": "C.UTF-8", "NO_COLOR": "1"}, "attention", "hi").decode()
    assert blocks.translate(str.maketrans(SHADES, ASCII_SHADES)) == plain


def test_help_is_printed_in_any_locale(server: FakeServer) -> None:
    assert b"usage: bertstream encode" in piped(server, POSIX, "encode", "--help")
    assert b"usage: bertstream encode" in on_terminal(server, POSIX, "encode", "--help")


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl"])
def test_what_was_saved_is_said(server: FakeServer, tmp_path: Path, capsys: Any, stdin: Any, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    stdin(b"a\n" * 1234)
    assert main(["encode", "-", "-o", str(path)]) == 0
    out, error = capsys.readouterr()
    line = rf"{re.escape(str(path))}: 1,234 vectors of 8 float32, \d+\.\d s, [\d,]+ texts/s\n"
    assert out == ""
    assert re.fullmatch(line, error)
    stdin(b"a\nbad\n")
    assert main(["encode", "-", "-o", str(path), "--keep-going", "--wire-type", "float16"]) == 1
    assert re.search(r": 2 vectors of 8 float\d\d, .* texts/s, 1 text failed\n$", capsys.readouterr().err)
    stdin(b"")
    assert main(["encode", "-", "-o", str(path)]) == 0
    assert capsys.readouterr().err.startswith(f"{path}: 0 vectors, ")


def test_what_progress_has_said_is_not_said_again(server: FakeServer, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "v.npy"
    assert main(["encode", "a", "-o", str(path), "--progress"]) == 0
    progress, line = capsys.readouterr().err.splitlines()
    assert "texts/s" in progress
    assert line == f"{path}: 1 vector of 8 float32"


def test_nothing_is_said_of_what_is_printed_or_fails(server: FakeServer, tmp_path: Path, capsys: Any) -> None:
    assert main(["encode", "a"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["encode", "bad", "-o", str(tmp_path / "v.npy")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_that_all_failed(server: FakeServer, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "v.npy"
    assert main(["encode", "bad", "-o", str(path), "--keep-going"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{path}: 1 vector, ")
    assert np.isnan(np.load(path)).all()


def closing(streams: str, server: FakeServer, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with some of its streams closed, such as `>&-`."""
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", *map(str, command(*arguments))]
    return subprocess.run(
        shell, cwd=folder, env=environment(server, {}), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("argv", ["models", "health --json", "encode a", "tokenize a --json", "--version"])
def test_a_closed_standard_output_is_an_error_of_what_prints(server: FakeServer, tmp_path: Path, argv: str) -> None:
    done = closing(">&-", server, *argv.split(), folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "bertstream: error: standard output is closed\n")
    assert closing(">&- 2>&-", server, *argv.split(), folder=tmp_path).returncode == 1
    assert closing("2>&-", server, *argv.split(), folder=tmp_path).returncode == 0


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_files_are_written_where_streams_are_closed(server: FakeServer, tmp_path: Path, streams: str) -> None:
    (tmp_path / "t.txt").write_text("a\nb\n")
    assert closing(streams, server, "encode", "t.txt", "-o", "v.npy", folder=tmp_path).returncode == 0
    assert np.load(tmp_path / "v.npy").shape == (2, 8)
    assert closing(streams, server, "encode", "a text", "-o", "w.npy", "--progress", folder=tmp_path).returncode == 0


@pytest.mark.parametrize("more", [[], ["-o", "v.npy"]])
def test_a_closed_standard_input_is_told(server: FakeServer, tmp_path: Path, more: list[str]) -> None:
    done = closing("<&-", server, "encode", "-", *more, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "bertstream: error: standard input is closed\n")
