"""A bertstream server in processes of its own."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.driver import Failed, Patience

STOP_SECONDS = 60.0
_READY = re.compile(r"ready on (\S+)")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")  # the server decides on its own


class Server:
    """Running from when it is made until it is closed."""

    def __init__(self, directory: Path, flags: Sequence[str], cache: Path, patience: Patience) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        command = [sys.executable, "-m", "bertstream.cli", "serve", f"bench={directory}", "--port", "0", *flags]
        own = {name: value for name, value in os.environ.items() if name not in _THREADS}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**own, "BERTSTREAM_CACHE": str(cache)},
        )
        assert self.process.stdout is not None
        said, _, _ = select.select([self.process.stdout], [], [], patience.start)  # it says one line, when it is ready
        found = _READY.search(self.process.stdout.readline().decode()) if said else None
        if found is None:
            self.close()
            why = self.last_line if said else f"it was not ready within {patience.start:.0f} s"
            raise Failed(f"the server did not start: {why}")
        self.address = found[1]

    def close(self) -> None:
        """Stop it, and keep its last words."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self.last_line = json.loads(lines[-1])["message"] if lines else "it said nothing"
        self._log.close()
