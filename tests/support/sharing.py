"""Run the suite on several processes of pytest-xdist, and share between them what is made once.

`make test` asks for as many as make sense here; pytest alone runs all in one process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from bertstream.server.supervisor.quota import usable_cores

# This must be set before torch is loaded: threads that wait for each other then give their core away. By default OpenMP
# has them spin, which makes tests take ten times as long where other processes have work for that core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

MOST_PROCESSES = 4  # with more, all would wait for the one that runs the tests of the shared servers
PROCESS_BYTES = 5 << 30  # for the tests, and for the servers that they start
# The files with tests that use the shared servers of tests/conftest.py.
SERVERS = (
    "tests/adapters/test_sentence_transformers.py",
    "tests/clients/",
    "tests/e2e/page/",
    "tests/e2e/test_bad_input.py",
    "tests/e2e/test_bulk.py",
    "tests/e2e/test_files.py",
    "tests/e2e/test_inference.py",
    "tests/e2e/test_inference_clients.py",
    "tests/e2e/test_layers.py",
    "tests/e2e/test_lifecycle.py",
    "tests/e2e/test_load_reports.py",
    "tests/e2e/test_long_texts.py",
    "tests/e2e/test_numbers.py",
    "tests/e2e/test_reflection.py",
    "tests/e2e/test_tei_client.py",
    "tests/test_examples.py",
    "tests/test_readme.py",
)
# Those that ask the server of tests/e2e/conftest.py.
OTHER_APIS = (
    "tests/e2e/test_http.py",
    "tests/e2e/test_http_own.py",
    "tests/e2e/test_http_tasks.py",
    "tests/e2e/test_tei.py",
    "tests/e2e/test_vectors_of_others.py",
)
# The fixtures that start a server for many tests, which the first of these waits for, and how long it may.
STARTED, STARTING_SECONDS = ("server", "documented_server", "other_apis"), 900
GROUPS = {"servers": SERVERS, "other apis": OTHER_APIS}
# What takes long begins first, so that no process is left with it when all others are done.
LONG = (
    "servers",  # whose first test has the operators built; the other process does without them meanwhile
    "tests/workers/compile/checkpoints/test_hostile.py",
    "tests/e2e/test_rolling.py",
    "tests/e2e/test_loading.py",
    "tests/e2e/test_frontends.py",
    "tests/e2e/test_chaos.py",
    "tests/e2e/test_faults.py",
    "tests/e2e/test_generation_faults.py",
    "tests/workers/programs/test_full_size.py",
    "tests/workers/native/test_instruction_sets.py",
    "tests/test_wheel.py",
    "tests/e2e/test_keys.py",
    "tests/e2e/test_draining.py",
    "tests/e2e/test_failed_starts.py",
    "tests/workers/programs/test_decoder_across.py",
    "tests/e2e/test_tasks.py",
    "tests/e2e/test_generation.py",
)


def group_of(nodeid: str) -> str:
    """Return the name of the tests that one process runs in order: those of a file, or of servers that are shared.

    The tests of a file share fixtures. What starts a server of its own may do so in any process.
    """
    path = nodeid.partition("::")[0]
    return next((name for name, paths in GROUPS.items() if path.startswith(paths)), path)


def check_shares_servers() -> None:
    """Fail where the test that runs would start the shared servers in one process more."""
    nodeid = os.environ["PYTEST_CURRENT_TEST"]
    assert group_of(nodeid) == "servers", f"{nodeid.partition('::')[0]} is missing from SERVERS in {__file__}"


def long_ones_first(items: list[pytest.Item]) -> None:
    """Sort tests by their groups, which are dealt out in this order."""
    places = {group: place for place, group in enumerate(LONG)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(LONG)))


def give_time_to_start(items: Sequence[pytest.Item]) -> None:
    """Give the first test of each shared server the time that it takes to compile all models on a busy machine.

    A test's limit covers what is set up for it, so the first one would be told to hang. What is skipped starts none.
    """
    waiting = {*STARTED}
    for item in items:
        if any(mark.args and mark.args[0] for mark in item.iter_markers("skipif")):
            continue
        if first := waiting & {*getattr(item, "fixturenames", ())}:
            waiting -= first
            item.add_marker(pytest.mark.timeout(STARTING_SECONDS))


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out one group after the other, in their order, to any process that has nothing left to do."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    made = LoadScopeScheduling(config, log)
    made._split_scope = group_of
    return made


def processes() -> int:
    """Return how many processes are worth it here."""
    return max(1, min(MOST_PROCESSES, cores(), psutil.virtual_memory().total // PROCESS_BYTES))


def cores() -> int:
    return usable_cores(len(os.sched_getaffinity(0)))


def share_cores(processes: int) -> None:
    """Have torch, in each of the processes that begin after this, use only its part of the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))


def folder(base: Path) -> Path:
    """Return the folder that all processes share, given the one that pytest gives to each."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process to ask makes, while the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent / f"{path.name}.lock"):
        if not path.exists():
            partial = path.parent / f"{path.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(path)
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
