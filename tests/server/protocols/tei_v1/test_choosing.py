from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import Models
from bertstream.server.protocols.tei_v1 import tei_pb2
from bertstream.server.protocols.tei_v1.choosing import (
    ANY,
    CLASSIFIER,
    EMBEDDING,
    MULTI_VECTOR,
    RERANKER,
    SPARSE,
    Wanted,
    type_of,
)
from bertstream.workers.programs.description import GenerationDescription, SparseDefault
from tests.server.core.test_models import served
from tests.server.protocols.bertstream_v1.validation.support import description

LABELS = {"heads": ("sequence_classification",)}
WRITER: dict[str, Any] = {"heads": ("causal_lm",), "generation": GenerationDescription(9, 9)}


def call(name: str | bytes = "", caller: Caller | None = None) -> Any:
    """Return the part of a call that matters here."""
    metadata = {"x-model": name} if name else {}
    return SimpleNamespace(metadata=metadata, until_end=ExitStack(), caller=caller or Caller("anyone"))


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(
        [
            served(tmp_path, "writer", **WRITER),
            served(tmp_path, "scores", labels=("score",), **LABELS),
            served(tmp_path, "topics", labels=("a", "b"), **LABELS),
            served(tmp_path, "plain"),
            served(tmp_path, "other"),
        ]
    )


@pytest.mark.parametrize(
    ("wanted", "name"), [(ANY, "writer"), (EMBEDDING, "plain"), (CLASSIFIER, "topics"), (RERANKER, "scores")]
)
async def test_the_first_model_that_can(models: Models, wanted: Wanted, name: str) -> None:
    assert wanted.choose(models, call()).name == name
    assert wanted.choose(models, call("other")).name == "other"


async def test_a_reranker_classifies_where_there_is_no_classifier(models: Models) -> None:
    caller = Caller("a", models=("scores", "plain"))
    assert CLASSIFIER.choose(models, call(caller=caller)).name == "scores"


async def test_late_interaction_reranks_where_no_other_model_does(tmp_path: Path) -> None:
    colbert, scores = (
        served(tmp_path, "colbert", heads=("multi_vector",)),
        served(tmp_path, "s", labels=("a",), **LABELS),
    )
    assert RERANKER.choose(Models([colbert]), call()).name == "colbert"
    assert RERANKER.choose(Models([colbert, scores]), call()).name == "s"
    assert MULTI_VECTOR.choose(Models([scores, colbert]), call()).name == "colbert"


async def test_a_caller_s_own_models(models: Models) -> None:
    caller = Caller("a", models=("other",))
    assert [each.choose(models, call(caller=caller)).name for each in (ANY, EMBEDDING)] == ["other", "other"]
    with pytest.raises(RequestError) as raised:
        RERANKER.choose(models, call(caller=caller))
    assert raised.value.reason == "MODEL_NOT_SUITABLE"
    assert raised.value.message == (
        "no model that you may use here is a reranker, with one label or vectors of tokens; "
        "`x-model` among the headers would name one"
    )
    with pytest.raises(RequestError) as raised:
        EMBEDDING.choose(models, call("plain", caller))
    assert raised.value.reason == "MODEL_NOT_ALLOWED"


def test_one_label_makes_a_reranker_of_a_classifier() -> None:
    assert type_of(description()) == tei_pb2.MODEL_TYPE_EMBEDDING
    assert type_of(description(labels=("a", "b"), **LABELS)) == tei_pb2.MODEL_TYPE_CLASSIFIER
    assert type_of(description(labels=("a",), **LABELS)) == tei_pb2.MODEL_TYPE_RERANKER
    assert type_of(description(labels=("O", "B"), heads=("token_classification",))) == tei_pb2.MODEL_TYPE_EMBEDDING


async def test_sparse_vectors_are_a_sparse_encoder_s_before_any_masked_language_model_s(tmp_path: Path) -> None:
    masked: dict[str, Any] = {"heads": ("fill_mask",)}
    models = Models(
        [
            served(tmp_path, "splade", sparse_pooling=SparseDefault(), **masked),
            served(tmp_path, "plain"),
            served(tmp_path, "mlm", **masked),
        ]
    )
    assert SPARSE.choose(models, call()).name == "splade"
    assert EMBEDDING.choose(models, call()).name == "plain"
    some = Caller("a", models=("mlm", "plain"))
    assert SPARSE.choose(models, call(caller=some)).name == "mlm"
    assert EMBEDDING.choose(models, call(caller=Caller("b", models=("splade",)))).name == "splade"
    with pytest.raises(RequestError, match="is a masked language model"):
        SPARSE.choose(models, call(caller=Caller("c", models=("plain",))))
