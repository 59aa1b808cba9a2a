"""Run a child for the supervisor's tests.

It writes what happens to it into DIRECTORY/events, a line each, and behaves as its settings say.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.process.child import ChildSpec
from bertstream.workers.process.control import (
    Answer,
    Failed,
    Heard,
    Ping,
    Pong,
    Progress,
    Question,
    Ready,
    Stop,
    begin,
)
from tests.support.imports import ROOT


@dataclass(frozen=True, slots=True)
class ScriptedSettings:
    """Hold the settings of such a child."""

    name: str
    life: int
    directory: str
    behaviour: tuple[str, ...]
    log_level: str = "info"


def spec(directory: Path, name: str, *behaviour: str, **options: Any) -> ChildSpec:
    """Return the spec that starts such a child."""

    def settings(life: int) -> ScriptedSettings:
        return ScriptedSettings(name, life, str(directory), behaviour)

    return ChildSpec(name, "tests.support.child", settings, {"PYTHONPATH": str(ROOT)}, **options)


def main(argv: list[str]) -> int:
    control_fd = int(argv[2])
    control, given = begin(argv, ScriptedSettings)
    name, life, directory, behaviour = given.name, given.life, given.directory, given.behaviour
    note(directory, name, f"started {life} {os.getpid()}")
    stopped = threading.Event()

    def answer(question: Question) -> Answer:
        match question.asked:
            case {"double": int(number)}:
                return Answer(question.id, 2 * number)
            case "die":
                os._exit(7)
            case _:
                return Answer(question.id, error="a child knows no such thing")

    def hear(message: Heard) -> None:
        match message:
            case Stop():
                note(directory, name, "stop")
                if "stubborn" not in behaviour:
                    stopped.set()
            case Ping():
                if f"silent{life}" not in behaviour:
                    control.send(Pong(1e9 if f"computing{life}" in behaviour else 0.0))
            case Question():
                control.send(answer(message))

    def orphaned() -> None:
        note(directory, name, "orphaned")
        os._exit(0)

    control.listen(hear, orphaned)
    if "chatters" in behaviour:
        logging.getLogger("child").info("a line of the log")
        os.write(1, b"on standard output\n\n")
        os.write(2, b"[W] by C++ \xff\n" + b"x" * 100_000 + b"\nlast words")
    if "fails" in behaviour:
        control.send(Failed(f"{name}: the model is broken" + "!" * 200_000))
        return 1
    if "garbage" in behaviour:
        os.write(control_fd, b"this is not JSON\n")
        return 3
    if "nonsense" in behaviour:
        os.write(control_fd, b"this is not JSON\n")
    if "dies" in behaviour:
        os.kill(os.getpid(), signal.SIGKILL)
    if "leaves" in behaviour:  # a grandchild that holds the line open
        os.set_inheritable(control_fd, True)
        subprocess.Popen(["sleep", "30"], close_fds=False)
    if "never" not in behaviour:
        control.send(Progress("loading"))
        note(directory, name, "ready")
        control.send(Ready([os.getpid(), life]))
    if "asks" in behaviour:
        asked = control.ask({"name of": "it"})
        note(directory, name, f"told {asked.exception(20) or asked.result(20)}")
    if f"short{life}" in behaviour:
        return 9
    stopped.wait()
    note(directory, name, "ended")
    return 0


def note(directory: str | Path, name: str, what: str) -> None:
    with (Path(directory) / "events").open("a") as file:
        file.write(f"{name} {what}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
