"""Callers in processes of their own, each with a thread for every kind of call, that ask until they are told to stop.

Nothing is hidden by retries of gRPC: a caller asks again itself, and notes what happened before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bertstream.client import BertstreamError, Client, RpcError
from tests.chaos import calls
from tests.chaos.counting import LOST, PASSING, RIGHT, WRONG, Record

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0  # after which a call that is not answered is lost
PAUSE_SECONDS = 0.1  # between calls, and before another attempt: the fault is to be seen, not an overload
END_SECONDS = PATIENCE_SECONDS + 30


class Load:
    """Processes of callers, and what they have noted so far."""

    def __init__(self, address: str, expected: Path, processes: int) -> None:
        self.records: list[Record] = []
        command = [sys.executable, "-m", "tests.chaos.load", address, str(expected)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for _ in range(processes)
        ]
        self._readers = [threading.Thread(target=self._read, args=(each,), daemon=True) for each in self._processes]
        for reader in self._readers:
            reader.start()

    def stop(self) -> list[str]:
        """Let each caller end the call that it is at. Return what is wrong with processes that did not end so."""
        wrong = []
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process, reader in zip(self._processes, self._readers, strict=True):
            try:
                if status := process.wait(END_SECONDS):
                    wrong.append(f"a process of callers ended with status {status}")
            except subprocess.TimeoutExpired:
                process.kill()
                wrong.append(f"a process of callers did not end within {END_SECONDS:g} s")
            reader.join(10)
        return wrong

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                told = json.loads(line)
                self.records.append(Record(**{**told, "failed": tuple(map(tuple, told["failed"]))}))


@contextlib.contextmanager
def loaded(address: str, expected: Path, processes: int) -> Iterator[Load]:
    """Have callers ask while this is open."""
    load = Load(address, expected, processes)
    try:
        yield load
    finally:
        load.stop()


def ask(client: Client, kind: calls.Kind, variant: int, expected: calls.Answer) -> Record:
    """Ask until there is an answer, or none can be hoped for."""
    began, failed = time.monotonic(), list[tuple[float, str]]()
    while True:
        try:
            found = kind.ask(client, variant)
        except RpcError as error:
            now = time.monotonic()
            if error.status not in PASSING or now - began > PATIENCE_SECONDS:
                return Record(kind.name, began, now, LOST, tuple(failed), f"{error.status} {error.reason} {error}")
            failed.append((now, error.status))
            time.sleep(PAUSE_SECONDS)
        except (BertstreamError, AssertionError, ValueError) as error:
            return Record(kind.name, began, time.monotonic(), LOST, tuple(failed), repr(error))
        else:
            same = calls.right(found, expected)
            why = "" if same else f"another answer to variant {variant}"
            return Record(kind.name, began, time.monotonic(), RIGHT if same else WRONG, tuple(failed), why)


def main(address: str, expected: str) -> None:
    """Ask until standard input ends; write a record of each call as a line."""
    answers, stopped, lock = calls.load(Path(expected)), threading.Event(), threading.Lock()
    # A stream may wait as long as a call may.
    with Client(address, retries=0, reconnect_seconds=PATIENCE_SECONDS, channels=4) as client:

        def run(kind: calls.Kind) -> None:
            number = 0
            while not stopped.is_set():
                variant = number % calls.VARIANTS
                record = ask(client, kind, variant, answers[kind.name][variant])
                with lock:
                    print(json.dumps(asdict(record)), flush=True)
                number += 1
                stopped.wait(PAUSE_SECONDS)

        threads = [threading.Thread(target=run, args=(kind,)) for kind in calls.KINDS]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stopped.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
