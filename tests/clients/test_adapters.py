"""Our adapters give others' frameworks what our own client gets."""

from __future__ import annotations

import pytest

from bertstream.client import Client
from tests.clients.environments import answers_of_adapter, needs
from tests.clients.test_python import TEXTS, ranked, same

KINDS = ("langchain", "llama-index", "haystack", "chromadb")


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in KINDS])
def test_an_adapter(name: str, documented: str, client: Client) -> None:
    found = answers_of_adapter(name, documented, *TEXTS)
    same(found["documents"], client)
    same([found["query"]], client, TEXTS[:1])
    for each in ("async", "stored"):
        if each in found:
            same(found[each], client)
    assert found["found"] in ([TEXTS[1]], [[TEXTS[1]]])
    if name == "llama-index":
        same(found["saved"], client)
        ranked(found["ranks"], client)
        assert found["best"] == 1
    if name == "haystack":
        same([found["saved"]], client, TEXTS[:1])
        same([found["meta"]], client, TEXTS[:1])
    if name == "chromadb":
        settings = {"address": documented, "tls": False, "api_key_env_var": "BERTSTREAM_API_KEY"}
        assert found["saved"] == {**settings, "options": {"model": "all-MiniLM-L6-v2"}}


@needs("notebook")
def test_a_notebook(documented: str, client: Client) -> None:
    found = answers_of_adapter("notebook", documented, *TEXTS)
    assert found["axes"] == [2, 24, 2]  # with their colour bars
    assert found["labels"] == found["tokens"] == client.tokenize(TEXTS[0])[0].tokens
    assert min(found["sizes"]) > 5000
    same(found["vectors"], client)
    assert found["itself"] == pytest.approx(1)
