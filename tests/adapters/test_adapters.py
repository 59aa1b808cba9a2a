"""What the adapters share, and what each says where its framework is missing.

tests/clients asks a server with each framework.
"""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bertstream.adapters._embedder import Connection, Embedder
from bertstream.adapters._needs import needs
from bertstream.client import Client
from bertstream.v1 import encoding_pb2 as encoding
from tests.client.fake_encodings import vector
from tests.client.fake_server import FakeServer

FRAMEWORKS = {
    "langchain": ("langchain-core", "langchain_core"),
    "llama_index": ("llama-index-core", "llama_index"),
    "haystack": ("haystack-ai", "haystack"),
    "chroma": ("chromadb", "chromadb"),
}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    started = FakeServer()
    yield started
    started.close()


def _encoded(fake: FakeServer) -> list[encoding.EncodeTextsRequest]:
    return [each for each in fake.seen.requests if isinstance(each, encoding.EncodeTextsRequest)]


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_a_framework_that_is_missing_is_named(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, top = FRAMEWORKS[adapter]
    monkeypatch.setitem(sys.modules, top, None)
    monkeypatch.delitem(sys.modules, f"bertstream.adapters.{adapter}", raising=False)
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module(f"bertstream.adapters.{adapter}")
    message = f"bertstream.adapters.{adapter} needs {package}, which is not installed: pip install {package}"
    assert str(raised.value) == message


def test_what_a_framework_lacks_itself_is_not_its_absence() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'other'"), needs("langchain-core", "x"):
        raise ModuleNotFoundError("No module named 'other'", name="other")


def test_queries_and_documents_have_the_prompts_of_the_checkpoint(fake: FakeServer) -> None:
    fake.does.model.prompts["query"] = "query: "
    embedder = Embedder(Connection(fake.address), {})
    np.testing.assert_array_equal(embedder.queries(["a"]), [vector("text:a")])
    np.testing.assert_array_equal(embedder.documents(iter(["a", "b"])), [vector("text:a"), vector("text:b")])
    asked = [each.options.prompt for each in _encoded(fake)]
    assert asked == ["query: ", ""]
    embedder.connection.close()


@pytest.mark.parametrize("options", [{"prompt": "p: "}, {"prompt_name": "query"}])
def test_a_prompt_that_is_given_is_for_both(fake: FakeServer, options: dict[str, Any]) -> None:
    embedder = Embedder(Connection(fake.address), {"model": "tiny", **options})
    embedder.queries(["a"])
    embedder.documents(["a"])
    first, second = _encoded(fake)
    assert first == second
    assert (first.options.prompt, first.options.prompt_name) == (
        options.get("prompt", ""),
        options.get("prompt_name", ""),
    )
    embedder.connection.close()


def test_an_unknown_option() -> None:
    with pytest.raises(
        TypeError, match=r"unknown option 'pool'; options are those of Client\.encode: add_special_tokens"
    ):
        Embedder(Connection(), {"pool": "mean"})


def test_a_connection_is_copied_and_pickled_without_its_client(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "secret")
    connection = Connection(fake.address, api_key_env_var="A_KEY")
    client = connection.client
    assert connection.client is client
    settings = {"address": fake.address, "tls": False, "api_key_env_var": "A_KEY"}
    for other in (copy.deepcopy(connection), pickle.loads(pickle.dumps(connection))):
        assert other.settings() == settings
        assert other.client is not client
        other.client.models()
        other.close()
    assert dict(fake.seen.metadata)["authorization"] == "Bearer secret"
    assert b"secret" not in pickle.dumps(connection)
    connection.close()


def test_a_client_that_is_given_is_used_and_not_saved(fake: FakeServer) -> None:
    with Client(fake.address) as client:
        connection = Connection(client=client)
        assert (connection.client, copy.deepcopy(connection).client) == (client, client)
        connection.close()
        client.models()
        with pytest.raises(ValueError, match="cannot be saved: give address, tls and api_key_env_var instead"):
            pickle.dumps(connection)
