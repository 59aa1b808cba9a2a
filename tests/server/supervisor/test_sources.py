from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.server.supervisor.sources import ModelChoice, Source, choose, chosen_models, parse_sources
from bertstream.workers.compile.compiling import EMBEDDED_NAME, CompileModel


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("texts", "sources"),
    [
        ([], [(EMBEDDED_NAME, "")]),
        ([EMBEDDED_NAME], [(EMBEDDED_NAME, "")]),
        ([f"mine={EMBEDDED_NAME}"], [("mine", "")]),
        (["org/model", "b"], [("org/model", "org/model"), ("b", "b")]),
        (["a=org/model"], [("a", "org/model")]),
        (["a=/x=y"], [("a", "/x=y")]),
        (["./dir/"], [("dir", "./dir/")]),
    ],
)
def test_models_on_the_command_line(texts: list[str], sources: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert list(parse_sources(texts)) == [Source(*each) for each in sources]


def test_a_directory_named_like_the_embedded_model_is_meant(tmp_path: Path) -> None:
    (tmp_path / EMBEDDED_NAME).mkdir()
    assert parse_sources([EMBEDDED_NAME]) == (Source(EMBEDDED_NAME, EMBEDDED_NAME),)


@pytest.mark.parametrize("text", ["", "=", "a=", "=b"])
def test_what_is_no_model(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a model"):
        parse_sources([text])


def test_two_models_of_one_name(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "bert").mkdir(parents=True)
    with pytest.raises(ConfigError, match="two models are called 'bert'; name them, as NAME=y/bert"):
        parse_sources(["first", "x/bert", "y/bert"])


def names(config: ServeConfig) -> list[tuple[str, str]]:
    return [(each.name, each.source) for each in chosen_models(config)]


def test_tables_with_a_source_come_after_the_models_that_are_listed() -> None:
    tables = {"b": ModelTable("/b"), "a": ModelTable("/a"), "c": ModelTable(workers=1)}
    assert names(ServeConfig(("c=/c",), tables=tables)) == [("c", "/c"), ("b", "/b"), ("a", "/a")]
    assert names(ServeConfig(tables={"b": ModelTable("/b")})) == [("b", "/b")]


def test_models_may_name_tables_to_say_their_order() -> None:
    tables = {"b": ModelTable("/b"), "a": ModelTable(EMBEDDED_NAME), "c": ModelTable("/c")}
    assert names(ServeConfig(("org/d", "a", "b"), tables=tables)) == [
        ("org/d", "org/d"),
        ("a", ""),
        ("b", "/b"),
        ("c", "/c"),
    ]


def test_a_table_of_the_embedded_model() -> None:
    config = ServeConfig(tables={EMBEDDED_NAME: ModelTable(workers=3)})
    assert [(each.name, each.source, each.workers) for each in chosen_models(config)] == [(EMBEDDED_NAME, "", 3)]


def test_a_table_of_no_model_and_a_model_with_two_sources() -> None:
    with pytest.raises(ConfigError, match=r"model\.x\.source is missing, and no model among `models` is called so"):
        chosen_models(ServeConfig(("a=/a",), tables={"x": ModelTable(workers=1)}))
    with pytest.raises(ConfigError, match="two models are called 'a'"):
        chosen_models(ServeConfig(("a=/a",), tables={"a": ModelTable("/b")}))


def test_a_model_has_its_own_options_or_those_of_all() -> None:
    own = ModelTable("/a", "cuda:1", "bfloat16", "latency", 2, 3, 4, 5, 6)
    of_all: dict[str, Any] = {"device": "cpu", "dtype": "float32", "optimize": "throughput", "workers": 7, "threads": 8}
    config = ServeConfig(("b=/b",), **of_all, batch_tokens=9, tables={"a": own})
    b, a = chosen_models(config)
    assert a == ModelChoice("a", "/a", "cuda:1", "bfloat16", "latency", 2, 3, 4, 5, 6)
    assert b == ModelChoice("b", "/b", "cpu", "float32", "throughput", 7, 8, 9, config.queue_tokens, 0)
    assert a.to_compile == CompileModel("a", "/a", "cuda:1", "bfloat16")


def test_a_task_of_one_model_wins_over_its_table_and_that_over_all() -> None:
    tables = {"b": ModelTable("/b", task="token_classification"), "c": ModelTable("/c", task="token_classification")}
    config = ServeConfig(("a=/a", "b", "c"), task=("multiple_choice", "c=question_answering"), tables=tables)
    chosen = chosen_models(config)
    assert [each.task for each in chosen] == ["multiple_choice", "token_classification", "question_answering"]
    assert [each.to_compile.task for each in chosen] == [each.task for each in chosen]
    with pytest.raises(ConfigError, match="task: there is no model 'd' to serve"):
        chosen_models(ServeConfig(("a=/a",), task=("d=multiple_choice",)))


def test_what_cannot_be_run_is_allowed_for_one_model_for_all_or_as_it_is_asked_for() -> None:
    config = ServeConfig(("a=/a",), tables={"b": ModelTable("/b", allow_unsupported_modules=True)})
    assert [each.to_compile.allow_unsupported_modules for each in chosen_models(config)] == [False, True]
    assert choose(config, "a", "/a", allow_unsupported_modules=True).allow_unsupported_modules
    assert choose(ServeConfig(allow_unsupported_modules=True), "a", "/a").to_compile.allow_unsupported_modules


def test_what_is_asked_for_wins_over_the_table() -> None:
    config = ServeConfig(tables={"a": ModelTable("/a", dtype="bfloat16", workers=2, max_length=9)})
    chosen = choose(config, "a", "org/new", dtype="float16", workers=5, hub=True)
    assert (chosen.source, chosen.dtype, chosen.workers, chosen.max_length, chosen.hub) == (
        "org/new",
        "float16",
        5,
        9,
        True,
    )
    assert choose(config, "a", "/new").dtype == "bfloat16"
