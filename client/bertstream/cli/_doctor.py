"""The command `bertstream doctor`: whether this machine has what clients and servers need, and what to do if not."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from bertstream.cli._options import Commands, client, command
from bertstream.cli._output import coloured, print_json
from bertstream.cli._server import FIRST_PYTHON_WITHOUT_TORCHSCRIPT, PYTHON, REQUIRED, WHAT_TO_DO, missing_modules
from bertstream.cli._table import pad

EXAMPLES = """\
examples:
  bertstream doctor                                 exit code 0 if nothing is wrong, 1 if something is
  bertstream doctor --address gpu-7:50051           ask that server, too
  bertstream doctor --json

ok: nothing to do; note: it works, and could be better, or is not there; problem: it does not work."""

State = Literal["ok", "note", "problem"]
COLOURS = {"ok": 32, "note": 33, "problem": 31}
ASK_SECONDS, PROBE_SECONDS = 5.0, 1.0
LEAST_FREE_BYTES = 2 << 30
DEFAULT_PORT = 50051


class Finding(NamedTuple):
    """What was looked at, how it is, and what to do about it."""

    name: str
    state: State
    what: str
    advice: str = ""


def add_to(commands: Commands) -> None:
    """Add the command."""
    command(commands, "doctor", run, "check this machine and its server, and say what to do", EXAMPLES)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found. Returns 1 if something does not work."""
    found = []
    for finding in findings(arguments):
        found.append(finding)
        if not arguments.json:
            print(line(finding), flush=True)
    if arguments.json:
        print_json([finding._asdict() for finding in found], indent=2)
    return 1 if any(finding.state == "problem" for finding in found) else 0


def line(finding: Finding) -> str:
    """Return a finding as a line."""
    state = coloured(pad(finding.state, len("problem")), COLOURS[finding.state])
    advice = f": {finding.advice}" if finding.advice else ""
    return f"{state}  {pad(finding.name, 9)}  {finding.what}{advice}"


def findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield what is found, one after another, since some of it takes seconds."""
    yield Finding("client", "ok", versions(("bertstream", "grpcio", "protobuf", "numpy")))
    yield (asked := asked_server(arguments))
    yield (installed := server_finding(missing_modules(), PYTHON))
    if installed.state != "ok":
        return
    yield from _operators()
    yield cache_finding(_cache())
    yield port_finding(int(os.environ.get("BERTSTREAM_PORT") or DEFAULT_PORT), served=asked.state == "ok")
    yield _gpu()


def versions(packages: Sequence[str]) -> str:
    """Return the versions of Python and of packages, of those that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = [f"Python {sys.version.split()[0]}"]
    for package in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def asked_server(arguments: argparse.Namespace) -> Finding:
    """Return whether a server answers at the address."""
    from bertstream.client import BertstreamError, Health, Unavailable

    address, seconds = arguments.address, arguments.timeout or ASK_SECONDS
    try:
        with client(arguments) as connection:
            if (health := connection.health(timeout=seconds)) is not Health.SERVING:
                advice = "it starts or stops; its log says why"
                return Finding("server", "problem", f"the server at {address} is {health.name}", advice)
            return Finding("server", "ok", f"{connection.server_version(timeout=seconds)} serves at {address}")
    except Unavailable as error:
        if error.reason:
            return Finding("server", "problem", f"the server at {address} is not ready: {error}", "try again later")
        return no_server(address, listens(address))
    except (BertstreamError, ValueError) as error:
        return Finding("server", "problem", f"{address}: {' '.join(str(error).split())}")


def no_server(address: str, something: bool) -> Finding:
    """Return what an address without an answer means, by whether something listens there."""
    if something:
        advice = "say --address with its gRPC port, or --tls if it wants TLS"
        return Finding("server", "problem", f"what listens at {address} does not answer as a server does", advice)
    return Finding("server", "note", f"no server at {address}", "start one with `bertstream serve`, or say --address")


def listens(address: str) -> bool:
    """Return whether something takes connections at an address of the form HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def server_finding(missing: Sequence[str], python: tuple[int, int]) -> Finding:
    """Return whether models can be served here, by the modules that are missing."""
    if python >= FIRST_PYTHON_WITHOUT_TORCHSCRIPT:
        what = f"models cannot be served with Python {python[0]}.{python[1]}, which TorchScript does not support"
        return Finding("serving", "note", what, WHAT_TO_DO)
    install = "pip install 'bertstream[server]'"
    if len(missing) == len(REQUIRED):
        return Finding("serving", "note", "the server is not installed", f"to serve models here, {install}")
    if missing:
        return Finding("serving", "problem", f"the server lacks {', '.join(missing)}", install)
    return Finding("serving", "ok", versions(("torch", "transformers", "tokenizers", "safetensors")).split(", ", 1)[1])


def operators_finding(usable: bool, why: str, level: str) -> Finding:
    """Return whether the operators in C++ are in use."""
    if usable:
        return Finding("operators", "ok", f"in C++, for {level}, {why}")
    what = f"none in C++, so that torch computes, which is slower: {why}"
    if "compiler" in why:
        return Finding("operators", "note", what, "install one (apt install g++), or a wheel that has them")
    if "switched off" in why:
        return Finding("operators", "note", what, "unset the variable")
    return Finding("operators", "note", what)


def cache_finding(cache: Path) -> Finding:
    """Return whether compiled models can be kept, and how much room there is."""
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        advice = "say another with --cache or BERTSTREAM_CACHE, or change who may write there"
        return Finding("cache", "problem", f"{cache} cannot be written to", advice)
    free = shutil.disk_usage(there).free
    what = f"{cache}, {free / (1 << 30):,.0f} GiB free"
    if free < LEAST_FREE_BYTES:
        return Finding("cache", "problem", what, "a compiled model takes as much as its checkpoint; make room")
    return Finding("cache", "ok", what)


def port_finding(port: int, served: bool) -> Finding:
    """Return whether a server could listen; `served` says that one answered."""
    if served and listens(f"127.0.0.1:{port}"):
        return Finding("port", "ok", f"{port} is in use; a second server here needs another --port")
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding("port", "problem", f"{port}: {error.strerror}", "serve with another --port")
    return Finding("port", "ok", f"{port} is free")


def gpu_finding(names: Sequence[str], device: str, torch: str) -> Finding:
    """Return which GPUs torch uses; `device` is the file of an NVIDIA GPU of this machine, if there is one."""
    if names:
        return Finding("gpu", "ok", ", ".join(names))
    if not device:
        return Finding("gpu", "ok", "none, so that models run on the CPU")
    what = f"this machine has {device}, and torch {torch} finds no GPU"
    return Finding("gpu", "problem", what, "install a torch for CUDA, and a driver that is new enough; see nvidia-smi")


def _operators() -> Iterator[Finding]:
    from bertstream.workers import native
    from bertstream.workers.native import processor

    try:
        yield Finding("compiler", "ok", native.compiler())
    except native.NativeError as error:
        yield Finding("compiler", "note", str(error), "apt install g++, unless the operators are part of the package")
    usable, why = native.status()
    yield operators_finding(usable, why, processor.level() if usable else "")


def _cache() -> Path:
    from bertstream.workers.compile.revisions import default_cache

    return default_cache()


def _gpu() -> Finding:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    device = next((str(path) for path in (Path("/dev/nvidia0"), Path("/dev/dxg")) if path.exists()), "")
    return gpu_finding(names, device, torch.__version__)
