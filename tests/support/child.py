"""A child for the supervisor's tests: `python -m tests.support.child NAME LIFE DIRECTORY CONTROL_FD BEHAVIOUR…`.

It writes what happens to it into DIRECTORY/events, a line each, and behaves as told: see the words below.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from bertstream.workers.process import logs
from bertstream.workers.process.control import ControlLine, Event


def main(name: str, life: str, directory: str, control_fd: str, *behaviour: str) -> int:
    note(directory, name, f"started {life} {os.getpid()}")
    control, stopped = ControlLine(int(control_fd)), threading.Event()
    pinged = 0

    def answer(event: Event) -> None:
        nonlocal pinged
        if event["event"] == "stop":
            note(directory, name, "stop")
            if "stubborn" not in behaviour:
                stopped.set()
        elif event["event"] == "ping":
            pinged += 1
            if f"silent{life}" not in behaviour:
                control.send("pong", computing_seconds=1e9 if f"computing{life}" in behaviour else 0.0)
        elif event["event"] == "double":
            control.send("answer", id=event["id"], number=2 * event["number"])
        elif event["event"] == "die":
            os._exit(7)

    def orphaned() -> None:
        note(directory, name, "orphaned")
        os._exit(0)

    control.listen(answer, orphaned)
    if "chatters" in behaviour:
        logs.setup(name)
        logging.getLogger("child").info("a line of the log")
        os.write(1, b"on standard output\n\n")
        os.write(2, b"[W] by C++ \xff\n" + b"x" * 100_000 + b"\nlast words")
    if "fails" in behaviour:
        control.send("failed", message=f"{name}: the model is broken" + "!" * 200_000)
        return 1
    if "garbage" in behaviour:
        os.write(int(control_fd), b"this is not JSON\n")
        return 3
    if "dies" in behaviour:
        os.kill(os.getpid(), signal.SIGKILL)
    if "leaves" in behaviour:  # a grandchild that holds the line open
        os.set_inheritable(int(control_fd), True)
        subprocess.Popen(["sleep", "30"], close_fds=False)
    if "never" not in behaviour:
        control.send("progress", step="loading")
        note(directory, name, "ready")
        control.send("ready", pid=os.getpid(), life=int(life))
    if "asks" in behaviour:
        note(directory, name, f"told {control.ask('name', of='it').result(20)}")
    if f"short{life}" in behaviour:
        return 9
    stopped.wait()
    note(directory, name, "ended")
    return 0


def note(directory: str, name: str, what: str) -> None:
    with (Path(directory) / "events").open("a") as file:
        file.write(f"{name} {what}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
