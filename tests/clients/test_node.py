"""The examples in examples/node run as they are, and what they get is what our own client gets."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from bertstream.client import Client
from tests.clients.conftest import Secured
from tests.clients.environments import NODE, output

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules").exists(),
    reason="Node, or gRPC's packages for it, are not installed: make test-clients",
)


def run(name: str, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None, code: int = 0) -> str:
    return output(["node", NODE / f"{name}.js", *arguments], stdin=stdin, environment=environment, code=code)


def test_encode_compares_texts_and_reads_what_is_wrong(documented: str, client: Client) -> None:
    first, *lines = run("encode", documented).splitlines()
    texts = [line.partition(" ")[2] for line in lines[:3]]
    vectors = client.encode(texts, normalize=True)
    assert (
        first == f"3 vectors of 384 numbers, from {sum(len(each.token_ids) for each in client.tokenize(texts))} tokens"
    )
    np.testing.assert_allclose([float(line.split()[0]) for line in lines[:3]], vectors @ vectors[0], atol=0.00501)
    assert lines[3:] == [
        "INVALID_ARGUMENT INVALID_TEXT_LENGTH",
        "  inputs.texts[1]: has 602 tokens, more than 256, and truncation is off",
    ]


def test_layers_come_one_by_one(documented: str, client: Client) -> None:
    tokens, *layers, last = run("layers", documented).splitlines()
    (states,) = client.forward(["The bank of the river was wet."], ["hidden_states"])
    assert last == f"{len(tokens.split())} tokens"
    assert [line.partition(":")[0] for line in layers] == [f"layer {number}" for number in range(7)]
    norms = [[float(norm) for norm in line.partition(":")[2].split()] for line in layers]
    ours = [np.linalg.norm(layer, axis=-1) for layer in states.hidden_states.values()]
    np.testing.assert_allclose(norms, ours, atol=0.0501)


def test_bulk_answers_each_line_by_its_id(documented: str, client: Client) -> None:
    lines = [f"line {number}, naïve 水" for number in range(150)]
    lines[70] = "too long " * 300
    printed = run("bulk", documented, stdin="\n".join(lines) + "\n").splitlines()
    answers = {answer["id"]: answer for answer in map(json.loads, printed)}
    assert len(printed) == 150
    assert sorted(answers) == list(range(150))
    assert answers.pop(70) == {"id": 70, "error": "INVALID_TEXT_LENGTH"}
    ours = client.encode([lines[number] for number in sorted(answers)])
    np.testing.assert_allclose([answers[number]["vector"] for number in sorted(answers)], ours, atol=1e-6)


def test_nothing_is_asked_of_an_empty_input(documented: str) -> None:
    assert run("bulk", documented) == ""


def test_the_environment_names_the_server_its_authority_and_the_key(secured: Secured) -> None:
    assert "vectors of 36 numbers" in run("encode", environment=secured.environment)
    without = {name: value for name, value in secured.environment.items() if name != "BERTSTREAM_API_KEY"}
    assert run("encode", environment=without, code=1).startswith("UNAUTHENTICATED KEY_REQUIRED ")


def test_a_server_that_is_not_there_is_said_in_a_line() -> None:
    said = run("encode", "127.0.0.1:1", code=1)
    assert re.fullmatch(r"UNAVAILABLE .*ECONNREFUSED 127\.0\.0\.1:1\b.*\n", said)
