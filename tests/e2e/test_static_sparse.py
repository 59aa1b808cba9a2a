"""Sparse vectors of models that compute documents alone equal those of sentence-transformers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from bertstream.client import Client, InvalidArgument, SparseVector
from bertstream.workers.compile.checkpoints import CheckpointError, read_sentence_settings
from tests.support.checkpoints import TEXTS, edit_json, write_json
from tests.support.hosted import hosted
from tests.support.sentence import HIDDEN

Checkpoint = Callable[[str], Path]
SOME = ["fox", "The quick brown fox, the quick dog.", *TEXTS[:6]]


def save(directory: Path, base: Path, default_route: str = "document") -> Path:
    documents = Transformer(str(base), transformer_task="fill-mask")
    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(len(documents.tokenizer.get_vocab()), generator=generator)
    queries = SparseStaticEmbedding(documents.tokenizer, weights, frozen=True)
    routes = Router({"query": [queries], "document": [documents, SpladePooling("max")]}, default_route)
    SparseEncoder(modules=[routes], device="cpu").save_pretrained(str(directory), create_model_card=False)
    return directory


def by_token(directory: Path) -> Path:
    """Write the weights as a table by token, as other checkpoints have them."""
    folder = directory / "query_0_SparseStaticEmbedding"
    routes: Any = SparseEncoder(str(directory), device="cpu")[0]
    weights = routes.sub_modules["query"][0].weight.tolist()
    names = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    write_json(folder / "idf.json", {name: weights[number] for name, number in names.items()})
    write_json(folder / "config.json", {"frozen": True, "path": "idf.json"})
    (folder / "model.safetensors").unlink()
    return directory


@pytest.fixture(scope="module")
def directory(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("static") / "model", checkpoint("bert-mlm"))


@pytest.fixture(scope="module")
def client(directory: Path, checkpoint: Checkpoint, compile_cache: Path) -> Iterator[Client]:
    table = by_token(save(directory.parent / "table", checkpoint("bert-mlm")))
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted({"static": directory, "table": table}, compile_cache, Path(folder)) as address,
        Client(address) as connected,
    ):
        yield connected


def check(got: list[SparseVector], want: torch.Tensor) -> None:
    for mine, own in zip(got, want.to_dense().numpy(), strict=True):
        assert mine.token_ids.tolist() == np.flatnonzero(own).tolist()
        np.testing.assert_allclose(mine.weights, own[own != 0], atol=1e-5)


def test_queries_are_looked_up_and_documents_computed(client: Client, directory: Path) -> None:
    theirs = SparseEncoder(str(directory), device="cpu")
    for name in ("static", "table"):
        check(client.encode_sparse(SOME, model=name, kind="query"), theirs.encode_query(SOME))
    check(client.encode_sparse(SOME, kind="document"), theirs.encode_document(SOME))
    check(client.encode_sparse(SOME), theirs.encode(SOME))
    best = client.encode_sparse(SOME[1], kind="query", top_k=2, tokens=True)
    assert len(best.tokens) == len(best) == 2
    with pytest.raises(InvalidArgument, match="no tokens"):
        client.encode_sparse("", kind="query")


def test_other_routers_are_refused(directory: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    found = read_sentence_settings(save(tmp_path / "other", checkpoint("bert-mlm"), "query"), HIDDEN)
    assert found.unsupported[0].startswith("module Router")
    edit_json(tmp_path / "other" / "router_config.json", structure=3)
    with pytest.raises(CheckpointError, match="structure of routes"):
        read_sentence_settings(tmp_path / "other", HIDDEN)
