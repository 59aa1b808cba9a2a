"""The command `bertstream top`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue

from bertstream.cli._options import ADMIN, Commands, UsageError, command, secrets
from bertstream.cli._output import print_json, shows
from bertstream.cli._top import figures
from bertstream.cli._top.admin_port import AdminPort, Numbers

EXAMPLES = """\
examples:
  bertstream serve --admin-port 9464     a server with an admin port
  bertstream top                         its numbers, every second, until q is pressed
  bertstream top --once                  those of the last second, once
  bertstream top --json | jq .calls      each second's as a line of JSON"""

AGAIN_SECONDS, KEY_SECONDS = 1.0, 0.1
SECONDS_SHOWN = 60


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = command(commands, "top", run, "watch a server's live numbers", EXAMPLES, port=ADMIN)
    parser.add_argument("--once", action="store_true", help="print the numbers of the last second, and end")


def run(arguments: argparse.Namespace) -> int:
    """Show the numbers once, or until a key or Ctrl-C ends that."""
    admin = AdminPort(arguments.address, secrets(arguments), arguments.timeout)
    if arguments.json:
        for numbers in [admin.once()] if arguments.once else admin.follow():
            print_json(numbers)
        return 0
    if importlib.util.find_spec("rich") is None:
        raise UsageError("`bertstream top` needs rich (pip install 'bertstream[cli]'), or --json")
    if arguments.once:
        _print(admin.once())
        return 0
    if not sys.stdout.isatty():
        raise UsageError("standard output is no terminal: say --once, or --json")
    _watch(admin)
    return 0


def _print(numbers: Numbers) -> None:
    from rich.console import Console

    from bertstream.cli._top.screen import picture

    console = Console(highlight=False)
    console.print(picture(numbers, console.width))


def _watch(admin: AdminPort) -> None:
    from rich.console import Console
    from rich.live import Live

    from bertstream.cli._top.screen import keys, picture

    bars = shows(figures.BARS)  # before rich stands in for standard output
    watched = Watched(admin)  # raises where there is nothing to watch, before the screen changes
    with keys() as quits, Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            if watched.is_new():
                shown = picture(watched.numbers, live.console.width, watched.history, watched.note, bars)
                live.update(shown, refresh=True)
            if quits(KEY_SECONDS):
                return


class Watched:
    """The newest numbers of a server, which a thread of its own reads, and goes on to ask for where it is gone."""

    def __init__(self, admin: AdminPort) -> None:
        """Ask for the first numbers. Raises the client's errors where there are none."""
        self.numbers = admin.once()
        self.history = deque([self._calls()], SECONDS_SHOWN)
        self.note = ""
        self._admin = admin
        self._came: SimpleQueue[Numbers | str] = SimpleQueue()
        self._is_first = True
        threading.Thread(target=self._read, name="bertstream-top", daemon=True).start()

    def is_new(self) -> bool:
        """Take what has come; return whether there is something to show."""
        is_new, self._is_first = self._is_first, False
        while True:
            try:
                came = self._came.get_nowait()
            except Empty:
                return is_new
            is_new = True
            self.note = came if isinstance(came, str) else ""
            if not isinstance(came, str):
                self.numbers = came
                self.history.append(self._calls())

    def _calls(self) -> float:
        calls = self.numbers.get("calls")
        return float(calls.get("per_second") or 0.0) if isinstance(calls, dict) else 0.0

    def _read(self) -> None:
        from bertstream.client import BertstreamError

        while True:
            try:
                for numbers in self._admin.follow():
                    self._came.put(numbers)
            except BertstreamError as error:
                self._came.put(f"{error} (as it was at {_clock(self.numbers)})")
            time.sleep(AGAIN_SECONDS)


def _clock(numbers: Numbers) -> str:
    moment = numbers.get("time")
    return time.strftime("%H:%M:%S", time.localtime(moment if isinstance(moment, int | float) else None))
