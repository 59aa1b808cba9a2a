"""Test every head of every family against transformers' logits, for texts packed together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs import weights_file
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, tiny_electra
from tests.support.head_pairs import HeadPair, Text
from tests.support.heads import FAMILIES, HEAD_MAKERS, HEADS, LIKE_BERT_MAKERS
from tests.support.pairs import EXACT, difference

INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
FEW: tuple[Text, ...] = ("The quick brown fox", "敏捷的棕色狐狸", ("a fox", "the dog sleeps in the sun"))
NAMES = [name for name in (*HEAD_MAKERS, *LIKE_BERT_MAKERS) if name != "electra-discriminator"]
EVERY_HEAD = [f"{family}-{head}" for family in FAMILIES for head in HEADS] + ["bert-pretraining", "bert-untied-mlm"]
# The largest error in half precision, relative to the largest number.
BRAIN, HALF = 0.05, 0.01

Checkpoint = Callable[[str], Path]
Make = Callable[..., HeadPair]


@pytest.fixture(scope="module")
def head_pair(checkpoint: Checkpoint, compile_cache: Path) -> Make:
    """Return a function that takes a checkpoint's name and a precision."""
    return functools.cache(lambda name, dtype="float32": HeadPair(checkpoint(name), compile_cache, dtype=dtype))


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_exact(head_pair: Make, name: str) -> None:
    both = head_pair(name)
    assert len(both.heads) == (2 if name == "bert-pretraining" else 1)
    for head in both.heads:
        for text, got in zip(INPUTS, both.logits(head, INPUTS), strict=True):
            assert difference(got, both.expected(head, text)) <= EXACT


@pytest.mark.parametrize(
    ("name", "dtype", "near"),
    [
        *((name, "bfloat16", BRAIN) for name in EVERY_HEAD),
        *(
            (name, "float16", HALF)
            for name in ("bert-pretraining", "roberta-classifier", "distilbert-qa", "electra-mlm")
        ),
    ],
)
def test_half_precision_is_close(head_pair: Make, name: str, dtype: str, near: float) -> None:
    both = head_pair(name, dtype)
    for head in both.heads:
        for text, got in zip(FEW, both.logits(head, FEW), strict=True):
            want = both.expected(head, text)
            assert got.dtype == getattr(torch, dtype)
            assert difference(got, want) <= near * max(1.0, float(want.abs().max()))
    weights = both.program.module.state_dict()
    types = {weight.dtype for weight_name, weight in weights.items() if not weight_name.endswith("frequencies")}
    assert types == {getattr(torch, dtype)}  # what angles are made of stays float32


@pytest.mark.parametrize("activation", ["tanh", "gelu_new"])
def test_electra_s_choices_take_the_config_s_activation(tmp_path: Path, compile_cache: Path, activation: str) -> None:
    made = tiny_electra(
        tmp_path / "made", architecture="ElectraForMultipleChoice", hidden_act="relu", summary_activation=activation
    )
    both = HeadPair(made, compile_cache)
    for text, got in zip(FEW, both.logits("multiple_choice", FEW), strict=True):
        assert difference(got, both.expected("multiple_choice", text)) <= EXACT


@pytest.mark.parametrize("name", ["bert-mlm", "distilbert-mlm", "electra-mlm"])
def test_a_vocabulary_head_has_the_config_s_activation_only_where_transformers_does(
    tmp_path: Path, compile_cache: Path, name: str
) -> None:
    maker, config = HEAD_MAKERS[name]
    setting = "activation" if name.startswith("distilbert") else "hidden_act"
    both = HeadPair(maker(tmp_path / "made", **config, **{setting: "relu"}), compile_cache)
    for text, got in zip(FEW, both.logits("fill_mask", FEW), strict=True):
        assert difference(got, both.expected("fill_mask", text)) <= EXACT


def matrices(program: ScriptedProgram) -> list[Tensor]:
    """Return all matrices that are as large as the word embeddings."""
    weights = program.module.state_dict()
    size = weights["encoder.embeddings.word.weight"].shape
    return [weight for weight in weights.values() if weight.shape == size]


@pytest.mark.parametrize("name", ["bert-mlm", "roberta-mlm", "distilbert-mlm", "electra-mlm"])
def test_a_tied_vocabulary_matrix_is_there_once(head_pair: Make, name: str) -> None:
    assert len(matrices(head_pair(name).program)) == 1


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_an_untied_one_is_saved_beside_the_embeddings(
    head_pair: Make, checkpoint: Checkpoint, compile_cache: Path, family: str
) -> None:
    tied, untied = f"{family}-mlm", f"{family}-untied-mlm"
    own = matrices(head_pair(untied).program)
    assert len({matrix.data_ptr() for matrix in own}) == 2
    sizes = [
        (compile_model(checkpoint(name), cache=compile_cache) / weights_file.FILE_NAME).stat().st_size
        for name in (tied, untied)
    ]
    assert sizes[1] - sizes[0] == pytest.approx(own[0].nbytes, rel=0.1)


def test_a_vocabulary_may_be_larger_than_the_tokenizer_s(head_pair: Make) -> None:
    both = head_pair("bert-mlm")
    (logits,) = both.logits("fill_mask", ("The quick [MASK] fox",))
    assert logits.shape[1] == both.program.description.vocabulary_size > len(both.tokenizer)


def test_heads_that_are_not_there(head_pair: Make, checkpoint: Checkpoint, compile_cache: Path) -> None:
    both = head_pair("bert-pretraining")
    rows = torch.zeros(2, 36)
    with pytest.raises(
        ValueError, match="no head 'multiple_choice' of this kind; those there: fill_mask, next_sentence"
    ):
        both.program.logits("multiple_choice", rows)
    plain = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    with pytest.raises(ValueError, match="no head 'fill_mask' of this kind; those there: none"):
        plain.logits("fill_mask", rows)


def test_no_rows_give_no_logits(head_pair: Make) -> None:
    program = head_pair("bert-pretraining").program
    assert program.logits("fill_mask", torch.zeros(0, 36)).shape == (0, program.description.vocabulary_size)
    assert program.logits("next_sentence", torch.zeros(0, 36)).shape == (0, 2)
