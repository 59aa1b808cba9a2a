"""`bertstream top`: what it shows, how it ends, and what it says where there is nothing to show."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bertstream.cli import main
from bertstream.cli._top import figures
from bertstream.cli._top.figures import Figures
from tests.cli.fake_admin_port import FakeAdminPort, fake_admin_port, live_numbers
from tests.support.certificates import Authority
from tests.support.ports import held_port

Fails = Callable[..., tuple[int, str]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdminPort]:
    with fake_admin_port() as served:
        monkeypatch.setenv("BERTSTREAM_ADMIN_ADDRESS", served.address)
        monkeypatch.setenv("COLUMNS", "80")
        yield served


def test_once_fits_eighty_columns(fake: FakeAdminPort, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.rstrip() for line in lines] == [
        "bertstream 0.1.0 · 127.0.0.1:50051 · ready · up 1:01:52",
        "calls   90.1/s · 3 under way · 0.5/s failed · p50 10 ms · p90 20 ms · p99 –",
        "texts   90/s · 1,900 tokens/s · 0.75/s refused · 1 streams",
        "",
        "MODEL               STATE   WORKERS TEXTS/S TOKENS/S BATCH  QUEUE     P50    P99",
        "sentence-transform… serving     1/2   1,203  150,000   61% 20,100 12.3 ms 123 ms",
        "",
        "PROCESS    STATE CORES  MEMORY GPU RESTARTS          UP",
        "frontend-0 ready  0.40 123 MiB   –        0        10 s",
        "worker-0-0 gone   1.04 1.5 GiB   –       12 1 d 3:46:50",
        "",
        "CALLS                       PER SECOND",
        "EncodingService/EncodeTexts         88",
        "TaskService/FillMasks              2.1",
    ]


@pytest.mark.parametrize("numbers", [{}, {"server": None, "calls": [], "models": {}, "processes": [None]}])
def test_what_a_server_does_not_tell_is_a_dash(
    fake: FakeAdminPort, capsys: pytest.CaptureFixture[str], numbers: Any
) -> None:
    fake.numbers = numbers
    assert main(["top", "--once"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "calls   –/s · – under way · –/s failed · p50 – · p90 – · p99 –"


def test_json_is_what_the_server_sent(fake: FakeAdminPort, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == live_numbers()


def test_json_is_a_line_a_second(fake: FakeAdminPort) -> None:
    command = [sys.executable, "-m", "bertstream.cli", "top", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert lines == [live_numbers()] * 3


class Screen:
    """A run of the command in a terminal of 80 columns."""

    def __init__(self) -> None:
        self.file, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-m", "bertstream.cli", "top"]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        self.output = ""

    def shows(self, text: str, seconds: float = 60.0) -> None:
        """Wait until a text has been drawn since the last one."""
        end, seen = time.monotonic() + seconds, ""
        while text not in plain(seen):
            assert time.monotonic() < end, plain(seen)
            if select.select([self.file], [], [], 0.1)[0]:
                seen += os.read(self.file, 1 << 16).decode(errors="replace")
        self.output += seen

    def press(self, keys: bytes) -> None:
        os.write(self.file, keys)

    def ended(self) -> int:
        """Wait for the end, and check that the terminal is as it was."""
        code = self.process.wait(60)
        while select.select([self.file], [], [], 0.1)[0]:
            self.output += os.read(self.file, 1 << 16).decode(errors="replace")
        assert termios.tcgetattr(self._theirs) == self.before
        # The screen of before is back, with its cursor.
        assert self.output.count("\x1b[?1049h") == self.output.count("\x1b[?1049l") == 1
        assert self.output.count("\x1b[?25l") == self.output.count("\x1b[?25h") == 1
        assert "Traceback" not in self.output
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.file)
        os.close(self._theirs)


def plain(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)


@contextmanager
def screen() -> Iterator[Screen]:
    opened = Screen()
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x1b"], ids=["q", "Q", "Escape"])
def test_a_key_ends_it_and_the_terminal_is_as_before(fake: FakeAdminPort, key: bytes) -> None:
    with screen() as shown:
        shown.shows("EncodingService/EncodeTexts")
        fake.numbers["calls"]["per_second"] = 77.7
        shown.shows("77.7/s")
        shown.press(b"x\x1b[A")  # the arrow up, which begins with Escape
        for number in (66.6, 55.5):  # between two pictures it has read what was pressed before the first
            fake.numbers["calls"]["per_second"] = number
            shown.shows(f"{number}/s")
        shown.press(key)
        assert shown.ended() == 0


def test_an_interrupt_ends_it_too(fake: FakeAdminPort) -> None:
    with screen() as shown:
        shown.shows("EncodingService/EncodeTexts")
        shown.process.send_signal(signal.SIGINT)
        assert shown.ended() == 130


def test_a_server_that_goes_is_told_of_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(held_port())
        with fake_admin_port(port=port) as first:
            monkeypatch.setenv("BERTSTREAM_ADMIN_ADDRESS", first.address)
            shown = stack.enter_context(screen())
            shown.shows("90.1/s")
        shown.shows("connection refused")
        again = stack.enter_context(fake_admin_port(port=port))
        again.numbers["calls"]["per_second"] = 55.5
        shown.shows("55.5/s")
        shown.press(b"q")
        assert shown.ended() == 0


def test_without_a_terminal_it_says_what_to_do(fake: FakeAdminPort, fails: Fails) -> None:
    assert fails("top") == (2, "bertstream: error: standard output is no terminal: say --once, or --json\n")


def test_where_nobody_listens(fails: Fails) -> None:
    code, error = fails("top", "--once", "--admin-address", "127.0.0.1:1")
    assert code == 3
    assert error.endswith(
        "no live numbers from 127.0.0.1:1: connection refused; the server has an admin port if it is started with "
        "--admin-port\n"
    )


@pytest.mark.parametrize("address", ["localhost", "host:", "host:x", ":1", "http://host:1", "me:secret@host:1"])
def test_an_address_that_cannot_be_meant(fails: Fails, address: str) -> None:
    code, error = fails("top", "--once", "--admin-address", address)
    assert (code, "must be host:port" in error, "secret" in error) == (2, True, False)


def test_a_key_is_sent_and_asked_for(
    fake: FakeAdminPort, fails: Fails, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.key = "sesame"
    wanted = "this needs a key; give a key by BERTSTREAM_API_KEY or --api-key"
    assert fails("top", "--once") == (1, f"bertstream: error: {wanted}\n")
    monkeypatch.setenv("BERTSTREAM_API_KEY", "sesame")
    assert main(["top", "--once"]) == 0
    assert "sesame" not in capsys.readouterr().out
    code, error = fails("top", "--once", "--admin-address", "example.com:1")
    assert (code, "in plain text" in error, "sesame" in error) == (2, True, False)


@pytest.mark.parametrize("numbers", [[], "text", None])
def test_an_answer_that_makes_no_sense(fake: FakeAdminPort, fails: Fails, numbers: Any) -> None:
    fake.numbers = numbers
    assert fails("top", "--once")[0] == 1
    fake.status = 404
    assert "no admin port at 127.0.0.1:" in fails("top", "--once")[1]


def test_a_port_that_does_not_speak_http(fails: Fails) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        code, error = fails("top", "--once", "--admin-address", address, "--timeout", "0.2")
        assert (code, "no answer within 0.2 s" in error) == (3, True)


def test_tls(tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with fake_admin_port(context) as fake:
        once = ("top", "--once", "--admin-address", fake.address)
        assert main([*once, "--tls-ca", str(authority.path)]) == 0
        assert capsys.readouterr().out.startswith("bertstream 0.1.0")
        assert "its certificate is not taken" in fails(*once, "--tls")[1]
        assert "if it wants TLS, say --tls" in fails(*once)[1]
        other = ("--tls-ca", str(authority.path), "--tls-server-name", "other.test")
        assert "its certificate is not taken" in fails(*once, *other)[1]
    code, error = fails(*once, "--tls-ca", str(tmp_path / "none"))
    assert (code, "cannot be used" in error) == (2, True)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.rate(0.0), "0"),
        (figures.rate(0.254), "0.254"),
        (figures.rate(99.96), "100"),
        (figures.rate(1234.5), "1,234"),
        (figures.seconds(0.0000351), "35.1 µs"),
        (figures.seconds(0.0042), "4.2 ms"),
        (figures.seconds(1.5), "1.5 s"),
        (figures.size(0), "0 B"),
        (figures.size(1000), "0.977 KiB"),
        (figures.size(5 << 40), "5 TiB"),
        (figures.duration(59.9), "59 s"),
        (figures.duration(184), "3:04"),
        (figures.trend([0, 0], 5), "▁▁"),
        (figures.trend([1, 2, 4, 8, 4], 4), "▃▅█▅"),
    ],
)
def test_numbers_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_busiest_calls_come_first() -> None:
    by_method = {f"Service/Method{number}": float(number) for number in range(20)}
    table: Figures = figures.calls({"calls": {"by_method": by_method}})
    assert [row[1] for row in table.rows] == [f"{number}" for number in range(19, 11, -1)]
