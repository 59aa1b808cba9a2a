"""Fixtures for all tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import (
    tiny_bert,
    tiny_camembert,
    tiny_distilbert,
    tiny_electra,
    tiny_roberta,
    tiny_xlm_roberta,
)
from tests.support.documented import documented_server
from tests.support.heads import HEAD_MAKERS
from tests.support.pairs import Pair
from tests.support.server import Server, running

MAKERS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "bert": (tiny_bert, {}),
    "bert-cased": (tiny_bert, {"lowercase": False}),
    "bert-gelu-new": (tiny_bert, {"hidden_act": "gelu_new"}),
    "roberta": (tiny_roberta, {}),
    "roberta-pad": (tiny_roberta, {"pad_id": 6}),
    "xlm-roberta": (tiny_xlm_roberta, {}),
    "camembert": (tiny_camembert, {}),
    "distilbert": (tiny_distilbert, {}),
    "electra": (tiny_electra, {}),
    **HEAD_MAKERS,
}

FAMILIES = ("xlm-roberta", "camembert", "distilbert", "electra")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Call it with a name from MAKERS for that tiny checkpoint's directory, made once. Do not write into it."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            maker, config = MAKERS[name]
            made[name] = maker(tmp_path_factory.mktemp("checkpoints") / name, **config)
        return made[name]

    return make


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of compiled models for the whole run, so that nothing is compiled twice."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def pair(checkpoint: Callable[[str], Path], compile_cache: Path) -> Callable[..., Pair]:
    """Call it with a name from MAKERS, and a precision, for its program beside transformers' model."""

    @functools.cache
    def make(name: str, dtype: str = "float32") -> Pair:
        return Pair(checkpoint(name), compile_cache, dtype=dtype)

    return make


@pytest.fixture(scope="session")
def server(checkpoint: Callable[[str], Path], compile_cache: Path) -> Iterator[Server]:
    """A real server of the embedded model (the default one) and of tiny ones, for all tests that leave it as it is."""
    tiny = [f"{name}={checkpoint(name)}" for name in ("bert", "roberta", "roberta-pad", *FAMILIES)]
    with running(["all-MiniLM-L6-v2", *tiny], "--workers", "1", cache=compile_cache) as started:
        yield started


@pytest.fixture(scope="session")
def documented(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server of all models that the documents name, with tiny ones in place of the hub's."""
    with documented_server(checkpoint, compile_cache, tmp_path_factory.mktemp("documented")) as address:
        yield address
