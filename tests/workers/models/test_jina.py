"""Test Jina's BERT against a plain computation of it, and that what it cannot be is refused."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.compile.checkpoints.families import FAMILIES
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import Operators
from bertstream.workers.models.jina import JinaEncoder, slopes_of
from bertstream.workers.programs.interface import AttentionOptions
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, edit_json
from tests.support.jina import LAYERS, PlainJina, slopes, tiny_jina
from tests.support.pairs import EXACT, difference, packed, sizes

Made = Callable[..., Path]
# Pairs too, and longer than any BERT reads.
PAIRS = (("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""), ("word " * 200, "text " * 390))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a function that makes a checkpoint with these options, once."""
    return functools.cache(lambda **options: tiny_jina(tmp_path_factory.mktemp("jina"), **options))


def encoded(directory: Path) -> tuple[list[list[int]], list[list[int]]]:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    found = [tokenizer(text, truncation=True) for text in TEXTS]
    found += [tokenizer(*pair, truncation=True) for pair in PAIRS]
    return [each["input_ids"] for each in found], [each["token_type_ids"] for each in found]


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16])
def test_slopes_are_those_of_the_paper(heads: int) -> None:
    assert slopes_of(heads) == pytest.approx(slopes(heads), rel=1e-15)


@pytest.mark.parametrize(
    ("feed_forward", "heads", "switch"),
    [("geglu", 3, "1"), ("geglu", 12, "0"), ("reglu", 4, "1"), ("original", 6, "1")],
)
def test_every_output_is_exact(
    made: Made, compile_cache: Path, monkeypatch: pytest.MonkeyPatch, feed_forward: str, heads: int, switch: str
) -> None:
    monkeypatch.setenv(native.library.SWITCH, switch)
    directory = made(feed_forward=feed_forward, heads=heads)
    program = ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu")
    ids, types = encoded(directory)
    layers, everything = list(range(LAYERS + 1)), AttentionOptions((1, 2, 3), tuple(range(len(ids))), (0, heads - 1))
    found = program.forward(packed(ids), packed(types), sizes(ids), layers, everything)
    states = [layer.split(sizes(ids)) for layer in found.states]
    plain = PlainJina(directory, feed_forward=feed_forward, heads=heads)
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = plain.output(text, kinds)
        assert all(difference(got[i], state) <= EXACT for got, state in zip(states, want.hidden_states, strict=True))
        for got, weights in zip(found.weights, want.attentions, strict=True):
            assert difference(got[i], weights[[0, -1]]) <= EXACT
        assert difference(program.pooler(states[-1][i][:1]), want.pooler_output) <= EXACT
        (alone,) = program.hidden_states(packed([text]), packed([kinds]), [len(text)], [LAYERS])
        if program.description.products == "packed":
            assert torch.equal(alone, states[-1][i])


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.99), ("int8", 0.99)])
def test_lower_precision_is_close(made: Made, compile_cache: Path, dtype: str, near: float) -> None:
    directory = made()
    program = ScriptedProgram.load(compile_model(directory, cache=compile_cache, dtype=dtype), "cpu")
    ids, types = encoded(directory)
    (states,) = program.hidden_states(packed(ids), packed(types), sizes(ids), [LAYERS])
    plain = PlainJina(directory)
    want = torch.cat([plain.output(*each).hidden_states[-1] for each in zip(ids, types, strict=True)])
    assert float(torch.cosine_similarity(states.double(), want.double(), dim=1).min()) >= near


@pytest.mark.parametrize("architecture", ["JinaBertForMaskedLM", "JinaBertForSequenceClassification"])
def test_heads_are_bert_s(made: Made, compile_cache: Path, architecture: str) -> None:
    directory = made(architecture=architecture)
    program = ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu")
    assert (program.description.family, program.description.warnings) == ("jina-bert", ())
    (head,) = program.description.heads
    ids, types = encoded(directory)
    plain = PlainJina(directory)
    want = plain.output(ids[0], types[0])
    if head == "sequence_classification":
        logits = plain.linear("classifier", want.pooler_output)
        assert difference(program.logits(head, want.hidden_states[-1][:1]), logits) <= EXACT
        return
    x = functional.gelu(plain.linear("cls.predictions.transform.dense", want.hidden_states[-1]))
    x = plain.norm("cls.predictions.transform.LayerNorm", x)
    logits = x @ plain.weights["embeddings.word_embeddings.weight"].T + plain.weights["cls.predictions.bias"]
    assert difference(program.logits(head, want.hidden_states[-1]), logits) <= EXACT


@pytest.mark.parametrize("native_too", [True, False])
def test_no_gpu_s_kernel_has_the_bias(made: Made, native_too: bool) -> None:
    shape = read_config(made()).shape
    assert not JinaEncoder(shape, Operators(native=native_too, flash=True)).any_lengths  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"feed_forward_type": "swiglu"},
            "feed_forward_type 'swiglu' is not supported; these are: original, geglu, reglu",
        ),
        ({"feed_forward_type": 3}, "feed_forward_type 3 is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key' is not supported"),
        ({"is_decoder": True}, "jina-bert has no decoders"),
    ],
)
def test_what_cannot_be_run_is_refused(made: Made, tmp_path: Path, values: dict[str, Any], message: str) -> None:
    directory = Path(shutil.copytree(made(), tmp_path / "copy"))
    edit_json(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


def test_code_of_other_models_is_still_refused(made: Made, tmp_path: Path) -> None:
    assert read_config(made()).unsupported == ()
    directory = Path(shutil.copytree(made(), tmp_path / "copy"))
    edit_json(directory / "config.json", auto_map={"AutoModel": "other/code--modeling_other.OtherModel"})
    assert read_config(directory).unsupported == ("the checkpoint's own code for AutoModel",)
    edit_json(directory / "config.json", position_embedding_type="absolute")
    assert read_config(directory).family is FAMILIES["bert"]


def test_norms_of_queries_and_keys_are_refused_by_name(made: Made, compile_cache: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    directory = Path(shutil.copytree(made(), tmp_path / "copy"))
    weights = load_file(directory / "model.safetensors")
    weights["encoder.layer.0.attention.self.layer_norm_q.weight"] = torch.ones(36)
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected 1 \(encoder\.layer\.0\.attention\.self\.layer_norm_q"):
        compile_model(directory, cache=compile_cache)
