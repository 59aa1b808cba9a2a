from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bertstream.server.core.callers import Caller
from bertstream.server.core.errors import RequestError
from bertstream.server.core.models import (
    FEW_TEXTS,
    SHORT_CHARACTERS,
    Models,
    ServedModel,
    described,
    is_short,
)
from bertstream.server.core.tokenization import (
    Ids,
    Inputs,
    Pairs,
    Texts,
    Tokenized,
    TokenizeOptions,
    Truncation,
    Words,
    cancelling,
)
from bertstream.server.settings import FrontendSettings, Limits, ModelSettings
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description

ANYONE = Caller("anyone")
LIMITS = Limits(4, 1 << 20, 1 << 20, 1 << 20, 8, 100, 1 << 20, 8)
WORDS = {"[UNK]": 0, "a": 1, "b": 2, "c": 3, ".": 4}


def served(directory: Path, name: str, **described: Any) -> ServedModel:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    description(vocabulary_size=len(WORDS), **described).save(directory)
    seal(directory)
    settings = ModelSettings(name, str(directory), (), 100)
    frontend = FrontendSettings("frontend", "h", 1, "v", (settings,), LIMITS, 1, 1.0, 1.0, "info")
    return ServedModel(settings, frontend, ThreadPoolExecutor(2), lambda: None)


async def test_models_by_name(tmp_path: Path) -> None:
    one, other = served(tmp_path, "one"), served(tmp_path, "other")
    both, call = Models([one, other]), ExitStack()
    assert list(both) == [one, other]
    assert both.get("other", call, ANYONE) is other
    assert both.get("", call, ANYONE) is one
    with pytest.raises(RequestError) as raised:
        both.get("none", call, ANYONE)
    assert (raised.value.reason, raised.value.message) == (
        "MODEL_NOT_FOUND",
        "there is no model 'none'; served: one, other",
    )


async def test_a_caller_with_models_of_its_own_learns_of_no_others(tmp_path: Path) -> None:
    both, caller = Models([served(tmp_path, "one"), served(tmp_path, "other")]), Caller("a", models=("other", "later"))
    assert both.get("other", ExitStack(), caller).name == "other"
    for name in ("", "one", "none"):  # there or not
        with pytest.raises(RequestError) as raised:
            both.get(name, ExitStack(), caller)
        assert raised.value.reason == "MODEL_NOT_ALLOWED"
    with pytest.raises(RequestError) as raised:
        both.get("later", ExitStack(), caller)
    assert raised.value.message == "there is no model 'later'; served: other"


async def test_the_first_model_that_suits(tmp_path: Path) -> None:
    one, other, third = (served(tmp_path, name) for name in ("one", "other", "third"))
    models, call = Models([one, other, third]), ExitStack()
    assert models.first(lambda description: True, call, ANYONE) is one
    assert models.first(lambda description: description is not one.description, call, ANYONE) is other
    assert models.first(lambda description: True, call, Caller("a", models=("third",))) is third
    assert models.first(lambda description: False, call, ANYONE) is None
    used = asyncio.create_task(third.idle())
    await asyncio.sleep(0)
    assert not used.done()
    call.close()
    await used


async def test_the_thread_of_a_call_that_is_gone_stops_where_it_can(tmp_path: Path) -> None:
    model = served(tmp_path, "one")
    begun, gone, stopped = threading.Event(), threading.Event(), threading.Event()

    def tokenize() -> None:
        begun.set()
        gone.wait(60)
        try:
            cancelling.check()
        except cancelling.Cancelled:
            stopped.set()
            raise

    task = asyncio.create_task(model.in_thread(tokenize))
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()
    assert await asyncio.to_thread(stopped.wait, 60)


async def test_texts_to_tokens_and_back(tmp_path: Path) -> None:
    model = served(tmp_path, "one")
    timed = await model.tokenize(Texts(["a b", "c x"]), TokenizeOptions(Truncation("longest_first", 8)))
    assert timed.tokens.ids.tolist() == [1, 2, 3, 0]
    assert timed.seconds >= 0
    done = await model.detokenize(Ids(np.array([1, 3], np.int32), np.array([2], np.int32)), False)
    assert done.texts == ["a c"]


@pytest.mark.parametrize(
    ("inputs", "short"),
    [
        (Texts(["a" * (SHORT_CHARACTERS - 1)]), True),
        (Texts(["a" * (SHORT_CHARACTERS - 2), "b"]), False),
        (Texts(["a"] * FEW_TEXTS), True),
        (Texts(["a"] * (FEW_TEXTS + 1)), False),
        (Pairs(["a" * (SHORT_CHARACTERS - 2)], [""]), True),
        (Pairs(["a"], ["b" * SHORT_CHARACTERS]), False),
        (Words(["a", "b" * SHORT_CHARACTERS], np.array([2], np.int32)), False),
        (Words(["", "", "b"], np.array([3], np.int32)), True),
        (Words([""] * SHORT_CHARACTERS * 2, np.array([SHORT_CHARACTERS * 2], np.int32)), False),
        (Ids(np.ones(SHORT_CHARACTERS, np.int32), np.array([SHORT_CHARACTERS], np.int32)), True),
    ],
)
async def test_only_what_takes_long_is_tokenized_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Inputs, short: bool
) -> None:
    options = TokenizeOptions(Truncation("longest_first", 8))
    assert await in_the_loop(served(tmp_path, "one"), monkeypatch, inputs, options) == short


async def test_so_are_windows_of_which_there_may_be_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TokenizeOptions(Truncation("longest_first", 2), windows=True)
    assert not await in_the_loop(served(tmp_path, "one"), monkeypatch, Texts(["a b c"]), options)


async def in_the_loop(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch, inputs: Inputs, options: TokenizeOptions
) -> bool:
    """Return whether these inputs are tokenized in the thread of the event loop."""
    threads, tokenize = list[threading.Thread](), model.tokenizer.tokenize

    def noted(inputs: Inputs, *args: Any) -> Tokenized:
        threads.append(threading.current_thread())
        return tokenize(inputs, *args)

    monkeypatch.setattr(model.tokenizer, "tokenize", noted)
    await model.tokenize(inputs, options)
    (thread,) = threads
    return thread is threading.current_thread()


def test_a_prompt_counts_for_each_text() -> None:
    assert is_short(Texts(["a", "b"]), "p" * (SHORT_CHARACTERS // 2 - 2))
    assert not is_short(Texts(["a", "b"]), "p" * (SHORT_CHARACTERS // 2))


@pytest.mark.parametrize(("clean_up", "text"), [(True, "a."), (False, "a .")])
async def test_spaces_are_cleaned_up_as_described(tmp_path: Path, clean_up: bool, text: str) -> None:
    model = served(tmp_path, "one", clean_up_spaces=clean_up)
    done = await model.detokenize(Ids(np.array([1, 4], np.int32), np.array([2], np.int32)), False)
    assert done.texts == [text]
    writer = model.tokenizer.writing(skip_special_tokens=False).writer()
    assert "".join([writer.push(1), writer.push(4), writer.finish()]) == text


async def test_a_call_keeps_its_model_busy_until_its_end(tmp_path: Path) -> None:
    old, new = served(tmp_path, "one"), served(tmp_path, "one")
    models, first, second = Models([old]), ExitStack(), ExitStack()
    assert models.get("one", first, ANYONE) is models.get("", second, ANYONE) is old
    models.replace([new])
    assert models.get("one", ExitStack(), ANYONE) is new
    idle = asyncio.create_task(old.idle())
    first.close()
    await asyncio.sleep(0)
    assert not idle.done()
    second.close()
    await asyncio.wait_for(idle, 20)
    await old.idle()


def test_a_length_of_its_own(tmp_path: Path) -> None:
    description(default_max_length=128).save(tmp_path)
    seal(tmp_path)
    settings = ModelSettings("one", str(tmp_path), (), 100)
    assert described(settings).default_max_length == 128
    assert described(replace(settings, max_length=64)).default_max_length == 64


async def test_few_texts_do_not_wait_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, gate, options = served(tmp_path, "one"), threading.Event(), TokenizeOptions(Truncation("longest_first", 8))
    tokenize = model.tokenizer.tokenize

    def held_up(inputs: Inputs, *args: Any) -> Tokenized:
        assert len(inputs) <= FEW_TEXTS or gate.wait(20)
        return tokenize(inputs, *args)

    monkeypatch.setattr(model.tokenizer, "tokenize", held_up)
    many = [asyncio.create_task(model.tokenize(Texts(["a"] * (FEW_TEXTS + 1)), options)) for _ in range(4)]
    few = await asyncio.wait_for(model.tokenize(Texts(["b"] * FEW_TEXTS), options), 20)
    assert few.tokens.ids.tolist() == [2] * FEW_TEXTS
    assert not any(task.done() for task in many)
    gate.set()
    assert [len(timed.tokens.lengths) for timed in await asyncio.gather(*many)] == [FEW_TEXTS + 1] * 4
