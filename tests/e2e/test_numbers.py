"""The numbers of a real server are those of transformers and sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertstream.client import AsyncClient, Client
from bertstream.workers.compile import checkpoints
from tests.support.reference import close, reference, sentence_vectors, worst
from tests.support.server import Server

pytestmark = pytest.mark.smoke

EXACT = 1e-5
TINY = ("bert", "roberta", "roberta-pad")

TEXTS: dict[str, Any] = {
    "english": "The quick brown fox jumps over the lazy dog.",
    "empty": "",
    "blank": " \n\t ",
    "unknown": "\u16a0\u16a1\u16a2 \u2603",
    "emoji": "Well done 👍🏽👩‍👩‍👧 🎉!",
    "chinese": "敏捷的棕色狐狸跳过了懒狗。",
    "right-to-left": "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "control": "a\x00b\u200bc\ufeffd",
    "long": "word " * 900,
    "pair": ("A model server answers questions.", "It runs on 2 cores, größere auch."),
    "long pair": ("fox " * 400, "dog " * 700),
    "empty pair": ("", ""),
}


def mixed_lengths(count: int, longest: int) -> list[str]:
    """Return texts of 1 to about `longest` words, in no order of length."""
    words = ["sun", "fox", "river", "model", "quick", "server", "über", "answer", "layer", "word"]
    order = np.random.default_rng(7).permutation(count)
    lengths = [max(1, round(1 + i * longest / count)) for i in order]
    return [" ".join(words[(i + j) % len(words)] for j in range(length)) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("name", TINY)
def test_token_states_equal_transformers(
    client: Client, checkpoint: Callable[[str], Path], name: str, kind: str
) -> None:
    expected = reference(checkpoint(name)).encode(TEXTS[kind])
    (ours,) = client.forward([TEXTS[kind]], ["last_hidden_state", "pooler_output"], model=name, max_length=512)
    assert worst(ours.last_hidden_state, expected.last_hidden_state[0]) < EXACT
    assert worst(ours.pooler_output, expected.pooler_output[0]) < EXACT


@pytest.mark.parametrize("name", TINY)
def test_all_kinds_of_texts_in_one_list_are_as_each_alone(client: Client, name: str) -> None:
    texts = [*TEXTS.values(), ["already", "split", "words"], [5, 9, 7, 7, 8, 10], np.array([9, 8, 7])]
    together = client.forward(texts, ["last_hidden_state"], model=name, max_length=512)
    for text, ours in zip(texts, together, strict=True):
        (alone,) = client.forward([text], ["last_hidden_state"], model=name, max_length=512)
        close(ours.last_hidden_state, alone.last_hidden_state)


def test_words_equal_transformers(client: Client, checkpoint: Callable[[str], Path]) -> None:
    words = ["The", "Straßen", "unaffable", "懒狗", "😀", ""]
    expected = reference(checkpoint("bert")).encode(words)
    (ours,) = client.forward([words], ["last_hidden_state"], model="bert", max_length=512)
    assert worst(ours.last_hidden_state, expected.last_hidden_state[0]) < EXACT


@pytest.mark.parametrize("name", TINY)
def test_token_ids_are_taken_as_they_are(client: Client, checkpoint: Callable[[str], Path], name: str) -> None:
    pad_id = {"bert": 0, "roberta": 1, "roberta-pad": 6}[name]
    ids = [12, 7, pad_id, 9, 30, pad_id]  # RoBERTa counts positions without padding
    expected = reference(checkpoint(name)).model(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
    )
    (ours,) = client.forward([ids], ["last_hidden_state"], model=name)
    assert worst(ours.last_hidden_state, expected.last_hidden_state[0]) < EXACT


def test_six_hundred_token_ids_are_cut_or_refused(client: Client, checkpoint: Callable[[str], Path]) -> None:
    ids = [5 + i % 50 for i in range(600)]
    expected = reference(checkpoint("bert")).forward(ids[:512])
    (ours,) = client.forward([ids], ["last_hidden_state"], model="bert", max_length=512)
    assert worst(ours.last_hidden_state, expected.last_hidden_state[0]) < EXACT


def test_vectors_equal_sentence_transformers(client: Client) -> None:
    texts = [text for text in TEXTS.values() if isinstance(text, str)] + mixed_lengths(40, 300)
    expected = sentence_vectors(checkpoints.embedded(), texts)
    np.testing.assert_allclose(client.encode(texts), expected, atol=EXACT)


def test_a_vector_is_the_same_alone_in_a_batch_and_in_a_stream(client: Client) -> None:
    texts = mixed_lengths(40, 540)
    batch = client.encode(texts, max_length=512)
    stream = np.concatenate([each.vectors for each in client.encode_stream(texts, max_length=512)])
    np.testing.assert_allclose(stream, batch, atol=1e-5)
    lengths = [tokens.token_ids.size for tokens in client.tokenize(texts, max_length=512)]
    assert min(lengths) == 3
    assert max(lengths) == 512
    for index in (0, 17, int(np.argmax(lengths)), int(np.argmin(lengths)), 39):
        np.testing.assert_allclose(client.encode([texts[index]], max_length=512)[0], batch[index], atol=1e-5)


POOLING: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls": lambda states: states[0],
    "mean": lambda states: states.mean(0),
    "max": lambda states: states.max(0).values,
    "mean_sqrt_len": lambda states: states.sum(0) / states.shape[0] ** 0.5,
    "last_token": lambda states: states[-1],
}
COMBINE: dict[str, Callable[[list[torch.Tensor]], torch.Tensor]] = {
    "mean": lambda layers: torch.stack(layers).mean(0),
    "sum": lambda layers: torch.stack(layers).sum(0),
    "concatenate": lambda layers: torch.cat(layers, dim=-1),
}


@pytest.mark.parametrize("mode", POOLING)
@pytest.mark.parametrize("combination", COMBINE)
def test_pooling_modes_over_layers(
    client: Client, checkpoint: Callable[[str], Path], mode: Any, combination: Any
) -> None:
    texts, layers = ["The quick brown fox", "Straßen", "word " * 60], [0, 2, -1]
    ours = client.encode(
        texts, model="bert", pooling=mode, layers=layers, layer_combination=combination, normalize=False
    )
    for text, vector in zip(texts, ours, strict=True):
        states = reference(checkpoint("bert")).encode(text).hidden_states
        expected = POOLING[mode](COMBINE[combination]([states[layer][0] for layer in layers]))
        # Sums over layers and tokens are up to 40, where numbers of float32 are 4e-6 apart.
        assert worst(vector, expected) < max(EXACT, 1e-6 * float(expected.abs().max()))


def test_the_models_own_pooler_as_pooling(client: Client, checkpoint: Callable[[str], Path]) -> None:
    (vector,) = client.encode(["The quick brown fox"], model="roberta", pooling="pooler")
    expected = reference(checkpoint("roberta")).encode("The quick brown fox")
    assert worst(vector, expected.pooler_output[0]) < EXACT


def test_first_dimensions_then_normalised(client: Client) -> None:
    whole = client.encode(["one", "two three"], normalize=False)
    cut = client.encode(["one", "two three"], dimensions=64, normalize=True)
    expected = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-5)


@pytest.mark.parametrize(("wire_type", "tolerance"), [("float16", 1e-3), ("bfloat16", 4e-3), ("int8", 4e-3)])
def test_wire_types_are_close(client: Client, wire_type: Any, tolerance: float) -> None:
    texts = ["The quick brown fox", "", "Der schnelle Fuchs"]
    exact, coarse = client.encode(texts), client.encode(texts, wire_type=wire_type)
    assert coarse.dtype == (np.float16 if wire_type == "float16" else np.float32)
    np.testing.assert_allclose(coarse.astype(np.float32), exact, atol=tolerance)
    assert not np.array_equal(coarse, exact)


def test_a_prompt_goes_in_front(client: Client) -> None:
    prompted = client.encode(["what is a fox"], prompt="query: ")
    np.testing.assert_allclose(prompted, client.encode(["query: what is a fox"]), atol=1e-5)


async def test_the_asynchronous_client_gives_the_same(server: Server, client: Client) -> None:
    texts = mixed_lengths(70, 40)
    async with AsyncClient(server.address) as other:
        np.testing.assert_allclose(await other.encode(texts), client.encode(texts), atol=1e-5)
        batches = [batch.vectors async for batch in other.encode_stream(texts)]
    np.testing.assert_allclose(np.concatenate(batches), client.encode(texts), atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_tokens_and_offsets_equal_the_tokenizers(client: Client, checkpoint: Callable[[str], Path], name: str) -> None:
    for text in TEXTS.values():
        expected = reference(checkpoint(name)).tokens(
            text, return_offsets_mapping=True, return_special_tokens_mask=True, return_token_type_ids=True
        )
        (ours,) = client.tokenize([text], model=name, max_length=512)
        assert ours.token_ids.tolist() == expected["input_ids"][0]
        assert [tuple(pair) for pair in ours.offsets.tolist()] == expected["offset_mapping"][0]
        assert ours.token_type_ids.tolist() == expected["token_type_ids"][0]
        assert ours.special_tokens_mask.astype(int).tolist() == expected["special_tokens_mask"][0]
        assert [None if word < 0 else word for word in ours.word_ids.tolist()] == expected.word_ids()
        assert ours.tokens == expected.tokens()


def test_detokenize_is_the_tokenizers_decode(client: Client, checkpoint: Callable[[str], Path]) -> None:
    for name in TINY:
        tokenizer = reference(checkpoint(name)).tokenizer
        ids = tokenizer("The quick brown fox, über 懒狗 😀!")["input_ids"]
        for skip in (False, True):
            assert client.detokenize([ids], model=name, skip_special_tokens=skip) == [
                tokenizer.decode(ids, skip_special_tokens=skip)
            ]
