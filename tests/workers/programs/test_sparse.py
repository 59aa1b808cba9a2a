"""Test sparse vectors of every family against transformers' logits and sentence-transformers' pooling of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

from bertstream.workers.contract import Batch, HeadOptions, OutputOptions, SparsePooling, Work
from bertstream.workers.engine import vocabulary
from bertstream.workers.engine.batch import prepare
from bertstream.workers.engine.engine import run
from tests.support.checkpoints import TEXTS
from tests.support.head_pairs import HeadPair, Text
from tests.support.heads import FAMILIES
from tests.support.pairs import EXACT, difference

INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"))
FEW: tuple[Text, ...] = ("The quick brown fox", "敏捷的棕色狐狸", ("a fox", "the dog sleeps in the sun"))
POOLINGS = (SparsePooling(), SparsePooling("sum"), SparsePooling("max", "log1p_relu"))
# The largest error of a weight; a logarithm makes less of the errors of logits (test_heads.py, test_int8.py).
# Each run has other tokens, as its tokenizer is trained with ties broken at random. Of 26 tokenizers the median and the
# most were 0.039 and 0.071 in bfloat16, 0.074 and 0.169 in int8; these are twice the most.
NEAR = {"bfloat16": 0.15, "int8": 0.35}

Checkpoint = Callable[[str], Path]
Make = Callable[..., HeadPair]


@pytest.fixture(scope="module")
def head_pair(checkpoint: Checkpoint, compile_cache: Path) -> Make:
    """Return a function that takes a checkpoint's name and a precision."""
    return functools.cache(lambda name, dtype="float32": HeadPair(checkpoint(name), compile_cache, dtype=dtype))


def computed(both: HeadPair, texts: Sequence[Text], pooling: SparsePooling) -> Tensor:
    """Return the program's weights of texts that are computed together, as a dense matrix, [n, V]."""
    encoded = [both.encode(text) for text in texts]
    ids = [np.array(text["input_ids"], np.int32) for text in encoded]
    types = [np.array(text.get("token_type_ids", 0 * each), np.int32) for text, each in zip(encoded, ids, strict=True)]
    batch = Batch(np.concatenate(ids), np.array([each.size for each in ids], np.int32), np.concatenate(types))
    options = OutputOptions(("sparse_weights",), head=HeadOptions("fill_mask", sparse=pooling))
    work = Work(1, batch, options)
    (found,) = run(both.program, prepare([work], both.program.description.layers))
    counts, at, weights = (found[f"sparse_weights.{name}"] for name in ("counts", "ids", "weights"))
    assert bool((weights > 0).all())
    dense = torch.zeros(len(texts), both.program.vocabulary_size)
    dense[torch.arange(len(texts)).repeat_interleave(counts), at.long()] = weights
    return dense


def expected(both: HeadPair, text: Text, pooling: SparsePooling) -> Tensor:
    """Return what sentence-transformers makes of transformers' logits of this text alone, [V]."""
    logits = both.expected("fill_mask", text)[None]
    features = {"token_embeddings": logits, "attention_mask": torch.ones(logits.shape[:2])}
    made: Tensor = SpladePooling(pooling.strategy, pooling.activation).eval()(features)["sentence_embedding"][0]
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_exact(head_pair: Make, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where products with the vocabulary have 40 rows, so that longer texts go in parts."""
    both = head_pair(f"{family}-mlm")
    monkeypatch.setattr(vocabulary, "LOGITS_BYTES", 4 * both.program.vocabulary_size * 40)
    for pooling in POOLINGS:
        for text, got in zip(INPUTS, computed(both, INPUTS, pooling), strict=True):
            want = expected(both, text, pooling)
            assert difference(got, want) <= EXACT * max(1.0, float(want.max()))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("bert-mlm", "bfloat16"), ("roberta-mlm", "bfloat16"), ("distilbert-mlm", "bfloat16"), ("bert-mlm", "int8")],
)
def test_other_precisions_are_close(head_pair: Make, name: str, dtype: str) -> None:
    both = head_pair(name, dtype)
    for text, got in zip(FEW, computed(both, FEW, POOLINGS[0]), strict=True):
        assert difference(got, expected(both, text, POOLINGS[0])) <= NEAR[dtype]
