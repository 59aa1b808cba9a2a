"""grpcurl itself runs the documents' commands, which elsewhere in the tests a stand-in runs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.clients.conftest import Secured
from tests.clients.environments import installed, needs, output
from tests.support.markdown import ADDRESS, DOCUMENTS, blocks, commands

pytestmark = needs("grpcurl")
ELSEWHERE = "models.example.org:50051"  # where the documents' server with TLS and keys is
COMMANDS = [
    pytest.param(command, id=f"{block.place}:{number}")
    for document in DOCUMENTS
    for block in blocks(document)
    if block.kind == "console"
    for number, (command, _) in enumerate(commands(block))
    if "grpcurl" in command
]
ENCODING = "bertstream.v1.EncodingService"
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs a command with bash, where a program `grpcurl` is grpcurl."""
    (binary,) = (installed("grpcurl").parent / "lib").rglob("lib/grpcurl")
    binary.chmod(0o755)
    folder = tmp_path_factory.mktemp("grpcurl")

    def bash(command: str, environment: dict[str, str] | None = None) -> str:
        (folder / "grpcurl").unlink(missing_ok=True)
        (folder / "grpcurl").symlink_to(binary)
        variables = {"PATH": f"{folder}:/usr/bin:/bin", **(environment or {})}
        return output(["bash", "-euo", "pipefail", "-c", command], environment=variables)

    return bash


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documents_run(command: str, run: Run, request: pytest.FixtureRequest) -> None:
    if ELSEWHERE in command:
        secured: Secured = request.getfixturevalue("secured")
        told = command.replace(ELSEWHERE, secured.address).replace("authority.pem", str(secured.authority))
        assert run(told, secured.environment)
    else:
        assert run(command.replace(ADDRESS, request.getfixturevalue("documented")))


def test_a_stream_is_answered_by_ids(run: Run, documented: str) -> None:
    messages = '{"options": {}} {"items": {"ids": [7, 9], "inputs": {"texts": {"texts": ["one", "two"]}}}}'
    printed = run(f"printf %s '{messages}' | grpcurl -plaintext -d @ {documented} {ENCODING}/StreamEncodings")
    assert [each for each in ("started", '"7"', '"9"', '"pooled"') if each not in printed] == []


def test_an_error_has_its_details(run: Run, documented: str) -> None:
    request = json.dumps({"inputs": {"texts": {"texts": []}}})
    printed = run(f"grpcurl -plaintext -d '{request}' {documented} {ENCODING}/EncodeTexts 2>&1 || true")
    assert [each for each in ("InvalidArgument", "INVALID_EMPTY_LIST", "inputs") if each not in printed] == []
