"""Starts that cannot succeed end by themselves, with one line that says why, and leave nothing unfinished behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.description import ModelDescription
from tests.support.checkpoints import edit_json, sentence_files
from tests.support.programs import plant_faults
from tests.support.sentence import add_module

Checkpoint = Callable[[str], Path]
NewCache = Callable[[Path], Path]


# Sets a limit and becomes the server. A `preexec_fn` would fork this process, which is unsafe beside gRPC's threads.
LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def failed_start(checkpoint: Path, cache: Path, file_bytes: int = resource.RLIM_INFINITY) -> str:
    """Return the output of a server that ends with status 1; it can write no file larger than `file_bytes`."""
    serve = ("-m", "bertstream.cli", "serve", f"tiny={checkpoint}", "--port", "0", "--workers", "1")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(file_bytes), *serve],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "BERTSTREAM_CACHE": str(cache)},
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    records = [json.loads(line) for line in done.stderr.splitlines()]
    last = records.pop()
    assert (last["level"], last["process"], "traceback" in last) == ("error", "supervisor", False)
    assert not [each for each in records if each["process"] == "supervisor" and each["level"] == "error"]
    return str(last["message"])


@pytest.fixture(scope="module")
def cache(new_cache: NewCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_cache(tmp_path_factory.mktemp("failed") / "cache")


def test_a_worker_whose_first_batch_fails(checkpoint: Checkpoint, cache: Path) -> None:
    compiled = compile_model(checkpoint("bert"), cache=cache)
    plant_faults(compiled, hangs_on=91, fails_on=0)  # the token that workers warm up with
    told = failed_start(checkpoint("bert"), cache)
    assert told.startswith("worker-0-0: ")
    assert told.endswith("DefaultCPUAllocator: can't allocate memory")


def test_a_cache_where_others_may_write(checkpoint: Checkpoint, new_cache: NewCache, tmp_path: Path) -> None:
    cache = new_cache(tmp_path / "cache")
    (cache / "models").mkdir()
    (cache / "models").chmod(0o777)
    assert failed_start(checkpoint("bert"), cache) == (
        f"the cache (--cache): {cache / 'models'} may be written to by others (mode 0777), so nothing in it can be "
        f'trusted: run "chmod go-w {cache / "models"}", or choose another folder'
    )
    assert list((cache / "models").iterdir()) == []


def test_sockets_where_others_may_write(checkpoint: Checkpoint, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    command = [sys.executable, "-m", "bertstream.cli", "serve", f"tiny={checkpoint('bert')}", "--port", "0"]
    environment = {**os.environ, "BERTSTREAM_CACHE": str(cache), "TMPDIR": str(tmp_path / "open")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    told = f"the folder for sockets (TMPDIR): {tmp_path / 'open'} may be written to by others (mode 0777)"
    assert json.loads(line)["message"].startswith(told)
    assert list((tmp_path / "open").iterdir()) == []


def test_a_pointer_in_place_of_the_weights(checkpoint: Checkpoint, cache: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "cloned"))
    weights = directory / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    told = failed_start(directory, cache)
    found = f'{weights} is a Git LFS pointer, not the weights: run "git lfs pull" in {directory}'
    assert told == found


def test_modules_that_cannot_be_run(checkpoint: Checkpoint, cache: Path, tmp_path: Path) -> None:
    directory = sentence_files(Path(shutil.copytree(checkpoint("bert"), tmp_path / "odd")))
    told = failed_start(add_module(directory, "WeightedLayerPooling", "3_W"), cache)
    assert told == (
        f"{directory} cannot be served as its authors meant: module WeightedLayerPooling (3_W) is "
        "not supported; to serve it without, say --allow-unsupported-modules"
    )
    command = [sys.executable, "-m", "bertstream.cli", "compile", str(directory), "--cache", str(cache)]
    compiled = subprocess.run([*command, "--allow-unsupported-modules"], capture_output=True, text=True, timeout=240)
    assert compiled.stdout.startswith("odd\t")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert json.loads(refused.stderr.splitlines()[-1])["message"] == told


def test_a_task_on_the_command_line(checkpoint: Checkpoint, cache: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(checkpoint("bert-classifier"), tmp_path / "silent"))
    edit_json(directory / "config.json", architectures=None)
    command = [sys.executable, "-m", "bertstream.cli", "compile", f"a={directory}", "--cache", str(cache)]
    for options, heads in (([], ()), (["--task", "a=sequence_classification"], ("sequence_classification",))):
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, check=True)
        assert ModelDescription.load(Path(done.stdout.split("\t")[1].strip())).heads == heads


@pytest.mark.parametrize("file_bytes", [1_000, 60_000, 150_000])  # enough for no file, or for some files
def test_no_room_for_what_is_compiled(
    checkpoint: Checkpoint, new_cache: NewCache, tmp_path: Path, file_bytes: int
) -> None:
    cache = new_cache(tmp_path / "cache")
    told = failed_start(checkpoint("bert"), cache, file_bytes)
    advice = "make room there, or choose another folder by --cache"
    assert told == f"cannot write to {cache}: File too large; {advice}"
    assert list((cache / "models").iterdir()) == []
