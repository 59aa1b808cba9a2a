"""Run a document's console commands with bash, in an empty folder, with a PATH of little but stand-ins.

What a command would do to the machine is not done, but checked as far as that goes without doing it: that a make target
is there, that an extra of the package is, that a server would take these options, that a model could have this name,
that a request fits its rpc. A command that has no stand-in here and is not one of COREUTILS does not exist, so a
document cannot use it unnoticed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc
import yaml

from bertstream.server import config
from bertstream.server.supervisor.sources import chosen_models
from tests.support.grpcurl import call, grpcurl
from tests.support.markdown import ROOT, Documented
from tests.support.web import ask

COREUTILS = ("bash", "cat", "head", "printf", "sort", "wc")


def run_command(command: str, served: Documented, folder: Path) -> str:
    """Return what the command prints on standard output. Raises where its exit code is not 0."""
    tools = folder / ".tools"
    if not tools.exists():
        _make_tools(tools)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BERTSTREAM_")}
    done = subprocess.run(
        [tools / "bash", "-euo", "pipefail", "-c", served.told(command)],
        cwd=folder,
        env={**variables, "PATH": str(tools), "BERTSTREAM_ADDRESS": served.address},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{command}\nends with exit code {done.returncode}: {done.stderr}"
    return served.untold(done.stdout)


def _make_tools(tools: Path) -> None:
    tools.mkdir(parents=True)
    (tools.parent / "examples").symlink_to(ROOT / "examples")
    for name in COREUTILS:
        (tools / name).symlink_to(shutil.which(name) or name)
    _script(tools / "python", "")
    for name in STAND_INS:
        _script(tools / name, f"-m {__name__} {name}")


def _script(path: Path, arguments: str) -> None:
    """Write a script that runs this interpreter: by a link, it would not find its virtual environment."""
    search = shlex.quote(os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    path.write_text(f'#!/bin/sh\nPYTHONPATH={search} exec {shlex.quote(sys.executable)} {arguments} "$@"\n')
    path.chmod(0o755)


def make(arguments: list[str]) -> int:
    """Check that each argument is a target that a user may call, or a variable."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    unknown = [each for each in arguments if "=" not in each and each not in targets]
    return _fail(f"no such target: {unknown}") if unknown else 0


def pip(arguments: list[str]) -> int:
    """Check `install bertstream`, with extras that exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = re.fullmatch(r"(\w+)(?:\[([\w,]+)\])?", arguments[-1])
    if arguments[:-1] != ["install"] or found is None or found[1] != project["name"]:
        return _fail(f"not an install of {project['name']}: {arguments}")
    unknown = set((found[2] or "").split(",")) - {"", *project["optional-dependencies"]}
    return _fail(f"no such extra: {unknown}") if unknown else 0


def bertstream(arguments: list[str]) -> int:
    """Run the real command, but only check `serve`, `compile`, `load` and `unload`."""
    if arguments[:1] in (["serve"], ["compile"]) and "--help" not in arguments:
        parser = argparse.ArgumentParser("bertstream")
        config.add_arguments(parser)
        chosen_models(config.load(parser.parse_args(arguments[1:])))
        return 0
    if arguments[:1] in (["load"], ["unload"]):
        return _check_loading(arguments)
    from bertstream.cli import main

    return main(arguments)


def _check_loading(arguments: list[str]) -> int:
    """Check that the command line is valid, and that a server would look for such a checkpoint."""
    from bertstream.cli._main import build_parser
    from bertstream.server.protocols.bertstream_v1.validation.loading import parse_load
    from bertstream.v1 import models_pb2

    given = build_parser().parse_args(arguments)
    source = given.source if arguments[0] == "load" else given.name
    parse_load(models_pb2.LoadModelRequest(name=given.name, source=source), max_workers=1)
    return 0


def curl(arguments: list[str]) -> int:
    """Run `-N URL -H HEADER -d JSON`, as it is at the port of HTTP, and as a unary call at an admin port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-N", action="store_true")  # not to wait for more output before it is printed
    parser.add_argument("-d", default="")
    parser.add_argument("-H", action="append", default=[])
    given = parser.parse_args(arguments)
    if ":9464" not in given.url:
        return _request(given.url, given.d, given.H)
    found = re.fullmatch(r"http://127\.0\.0\.1:9464/api/rpc/([\w.]+/\w+)", given.url)
    if found is None:
        return _fail(f"not a call at the admin port: {given.url}")
    with grpc.insecure_channel(os.environ["BERTSTREAM_ADDRESS"]) as channel:
        call(channel, found[1], given.d)
    return 0


def _request(url: str, body: str, headers: Sequence[str]) -> int:
    """Send a request that curl would send, and print the answer, JSON or events, whatever its status."""
    parted = (header.partition(":") for header in headers)
    answer = ask(url, body.encode() or None, {name.strip(): value.strip() for name, _, value in parted})
    streamed = answer.headers["content-type"] == "text/event-stream"
    sys.stdout.write(answer.text if streamed else json.dumps(answer.json) + "\n")
    return 0


def docker(arguments: list[str]) -> int:
    """Check that `build` has a Dockerfile and its target, and that the server in `run` would take its options."""
    parser = argparse.ArgumentParser("docker")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build")
    build.add_argument("-f", default="")
    build.add_argument("-t", required=True)
    build.add_argument("--target", default="cpu")
    build.add_argument("context")
    run = commands.add_parser("run")
    for flag in ("-p", "-v"):
        run.add_argument(flag, action="append")
    run.add_argument("--rm", action="store_true")
    run.add_argument("-e", action="append", default=[])
    run.add_argument("image")
    run.add_argument("serve", nargs="*", default=["serve"])
    given = parser.parse_args(arguments)
    if given.command == "build":
        text = (ROOT / given.f if given.f else Path("Dockerfile")).read_text("utf-8")
        is_there = f" AS {given.target}\n" in text if given.f else text.startswith("FROM bertstream:cpu\n")
        return 0 if is_there else _fail(f"not a Dockerfile with {given.target}: {text}")
    options = argparse.ArgumentParser("bertstream")
    config.add_arguments(options)
    variables = dict(each.split("=", 1) for each in given.e)
    unknown = {name.removeprefix("BERTSTREAM_").lower() for name in variables} - set(config.FIELDS)
    chosen_models(config.load(options.parse_args(given.serve[1:]), variables))
    return _fail(f"no such options: {unknown}") if unknown or given.serve[0] != "serve" else 0


def helm(arguments: list[str]) -> int:
    """Check that `install` has a chart that is there, and values that its schema takes."""
    import jsonschema

    parser = argparse.ArgumentParser("helm")
    parser.add_argument("command", choices=["install"])
    parser.add_argument("release")
    parser.add_argument("chart", type=Path)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--create-namespace", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args(arguments)
    values = yaml.safe_load((ROOT / given.chart / "values.yaml").read_text("utf-8"))
    for path, value in (each.split("=", 1) for each in given.set):
        *above, name = path.split(".")
        holder = functools.reduce(lambda place, key: place.setdefault(key, {}), above, values)
        holder[name] = value[1:-1].split(",") if value.startswith("{") else yaml.safe_load(value)
    jsonschema.validate(values, json.loads((ROOT / given.chart / "values.schema.json").read_text("utf-8")))
    return 0


def serve(arguments: list[str]) -> int:
    """Check that Ray Serve's `serve deploy` is given a file with applications."""
    command, path = arguments
    applications = yaml.safe_load(Path(path).read_text("utf-8"))["applications"]
    return 0 if command == "deploy" and applications else _fail(f"no applications in {path}")


def install(arguments: list[str]) -> int:
    """Check that a file of the repository that is to be installed is there."""
    mode, source, _ = arguments
    is_ours = source.startswith("deploy/")
    return 0 if mode == "-Dm644" and (not is_ours or (ROOT / source).is_file()) else _fail(f"not there: {source}")


def systemctl(arguments: list[str]) -> int:
    """Check that the unit is one of ours."""
    units = [each for each in arguments[1:] if not each.startswith("-")]
    unknown = [each for each in units if not (ROOT / f"deploy/systemd/{each}.service").is_file()]
    return _fail(f"no such unit: {unknown}") if unknown or arguments[0] not in ("enable", "reload", "stop") else 0


def _fail(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 1


STAND_INS: Mapping[str, Callable[[list[str]], int]] = {
    "make": make,
    "pip": pip,
    "bertstream": bertstream,
    "grpcurl": grpcurl,
    "curl": curl,
    "docker": docker,
    "helm": helm,
    "install": install,
    "serve": serve,
    "systemctl": systemctl,
    "systemd-sysusers": lambda arguments: _fail("it takes no arguments") if arguments else 0,
}

if __name__ == "__main__":
    sys.exit(STAND_INS[sys.argv[1]](sys.argv[2:]))
