"""The adapter's class answers as that of sentence-transformers does, for the same checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch

from bertstream.adapters.sentence_transformers import SentenceTransformer
from bertstream.client import Client, NotFound
from bertstream.workers.compile.checkpoints import embedded
from tests.support.server import Server

NEAR = 2e-6
TEXTS = ["A cat sleeps on the warm roof.", "It will rain all night.", "naïve 水", "It will rain."]
PROMPTS = {"query": "query: ", "passage": "Passage: "}


@pytest.fixture(scope="module")
def theirs() -> Any:
    return sentence_transformers.SentenceTransformer(str(embedded()), device="cpu", prompts=PROMPTS)


@pytest.fixture(scope="module")
def ours(server: Server) -> Iterator[SentenceTransformer]:
    with Client(server.address) as client:
        yield SentenceTransformer(
            "sentence-transformers/all-MiniLM-L6-v2", client=client, device="cpu", prompts=PROMPTS
        )


def same(given: Any, wanted: Any, atol: float = NEAR) -> None:
    assert type(given) is type(wanted)
    assert given.dtype == wanted.dtype
    np.testing.assert_allclose(np.asarray(given), np.asarray(wanted), atol=atol)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_name": "passage", "normalize_embeddings": True},
        {"prompt": "a prompt: ", "truncate_dim": 20},
        {"truncate_dim": 20, "normalize_embeddings": True, "convert_to_tensor": True},
        {"precision": "ubinary"},
        {"precision": "binary", "batch_size": 2},
    ],
    ids=str,
)
def test_encode(ours: SentenceTransformer, theirs: Any, options: dict[str, Any]) -> None:
    same(ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options))
    if "precision" not in options:
        same(ours.encode(TEXTS[0], **options), theirs.encode(TEXTS[0], **options))


def test_queries_and_documents_have_their_prompts(ours: SentenceTransformer, theirs: Any) -> None:
    assert (ours.prompts, ours.default_prompt_name) == (theirs.prompts, theirs.default_prompt_name)
    same(ours.encode_query(TEXTS), theirs.encode_query(TEXTS))
    same(ours.encode_document(TEXTS), theirs.encode_document(TEXTS))
    same(ours.encode_document(TEXTS, prompt_name="passage"), theirs.encode_document(TEXTS, prompt_name="passage"))
    assert not np.allclose(ours.encode_query(TEXTS), ours.encode_document(TEXTS), atol=0.01)
    with pytest.raises(ValueError, match="no prompt 'other'; those of this model are query, document, passage"):
        ours.encode(TEXTS, prompt_name="other")


def test_lists_of_tensors_and_token_states(ours: SentenceTransformer, theirs: Any) -> None:
    for given, wanted in zip(
        ours.encode(TEXTS, convert_to_numpy=False), theirs.encode(TEXTS, convert_to_numpy=False), strict=True
    ):
        same(given, wanted)
    states = zip(*(each.encode(TEXTS, output_value="token_embeddings") for each in (ours, theirs)), strict=True)
    for given, wanted in states:
        same(given, wanted, atol=2e-5)
    with pytest.raises(ValueError, match="output_value must be sentence_embedding or token_embeddings"):
        ours.encode(TEXTS, output_value=None)  # type: ignore[arg-type]


def test_sizes_and_lengths(ours: SentenceTransformer, theirs: Any) -> None:
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension() == 384
    assert ours.get_max_seq_length() == theirs.get_max_seq_length()
    with ours.truncate_embeddings(20), theirs.truncate_embeddings(20):
        assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == 20
        same(ours.encode(TEXTS), theirs.encode(TEXTS))
    assert (ours.encode([]).shape, ours.device) == ((0, 384), "cpu")
    texts, lengths = ["one two three four five six"], []
    for model in (ours, theirs):
        before, model.max_seq_length = model.max_seq_length, 5
        lengths.append(model.encode(sentences=texts))
        model.max_seq_length = before
    same(*lengths)


def test_the_progress_is_shown(ours: SentenceTransformer, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ours.encode(TEXTS, show_progress_bar=True, batch_size=2)
    assert "4 of 4" in capsys.readouterr().err
    np.testing.assert_allclose(shown, ours.encode(TEXTS), atol=NEAR)


def test_a_model_that_is_not_served(ours: SentenceTransformer, server: Server) -> None:
    assert ours.served.name == "all-MiniLM-L6-v2"
    for name in ("org/nothing", "nothing"):
        with pytest.raises(NotFound, match="nothing"):
            SentenceTransformer(name, address=server.address).encode(TEXTS)


@pytest.fixture(scope="module")
def vectors() -> Any:
    made = np.random.default_rng(5).normal(size=(9, 20)).astype(np.float32)
    made[3], made[:, 4] = 0, 0.5  # no direction, and no range
    return made


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, list], ids=["array", "tensor", "list"])
def test_similarities(vectors: Any, theirs: Any, name: Any, kind: Any) -> None:
    model = SentenceTransformer(similarity_fn_name=name)
    theirs.similarity_fn_name = name
    first, second = kind(vectors[:3]), kind(vectors[3:6])
    given = (model.similarity(first, second), model.similarity_pairwise(first, second))
    wanted = (theirs.similarity(first, second), theirs.similarity_pairwise(first, second))
    for one, other in zip(given, wanted, strict=True):
        assert isinstance(one, torch.Tensor if kind is torch.from_numpy else np.ndarray)
        np.testing.assert_allclose(np.asarray(one), other.numpy(), atol=1e-5)
    np.testing.assert_allclose(model.similarity(vectors[0], vectors), theirs.similarity(vectors[0], vectors), atol=1e-5)


def test_an_unknown_similarity() -> None:
    with pytest.raises(ValueError, match="must be cosine, dot, euclidean or manhattan, not 'maxsim'"):
        SentenceTransformer(similarity_fn_name="maxsim").similarity([[1.0]], [[1.0]])  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary", "float32"])
def test_precisions(vectors: Any, precision: Any) -> None:
    from bertstream.adapters._vectors import quantized

    given = quantized(vectors, precision)
    wanted = sentence_transformers.util.quantization.quantize_embeddings(vectors, precision)
    same(given, wanted, atol=0)


def test_precisions_that_cannot_be(vectors: Any) -> None:
    from bertstream.adapters._vectors import quantized

    with pytest.raises(ValueError, match="int8 needs several texts at once"):
        quantized(vectors[:1], "int8")
    with pytest.raises(ValueError, match="precision must be float32, int8, uint8, binary or ubinary, not 'int4'"):
        quantized(vectors, "int4")  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quantized(vectors[:0], "int8").shape == (0, 20)
