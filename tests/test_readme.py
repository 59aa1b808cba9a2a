"""All code in README.md and docs/ runs, against a server, and prints what they say it prints.

Where it asks models of the hub, tiny ones of random weights answer (tests/support/documented.py). So of these it shows
no more than what any model would print.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server import config
from bertstream.server.supervisor.sources import Source, chosen_models, parse_sources
from tests.clients.environments import NODE, OURS, installed
from tests.support.documented import NAMES
from tests.support.markdown import (
    DOCUMENTS,
    IN,
    KINDS,
    PYTHON_KINDS,
    ROOT,
    Block,
    Documented,
    assert_output,
    blocks,
    commands,
    expected_output,
    indented_blocks,
    run_python,
)
from tests.support.shell import run_command

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks_of(*kinds: str) -> list[Any]:
    found = [block for document in DOCUMENTS for block in blocks(document) if block.kind in kinds]
    return [pytest.param(block, id=block.place) for block in found]


def blocks_apart() -> list[Any]:
    """Return the blocks that are run in a process of their own, each with the one behind it."""
    pairs = [pair for document in DOCUMENTS for pair in pairwise([*blocks(document), None])]
    apart = [(block, following) for block, following in pairs if block and block.kind in PYTHON_KINDS[1:]]
    return [pytest.param(block, following, id=block.place) for block, following in apart]


@pytest.fixture
def namespace() -> Iterator[dict[str, Any]]:
    names: dict[str, Any] = {"__name__": "__main__"}
    yield names
    if "client" in names:
        names["client"].close()


@documents
def test_every_block_is_of_a_kind_that_is_checked(document: Path) -> None:
    assert [block.place for block in blocks(document) if block.kind not in KINDS] == []
    assert indented_blocks(document) == []


@documents
def test_every_text_is_the_output_of_the_block_before_it(document: Path) -> None:
    listed = [None, *blocks(document)]
    texts = [(before, block) for before, block in pairwise(listed) if block and block.kind == "text"]
    assert [text.place for before, text in texts if before is None or expected_output(before, text) is None] == []


@documents
def test_python_blocks_run_and_print_what_is_shown(
    document: Path, documented_server: Documented, namespace: dict[str, Any]
) -> None:
    listed: list[Block | None] = [*blocks(document), None]
    for block, following in pairwise(listed):
        if block is not None and block.kind == "python":
            printed = run_python(block, documented_server.told(block.text), namespace)
            assert_output(expected_output(block, following) or "", printed, block.place)


@pytest.mark.parametrize(("block", "following"), blocks_apart())
def test_python_blocks_apart_run_and_print_what_is_shown(
    block: Block, following: Block | None, documented_server: Documented
) -> None:
    theirs = block.kind.startswith(IN)
    python = installed(block.kind.removeprefix(IN)) / "python" if theirs else sys.executable
    environment = {**os.environ, **(OURS if theirs else {})}
    command = [python, "-c", documented_server.told(block.text)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    assert_output(expected_output(block, following) or "", documented_server.untold(done.stdout), block.place)


@pytest.mark.parametrize("block", blocks_of("console"))
def test_commands_run_and_print_what_is_shown(block: Block, documented_server: Documented, tmp_path: Path) -> None:
    for command, output in commands(block):
        printed = run_command(command, documented_server, tmp_path)
        if output is not None:
            assert_output(output, printed, block.place)


@pytest.mark.parametrize("block", blocks_of("js"))
def test_node_blocks_run(block: Block, documented_server: Documented) -> None:
    """They run if Node finds gRPC's packages: where `make test-clients` puts them, or by NODE_PATH."""
    packages = 'require("@grpc/grpc-js"); require("@grpc/proto-loader")'
    if shutil.which("node") is None or run_node(packages).returncode:
        pytest.skip("no Node, or none of gRPC's packages for it")
    done = run_node(documented_server.told(block.text))
    assert (done.returncode, done.stderr) == (0, "")
    assert "[ 1000, 1001 ]" in done.stdout


def run_node(script: str) -> subprocess.CompletedProcess[str]:
    command = ["node", "--eval", script]
    found = os.pathsep.join(filter(None, [str(NODE / "node_modules"), os.environ.get("NODE_PATH")]))
    variables = {**os.environ, "NODE_PATH": found}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_the_readme_serves_all_models_that_the_documents_ask() -> None:
    listed = [
        command for block in blocks(ROOT / "README.md") if block.kind == "console" for command, _ in commands(block)
    ]
    served = [source.name for command in listed for source in served_by(command)]
    assert set(NAMES) <= set(served)


def served_by(command: str) -> tuple[Source, ...]:
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    if words[:2] != ["bertstream", "serve"]:
        return ()
    parser = ArgumentParser()
    config.add_arguments(parser)
    return parse_sources(config.load(parser.parse_args(words[2:]), {}).models)


@pytest.mark.parametrize("block", blocks_of("toml"))
def test_configurations_are_valid(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "bertstream.toml"
    path.write_text(block.text)
    arguments = SimpleNamespace(config=str(path))
    chosen_models(config.load(arguments, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a …", "a 1.5 ms", True),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\n…", "a", True),
        ("", "", True),
        ("", "surprise", False),
        ("a.b", "axb", False),
        ("a", "a\nb", False),
    ],
)
def test_output_is_compared(shown: str, printed: str, same: bool) -> None:
    if same:
        assert_output(shown, printed, "here")
        return
    with pytest.raises(AssertionError):
        assert_output(shown, printed, "here")


@pytest.mark.parametrize(
    "command",
    [
        "make nonsense",
        "pip install bertstream[nonsense]",
        "curl http://example.org",
        "bertstream serve --port x",
        "bertstream load mine /absolute",
        "bertstream unload",
        "helm install mine deploy/helm/bertstream --namespace mine --set model=bert-base-uncased",
    ],
)
def test_commands_that_cannot_be_are_found(command: str, documented_server: Documented, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_command(command, documented_server, tmp_path)
