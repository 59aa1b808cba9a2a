"""Vectors and scores of checkpoints with sentence-transformers modules equal those of that library."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from bertstream.client import Client, InvalidArgument, LayersDone
from tests.support.checkpoints import TEXTS
from tests.support.hosted import hosted
from tests.support.sentence import HIDDEN, SENTENCE_MAKERS, dense, save_pairs

NEAR = 1e-5
Checkpoint = Callable[[str], Path]
PAIRS = [("The quick brown fox", "jumps over the lazy dog"), ("fox", "pages of text"), ("a", "")]


def _scores_of_modules(directory: Path, base: Path) -> Path:
    last = dense(20, 1, nn.Identity(), module_output_name="scores")
    return save_pairs(directory, base, Pooling(HIDDEN, "mean"), dense(HIDDEN, 20), last)


def _scores_of_three(directory: Path, base: Path) -> Path:
    last = dense(2 * HIDDEN, 3, nn.Identity(), module_output_name="scores")
    return save_pairs(directory, base, Pooling(HIDDEN, ["cls", "mean"]), last, activation_fn=nn.Identity())


@pytest.fixture(scope="module")
def directories(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, base = tmp_path_factory.mktemp("sentence"), checkpoint("bert")
    pairs = {"scores": _scores_of_modules, "three-scores": _scores_of_three}
    made = {name: make(folder / name, base) for name, make in (SENTENCE_MAKERS | pairs).items()}
    return made | {"own-head": save_pairs(folder / "own-head", checkpoint("bert-cross-encoder"))}


@pytest.fixture(scope="module")
def client(directories: dict[str, Path], compile_cache: Path) -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted(directories, compile_cache, Path(folder)) as address,
        Client(address) as connected,
    ):
        yield connected


def expected(directory: Path, texts: tuple[str, ...] = TEXTS, **options: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = SentenceTransformer(str(directory), device="cpu").encode(list(texts), **options)
    return found


@pytest.mark.parametrize("name", SENTENCE_MAKERS)
def test_vectors_are_those_of_sentence_transformers(client: Client, directories: dict[str, Path], name: str) -> None:
    want = expected(directories[name])
    np.testing.assert_allclose(client.encode(TEXTS, model=name), want, atol=NEAR, rtol=1e-5)
    model = client.model(name)
    assert (model.vector_size, model.warnings) == (want.shape[1], ())


@pytest.mark.parametrize("name", ["without-prompt", "several-without-prompt", "dense", "weighted"])
@pytest.mark.parametrize("options", [{"prompt_name": "query"}, {"prompt": "Größere fox "}, {"prompt": ""}])
def test_prompts(client: Client, directories: dict[str, Path], name: str, options: dict[str, str]) -> None:
    texts = tuple(text for text in TEXTS if text.strip())
    want = expected(directories[name], texts, **options)
    np.testing.assert_allclose(client.encode(texts, model=name, **options), want, atol=NEAR, rtol=1e-5)  # type: ignore[arg-type]


def test_a_prompt_is_left_out_in_streams_beside_calls_that_have_none(client: Client) -> None:
    """Put both in one batch, with texts of fewer tokens than the prompt."""
    name = "several-without-prompt"
    streams = [
        client.encode_stream(TEXTS, model=name, batch_size=4, prompt_name=each) for each in ("document", "query")
    ]
    found = [[batch.vectors for batch in batches] for batches in zip(*streams, strict=True)]
    for prompt, vectors in zip(("document", "query"), zip(*found, strict=True), strict=True):
        want = client.encode(TEXTS, model=name, prompt_name=prompt)
        np.testing.assert_allclose(np.concatenate(vectors), want, atol=NEAR)
    assert not np.allclose(found[0][0], found[0][1], atol=0.01)


def test_pairs_leave_the_prompt_out_too(client: Client, directories: dict[str, Path]) -> None:
    want = SentenceTransformer(str(directories["without-prompt"]), device="cpu").encode(PAIRS, prompt_name="query")
    np.testing.assert_allclose(client.encode(PAIRS, model="without-prompt", prompt_name="query"), want, atol=NEAR)


def test_a_prompt_that_leaves_nothing_to_pool_is_refused(client: Client) -> None:
    options: dict[str, Any] = {"add_special_tokens": False, "max_length": 3, "model": "without-prompt"}
    with pytest.raises(InvalidArgument, match=r"inputs\.texts\[0\].*the prompt alone has as many tokens"):
        client.encode(["lazy dog"], prompt="the quick brown fox", **options)
    assert client.encode(["lazy dog"], prompt="the", **options).shape == (1, HIDDEN)


def test_a_layer_stream_ends_with_the_same_vectors(client: Client) -> None:
    for name, prompt in (("dense", "find: "), ("several-without-prompt", "the quick word: ")):
        options: dict[str, Any] = {"model": name, "prompt": prompt}
        *_, done = client.stream_layers(["fox", "the dog"], ("hidden_states", "pooled"), **options)
        assert isinstance(done, LayersDone)
        found = np.array([each.pooled for each in done.outputs])
        np.testing.assert_allclose(found, client.encode(["fox", "the dog"], **options), atol=NEAR)


def test_what_is_told_of_the_model(client: Client) -> None:
    model = client.model("dense")
    assert (model.hidden_size, model.vector_size) == (HIDDEN, 24)
    assert (model.default_pooling.mode, model.default_pooling.dimensions, model.default_pooling.normalize) == (
        *("checkpoint", 24, True),
    )
    assert model.pooling_steps == ("mean + cls pooling", "dense 72 to 24, GELU", "normalize")
    plain = client.model("plain")
    assert (plain.default_pooling.mode, plain.vector_size, plain.pooling_steps) == ("cls", HIDDEN, ())
    pooler = client.model("pooler").default_pooling
    assert (pooler.mode, pooler.normalize, pooler.dimensions) == ("pooler", True, 0)


def test_the_options_in_effect_sent_back_give_the_same(client: Client) -> None:
    for name in SENTENCE_MAKERS:
        told: list[Any] = []
        want = client.encode("A text", model=name, report=told.append)
        used = told[0].options.pooling
        options = {"pooling": used.mode, "normalize": used.normalize, "dimensions": used.dimensions or None}
        np.testing.assert_allclose(client.encode("A text", model=name, **options), want, atol=NEAR)
        assert (used.mode == "checkpoint") == bool(client.model(name).pooling_steps)


def test_dimensions_are_the_first_of_the_checkpoint_s_own_vector(client: Client, directories: dict[str, Path]) -> None:
    want = expected(directories["dense"], ("A text",), truncate_dim=7, normalize_embeddings=True)
    for pooling in (None, "checkpoint"):
        found = client.encode(["A text"], model="dense", dimensions=7, pooling=pooling)
        np.testing.assert_allclose(found, want, atol=NEAR)
    for wire_type, size in (("int8", 24), ("float16", 24)):
        found = client.encode(["A text"], model="dense", wire_type=wire_type)  # type: ignore[arg-type]
        assert found.shape == (1, size)
    with pytest.raises(InvalidArgument, match=r"options\.pooling\.dimensions: 25 is not between 0 and 24"):
        client.encode("A text", model="dense", dimensions=25)
    assert client.encode([], model="dense").shape == (0, 24)
    assert client.encode([], model="several").shape == (0, 4 * HIDDEN)
    assert client.encode([], model="dense", pooling="mean").shape == (0, HIDDEN)


def test_another_pooling_is_of_plain_states(client: Client) -> None:
    (out,) = client.forward(["A text"], ["last_hidden_state"], model="dense", prompt="")
    assert out.last_hidden_state is not None
    found = client.encode("A text", model="dense", pooling="mean", normalize=False, prompt="")
    np.testing.assert_allclose(found, np.asarray(out.last_hidden_state).mean(0), atol=NEAR)


def test_weights_by_place_for_any_checkpoint(client: Client) -> None:
    (out,) = client.forward(["A text"], ["last_hidden_state"], model="plain")
    states = out.last_hidden_state
    assert states is not None
    weights = np.arange(1, len(states) + 1, dtype=np.float32)
    want = (states * weights[:, None]).sum(0) / weights.sum()
    found = client.encode("A text", model="plain", pooling="weighted_mean", normalize=False)
    np.testing.assert_allclose(found, want, atol=NEAR)


def test_other_layers_are_not_what_the_modules_were_made_for(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="own pooling reads the last layer only; choose a pooling mode"):
        client.encode("A text", model="dense", layers=-2)
    found = client.encode("A text", model="dense", layers=[-1, -2], pooling="mean", layer_combination="concatenate")
    assert found.shape == (2 * HIDDEN,)
    assert client.encode("A text", model="dense", layers=-1).shape == (24,)


def test_spans_go_through_the_modules(client: Client) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    tokens = client.tokenize([text], model="dense")[0]
    whole = client.encode(text, model="dense", prompt="")
    all_tokens, few = client.encode_spans(
        [text], [[(0, len(tokens.token_ids)), (1, 4)]], unit="tokens", model="dense", prompt=""
    )[0]
    np.testing.assert_allclose(all_tokens, whole, atol=NEAR)
    assert few.shape == (24,)
    (none,) = client.encode_spans([text], [[]], model="dense")
    assert none.shape == (0, 24)


@pytest.mark.parametrize("name", ["scores", "own-head", "three-scores"])
def test_scores_are_those_of_a_cross_encoder(client: Client, directories: dict[str, Path], name: str) -> None:
    model = CrossEncoder(str(directories[name]), device="cpu")
    want = model.predict([(PAIRS[0][0], text) for text in TEXTS[:4]])
    if want.ndim == 1:
        ranked = client.rerank(PAIRS[0][0], TEXTS[:4], model=name)
        np.testing.assert_allclose(
            [each.score for each in sorted(ranked, key=lambda each: each.index)], want, atol=NEAR
        )
    labels = client.classify([(PAIRS[0][0], text) for text in TEXTS[:4]], model=name, function="none")
    logits = model.predict([(PAIRS[0][0], text) for text in TEXTS[:4]], activation_fn=nn.Identity())
    found = [[each.score for each in sorted(each, key=lambda label: label.label_id)] for each in labels]
    np.testing.assert_allclose(np.array(found).reshape(logits.shape), logits, atol=NEAR)


def test_a_cross_encoder_encodes_as_a_sentence_transformer_of_it_would(client: Client) -> None:
    for name in ("scores", "own-head"):
        model = client.model(name)
        assert (model.heads, model.default_pooling.mode, model.vector_size) == (
            *(("sequence_classification",), "mean", HIDDEN),
        )
        assert client.encode("A text", model=name).shape == (HIDDEN,)
