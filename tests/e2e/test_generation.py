"""Generation and summarization through gRPC equal transformers' generate."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bertstream.client import Client, FailedPrecondition, Generation, GenerationDone, InvalidArgument
from tests.support.checkpoints import CORPUS
from tests.support.generation_checkpoints import (
    FAMILIES,
    generate_options,
    tiny_bert2bert,
    tiny_causal,
    tiny_roberta2roberta,
    transformers_model,
)
from tests.support.hosted import hosted
from tests.support.reference import close

PROMPTS = ("The quick brown", "A", "敏捷的棕色", "Der schnelle braune Fuchs springt über")
SOURCES = (CORPUS[0], CORPUS[3], "fox", CORPUS[1] * 3)
DETERMINISTIC: list[dict[str, Any]] = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, "repetition_penalty": 1.7},
    {"max_new_tokens": 14, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 12, "num_beams": 4},
    {"max_new_tokens": 10, "num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.3},
    {"max_new_tokens": 10, "num_beams": 3, "early_stopping": True, "length_penalty": 2.0},
    {"max_new_tokens": 10, "num_beams": 2, "early_stopping": "never", "min_new_tokens": 4, "no_repeat_ngram_size": 3},
]

Maker = Callable[..., Path]
MODELS: dict[str, tuple[Maker, dict[str, Any]]] = {
    **{family: (functools.partial(tiny_causal, family=family), {}) for family in FAMILIES},
    "bert2bert": (tiny_bert2bert, {}),
    "bert2bert-tied": (tiny_bert2bert, {"tied": True}),
    "bert2bert-projected": (tiny_bert2bert, {"decoder_sizes": {"hidden_size": 24, "num_attention_heads": 2}}),
    "roberta2roberta": (tiny_roberta2roberta, {}),
    "bert2electra": (tiny_bert2bert, {"decoder": "electra"}),
}
CAUSAL = FAMILIES
SEQUENCE_TO_SEQUENCE = tuple(name for name in MODELS if name not in FAMILIES)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("generation")
    return {name: maker(folder / name, **options) for name, (maker, options) in MODELS.items()}


@pytest.fixture(scope="module")
def client(checkpoints: dict[str, Path], compile_cache: Path) -> Iterator[Client]:
    with (
        tempfile.TemporaryDirectory() as folder,
        hosted(checkpoints, compile_cache, Path(folder)) as address,
        Client(address) as connected,
    ):
        yield connected


class Reference:
    """transformers' generate."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = transformers_model(directory)
        self.causal = not self.model.config.is_encoder_decoder

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, with [CLS]…[SEP] for an encoder, or of a prompt, without an end."""
        found: list[int] = self.tokenizer(text)["input_ids"]
        return found[:-1] if self.causal else found

    def generate(self, text: str, **options: Any) -> list[list[int]]:
        """Return the generated ids of each answer, without the prompt and the padding of transformers."""
        ids = self.ids(text)
        given = generate_options(self.model, ids)
        with torch.no_grad():
            rows = self.model.generate(torch.tensor([ids]), do_sample=False, **given, **options).tolist()
        start = len(ids) if self.causal else 1
        return [self._without_padding(row[start:]) for row in rows]

    def _without_padding(self, ids: list[int]) -> list[int]:
        end = self.model.generation_config.eos_token_id
        return ids[: ids.index(end) + 1] if end in ids else ids


@pytest.fixture(scope="module")
def reference(checkpoints: dict[str, Path]) -> Callable[[str], Reference]:
    return functools.cache(lambda name: Reference(checkpoints[name]))


@pytest.mark.parametrize("options", DETERMINISTIC, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_transformers(
    client: Client, reference: Callable[[str], Reference], name: str, options: dict[str, Any]
) -> None:
    texts = PROMPTS if name in CAUSAL else SOURCES
    spell = reference(name).tokenizer
    # transformers 5 counts a position for a padding token that a RoBERTa generates, but its forward pass does not.
    unpadded: dict[str, Any] = {"bad_words": [spell.pad_token]} if name in CAUSAL else {}
    together = client.generate(list(texts), model=name, **unpadded, **options)
    for text, ours in zip(texts, together, strict=True):
        answers = ours if isinstance(ours, list) else [ours]
        more = {"bad_words_ids": [[spell.pad_token_id]]} if unpadded else {}
        theirs = reference(name).generate(text, **more, **options)
        assert [list(each.token_ids) for each in answers] == theirs
        assert [each.text for each in answers] == [spell.decode(ids, skip_special_tokens=True) for ids in theirs]


@pytest.mark.parametrize("name", ["bert", "electra"])
@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_new_is_of_the_type_of_the_prompts_last_token(
    client: Client, reference: Callable[[str], Reference], name: str, beams: int
) -> None:
    theirs, ids = reference(name), np.array(reference(name).ids(PROMPTS[0]), np.int32)
    found = []
    for types in ([0] * ids.size, [0] + [1] * (ids.size - 1)):
        (prompt,) = client.tokenize([PROMPTS[0]], model=name)
        prompt = replace(prompt, token_ids=ids, token_type_ids=np.array(types, np.int32))
        options: dict[str, Any] = {"max_new_tokens": 12, "num_beams": beams}
        ours = client.generate([prompt], model=name, bad_words=["[PAD]"], **options)[0]
        with torch.no_grad():
            expected = theirs.model.generate(
                torch.tensor(ids[None]).long(),
                token_type_ids=torch.tensor([types]),
                do_sample=False,
                bad_words_ids=[[0]],
                **options,
            )
        assert list(ours.token_ids) == expected[0, ids.size :].tolist()
        found.append(list(ours.token_ids))
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["bert", "roberta", "bert2bert"])
def test_bad_words_are_those_of_transformers(client: Client, reference: Callable[[str], Reference], name: str) -> None:
    text, spell = "The quick brown", reference(name).tokenizer
    options: dict[str, Any] = {"max_new_tokens": 16, "no_repeat_ngram_size": 1}
    first = client.generate(text, model=name, **options)
    words = [word for id in first.token_ids if (word := str(spell.decode([id])).strip()) and not word.startswith("##")]
    ours = client.generate(text, model=name, bad_words=[*words, spell.pad_token], **options)
    spellings = spell([*words, *(f" {word}" for word in words)], add_special_tokens=False)["input_ids"]
    known = [ids for ids in spellings if spell.unk_token_id not in ids]
    (theirs,) = reference(name).generate(text, bad_words_ids=[*known, [spell.pad_token_id]], **options)
    assert list(ours.token_ids) == theirs
    alone = {ids[0] for ids in known if len(ids) == 1} - {spell.eos_token_id, spell.sep_token_id}
    assert alone & set(first.token_ids)
    assert not alone & set(ours.token_ids)


@pytest.mark.parametrize("name", ["bert", "roberta", "bert2bert"])
def test_pieces_add_up_to_the_text(client: Client, name: str) -> None:
    choices: list[dict[str, Any]] = [{}, {"do_sample": True, "seed": 5, "num_return_sequences": 3}]
    for options in choices:
        *pieces, done = client.stream_generate(PROMPTS[3], max_new_tokens=25, model=name, **options)
        assert isinstance(done, GenerationDone)
        for index, output in enumerate(done.outputs):
            mine = [piece for piece in pieces if piece.sequence_index == index]
            assert "".join(piece.text for piece in mine) == output.text
            assert [id for piece in mine for id in piece.token_ids] == list(output.token_ids)
            assert len(output.token_ids) == 25


def test_a_seed_repeats_alone_and_in_company(client: Client) -> None:
    options: dict[str, Any] = {"do_sample": True, "seed": 11, "max_new_tokens": 16, "model": "bert"}
    generate: Callable[..., Generation] = client.generate
    alone = client.generate(PROMPTS[0], **options)
    assert client.generate(PROMPTS[0], **{**options, "seed": 12}).token_ids != alone.token_ids
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(generate, PROMPTS[i % 4], max_new_tokens=5 + i, model="bert") for i in range(20)]
        again = [pool.submit(generate, PROMPTS[0], **options) for _ in range(4)]
        assert all(list(each.result().token_ids) == list(alone.token_ids) for each in again)
        assert all(len(each.result().token_ids) == 5 + i for i, each in enumerate(others))


def test_joining_and_leaving_change_nothing(client: Client, reference: Callable[[str], Reference]) -> None:
    lengths = [3, 17, 9, 30, 1, 22, 12, 5] * 3
    expected = {text: reference("bert2bert").generate(text, max_new_tokens=30)[0] for text in SOURCES}
    with ThreadPoolExecutor(12) as pool:
        calls = [
            pool.submit(
                lambda text, n: client.generate(text, max_new_tokens=n, model="bert2bert"), SOURCES[i % 4], length
            )
            for i, length in enumerate(lengths)
        ]
        for i, (call, length) in enumerate(zip(calls, lengths, strict=True)):
            assert list(call.result().token_ids) == expected[SOURCES[i % 4]][:length]


def test_stop_strings(client: Client) -> None:
    whole = client.generate(PROMPTS[0], max_new_tokens=20, model="roberta")
    stop = whole.text[8:11]
    ours = client.generate(PROMPTS[0], max_new_tokens=20, stop_strings=[stop], model="roberta")
    assert ours.text == whole.text[: whole.text.index(stop)]
    assert ours.finish_reason == "stop_string"
    pieces = list(client.stream_generate(PROMPTS[0], max_new_tokens=20, stop_strings=[stop], model="roberta"))
    assert "".join(piece.text for piece in pieces[:-1]) == ours.text


def test_bulk_summaries_in_order(client: Client, reference: Callable[[str], Reference]) -> None:
    texts = [f"{SOURCES[i % 4]} {i}" for i in range(40)]
    summaries = client.summarize(texts, max_new_tokens=6, model="bert2bert")
    for text, ours in list(zip(texts, summaries, strict=True))[::7]:
        (ids,) = reference("bert2bert").generate(text, max_new_tokens=6)
        assert ours == reference("bert2bert").tokenizer.decode(ids, skip_special_tokens=True)


def test_encoding_goes_on_beside_generation(client: Client) -> None:
    stream = client.stream_generate(PROMPTS[0], max_new_tokens=400, model="bert")
    seen = [next(stream)]
    for _ in range(5):
        assert client.encode(["a fox"], model="bert").shape == (1, 36)
        seen.append(next(stream))
    assert not any(isinstance(each, GenerationDone) for each in seen)
    stream.close()


def test_a_causal_model_encodes_causally(client: Client) -> None:
    (whole,) = client.forward("The quick brown fox", model="bert", add_special_tokens=False)
    (start,) = client.forward("The quick", model="bert", add_special_tokens=False)
    assert whole.last_hidden_state is not None
    assert start.last_hidden_state is not None
    close(whole.last_hidden_state[: len(start.last_hidden_state)], start.last_hidden_state)
    (weights,) = client.forward("The quick brown fox", ["attentions"], model="bert")
    assert weights.attentions
    for layer in weights.attentions.values():
        assert not np.triu(layer, 1).any()


def test_clear_errors(client: Client) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"temperature": 0.0, "do_sample": True}, "INVALID_RANGE"),
        ({"num_beams": 2, "do_sample": True}, "INVALID_COMBINATION"),
        ({"num_beams": 2, "num_return_sequences": 3}, "INVALID_RANGE"),
        ({"max_new_tokens": 600}, "INVALID_RANGE"),
        ({"num_beams": 17}, "INVALID_RANGE"),
    ]
    for options, reason in cases:
        with pytest.raises(InvalidArgument) as raised:
            client.generate(PROMPTS[0], model="bert", **options)
        assert raised.value.reason == reason, options
    with pytest.raises(FailedPrecondition) as refused:
        client.fill_mask("a [MASK]", model="bert")
    assert refused.value.reason == "HEAD_NOT_AVAILABLE"
