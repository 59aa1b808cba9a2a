"""Vectors of tokens, and scores by them, equal those of the libraries that save such checkpoints."""

from __future__ import annotations

import asyncio
import json
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from bertstream.client import AsyncClient, Client, FailedPrecondition, InvalidArgument, TextKind, WireType
from bertstream.workers.compile.checkpoints import CheckpointError
from bertstream.workers.compile.compiler import compile_model
from tests.support.checkpoints import TEXTS
from tests.support.hosted import hosted
from tests.support.multi_vector import MARKERS, MULTI_VECTOR_MAKERS, WIDTH, bge_m3, projection_matrix

NEAR = 1e-5
OTHERS = ("mpnet", "modernbert")  # whose attention has a bias by distance, and windows
Checkpoint = Callable[[str], Path]
QUERIES = ("fox", "The quick brown fox, and the lazy dog.", "", "word " * 40)
DOCUMENTS = TEXTS[:8]


@pytest.fixture(scope="module")
def directories(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, base = tmp_path_factory.mktemp("multi-vector"), checkpoint("bert")
    made = {name: make(folder / name, base) for name, make in MULTI_VECTOR_MAKERS.items()}
    others = {name: MULTI_VECTOR_MAKERS["native"](folder / name, checkpoint(name)) for name in OTHERS}
    return {**made, **others, "m3": bge_m3(folder / "m3", checkpoint("xlm-roberta")), "bert": base}


@pytest.fixture(scope="module")
def address(directories: dict[str, Path], compile_cache: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, hosted(directories, compile_cache, Path(folder)) as found:
        yield found


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as connected:
        yield connected


def theirs(directory: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(directory), device="cpu")


@pytest.mark.parametrize("name", [*MULTI_VECTOR_MAKERS, *OTHERS])
def test_vectors_and_scores_are_those_of_sentence_transformers(
    client: Client, directories: dict[str, Path], name: str
) -> None:
    model, texts = theirs(directories[name]), list(dict.fromkeys([*QUERIES, *TEXTS]))
    kinds: dict[TextKind | None, Any] = {
        "query": model.encode_query(texts, convert_to_numpy=True),
        "document": model.encode_document(texts, convert_to_numpy=True),
        None: model.encode(texts, convert_to_numpy=True),
    }
    for kind, want in kinds.items():
        got = client.encode_multi(texts, model=name, kind=kind)
        assert [each.shape for each in got] == [each.shape for each in want]
        for mine, own in zip(got, want, strict=True):
            np.testing.assert_allclose(mine, own, atol=NEAR, rtol=0)
    for query in QUERIES:
        scores = model.similarity(model.encode_query([query]), model.encode_document(list(DOCUMENTS)))[0].numpy()
        ranked = client.rerank(query, DOCUMENTS, model=name)
        assert [each.index for each in ranked] == np.argsort(-scores, kind="stable").tolist()
        np.testing.assert_allclose([each.score for each in ranked], np.sort(scores)[::-1], atol=1e-4, rtol=1e-5)


def test_numbers_are_those_of_the_published_method(client: Client, directories: dict[str, Path]) -> None:
    """As ColBERT's own code: markers as ids, masks that nothing attends to, and no punctuation in documents."""
    tokenizer = AutoTokenizer.from_pretrained(directories["bert"])
    model = AutoModel.from_pretrained(directories["bert"], attn_implementation="eager")
    first, second = (client.tokenize(marker, model="stanford")[0].token_ids[1] for marker in MARKERS)
    text = "the quick brown fox, over the dog."
    inner = tokenizer(text, add_special_tokens=False)["input_ids"]
    cls, sep, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id

    def vectors(ids: list[int], attended: int) -> torch.Tensor:
        seen = torch.tensor([[1] * attended + [0] * (len(ids) - attended)])
        with torch.inference_mode():
            states = model(torch.tensor([ids]), attention_mask=seen).last_hidden_state[0]
        return functional.normalize(states @ projection_matrix().T, dim=1)

    query = [cls, int(first), *inner, sep]
    expanded = vectors(query + [mask] * (15 - len(query)), len(query))
    document = [cls, int(second), *inner, sep]
    skipped = {tokenizer.convert_tokens_to_ids(each) for each in string.punctuation} - {tokenizer.unk_token_id}
    kept = [place for place, each in enumerate(document) if each not in skipped]
    found = vectors(document, len(document))[kept]
    assert len(kept) == len(document) - 2
    np.testing.assert_allclose(client.encode_multi(text, model="stanford", kind="query")[0], expanded, atol=NEAR)
    np.testing.assert_allclose(client.encode_multi(text, model="stanford", kind="document")[0], found, atol=NEAR)
    score = float((expanded @ found.T).amax(1).sum())
    assert client.rerank(text, [text], model="stanford")[0].score == pytest.approx(score, abs=1e-4)


def test_three_outputs_of_one_pass(client: Client, directories: dict[str, Path]) -> None:
    """As BGE-M3's own code makes them of XLM-RoBERTa's last states."""
    tokenizer = AutoTokenizer.from_pretrained(directories["m3"])
    model = AutoModel.from_pretrained(directories["m3"])
    linear = {name: torch.load(directories["m3"] / f"{name}_linear.pt") for name in ("colbert", "sparse")}
    unused = {tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    outputs = client.forward(TEXTS, ["pooled", "token_vectors", "sparse_weights"], model="m3", max_length=60)
    sparse = client.encode_sparse(TEXTS, model="m3", max_length=60)
    for text, found, alone in zip(TEXTS, outputs, sparse, strict=True):
        encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=60)
        with torch.inference_mode():
            states = model(**encoded).last_hidden_state[0]
        assert found.pooled is not None
        assert found.token_vectors is not None
        np.testing.assert_allclose(found.pooled, functional.normalize(states[0], dim=0), atol=NEAR)
        vectors = functional.linear(states[1:], linear["colbert"]["weight"], linear["colbert"]["bias"])
        np.testing.assert_allclose(found.token_vectors, functional.normalize(vectors, dim=1), atol=NEAR)
        weights = functional.linear(states, linear["sparse"]["weight"], linear["sparse"]["bias"]).relu()[:, 0]
        want: dict[int, float] = {}
        for each, weight in zip(encoded["input_ids"][0].tolist(), weights.tolist(), strict=True):
            if each not in unused and weight > want.get(each, 0.0):
                want[each] = weight
        for got in (found.sparse_weights, alone):
            assert got is not None
            assert got.token_ids.tolist() == sorted(want)
            np.testing.assert_allclose(got.weights, [want[each] for each in sorted(want)], atol=NEAR)


def test_documents_of_bge_m3_are_scored_by_the_mean(client: Client) -> None:
    query, *documents = client.encode_multi(["the quick fox", *DOCUMENTS], model="m3")
    want = [float((query @ each.T).max(1).mean()) for each in documents]
    ranked = client.rerank("the quick fox", DOCUMENTS, model="m3")
    assert [each.score for each in ranked] == pytest.approx(sorted(want, reverse=True), abs=NEAR)


def test_batch_mates_do_not_matter(client: Client, address: str) -> None:
    """One call mixes queries whose last tokens are not attended to with other texts and attention weights."""
    alone = client.encode_multi("the fox", model="native", kind="query")[0]

    async def together() -> Any:
        async with AsyncClient(address) as other:
            return await asyncio.gather(
                other.encode_multi(["the fox", *QUERIES], model="native", kind="query"),
                other.forward(TEXTS[:6], ["attentions", "last_hidden_state"], model="native"),
                other.rerank("the fox", DOCUMENTS, model="native"),
            )

    for _ in range(3):
        vectors, states, _ = asyncio.run(together())
        np.testing.assert_allclose(vectors[0], alone, atol=NEAR)
        own = client.forward(TEXTS[:6], ["last_hidden_state"], model="native")
        for one, other in zip(states, own, strict=True):
            assert other.last_hidden_state is not None
            np.testing.assert_allclose(one.last_hidden_state, other.last_hidden_state, atol=NEAR)


def test_what_goes_over_the_wire(client: Client) -> None:
    exact = client.encode_multi(QUERIES, model="native", kind="document")
    wire_types: dict[WireType, float] = {"float16": 2e-3, "bfloat16": 1e-2, "int8": 1e-2}
    for wire_type, near in wire_types.items():
        sent = client.encode_multi(QUERIES, model="native", kind="document", wire_type=wire_type)
        for one, other in zip(exact, sent, strict=True):
            np.testing.assert_allclose(one, other, atol=near)
    described = client.model("pylate").multi_vector
    assert described is not None
    assert (described.dimensions, described.query_length, described.document_length) == (WIDTH, 14, 50)


def test_files_have_the_same_vectors(client: Client, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "v.jsonl"
    source.write_text("the fox\nthe lazy dog\n")
    report = client.encode_multi_file(source, output, model="native", kind="query")
    assert (report.rows, report.failed) == (2, 0)
    found = [json.loads(line)["vectors"] for line in output.read_text().splitlines()]
    want = client.encode_multi(["the fox", "the lazy dog"], model="native", kind="query")
    np.testing.assert_allclose(np.array(found, np.float32), np.stack(want), atol=NEAR)


def test_prompts_and_lengths_of_the_callers_own(client: Client, directories: dict[str, Path]) -> None:
    model, text = theirs(directories["at-least"]), "the quick brown fox"
    want = model.encode_document([text], prompt="find: ", convert_to_numpy=True)[0]
    got = client.encode_multi(text, model="at-least", kind="document", prompt="find: ")[0]
    np.testing.assert_allclose(got, want, atol=NEAR)
    assert len(client.encode_multi(text, model="native", kind="document", max_length=4, prompt="")[0]) == 4
    assert len(client.encode_multi(text, model="native", kind="query", max_length=4)[0]) == 12


def test_dense_vectors_know_the_kind_too(client: Client) -> None:
    text = "the quick brown fox"
    asked = client.encode(text, model="native", kind="query")
    named = client.encode(text, model="native", prompt_name="query")
    np.testing.assert_allclose(asked, named, atol=NEAR)


def test_a_family_that_attends_to_all_is_refused(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path) -> None:
    directory = MULTI_VECTOR_MAKERS["native"](tmp_path / "model", checkpoint("deberta-v2"))
    with pytest.raises(CheckpointError, match="not attended to by deberta-v2 is not supported"):
        compile_model(directory, cache=compile_cache)


def test_what_cannot_be_asked_for(client: Client) -> None:
    with pytest.raises(FailedPrecondition, match="no token_vectors"):
        client.encode_multi("fox", model="bert")
    with pytest.raises(FailedPrecondition, match="no sparse_weights"):
        client.forward("fox", ["sparse_weights"], model="bert")
    with pytest.raises(InvalidArgument, match="expands queries"):
        client.forward("fox", ["pooled", "token_vectors"], model="native", kind="query")
    with pytest.raises(InvalidArgument, match="exclude each other"):
        client.forward(["fox"], ["pooled_spans", "token_vectors"], spans=[[(0, 3)]], model="native")
    with pytest.raises(InvalidArgument, match="layer by layer"):
        list(client.stream_layers("fox", ["token_vectors"], model="native"))
    with pytest.raises(InvalidArgument, match="as they are"):
        client.rerank("fox", ["dog"], model="native", function="sigmoid")
    with pytest.raises(InvalidArgument, match="no labels"):
        client.rerank("fox", ["dog"], model="native", label="x")
