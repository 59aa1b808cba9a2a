"""Run a supervisor over tests.support.child: `python -m tests.support.supervised '{"stages": …}'`."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from bertstream.workers.process import supervisor
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor
from tests.support.child import note, spec


def main(text: str) -> int:
    given = json.loads(text)
    directory = given["directory"]
    supervisor.PING_SECONDS = 0.05
    options = given.get("options", {})
    stages = [
        [Group([spec(directory, name, *behaviour, **options) for name, behaviour in stage.items()])]
        for stage in given["stages"]
    ]
    note(directory, "supervisor", f"started 0 {os.getpid()}")
    running = Supervisor(stages, given.get("drain_seconds", 30.0), lambda: note(directory, "supervisor", "ready"))
    try:
        asyncio.run(running.run())
    except ChildFailed as error:
        note(directory, "supervisor", f"failed {str(error)[:60]}")
        return 1
    note(directory, "supervisor", "ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
