"""Test DeBERTa's disentangled attention in all its forms, its heads, its tokenizer, and what is refused of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import Operators
from bertstream.workers.models.deberta import DebertaEncoder, DebertaShape, buckets_of
from bertstream.workers.models.disentangled import DisentangledAttention
from bertstream.workers.models.segments import segments
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, edit_json, tiny_deberta
from tests.support.head_pairs import HeadPair, Text
from tests.support.heads import ENTITIES, TOPICS
from tests.support.pairs import EXACT, Pair, difference, sizes

SHAPE = DebertaShape(
    vocabulary_size=50, hidden_size=16, layers=2, attention_heads=2, intermediate_size=24, positions=20,
    activation="gelu", layer_norm_eps=1e-7, embedding_size=16, relative_attention=True, products=["c2p"],
)  # fmt: skip
INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
FIRST_VERSION = {
    "share_att_key": False, "position_biased_input": True, "type_vocab_size": 2, "norm_rel_ebd": "none",
    "position_buckets": -1, "max_relative_positions": 30,
}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "first": FIRST_VERSION,
    "narrow words, a convolution": {"embedding_size": 20, "conv_kernel_size": 3, "conv_act": "gelu"},
    "keys' positions alone": {"pos_att_type": "c2p", "conv_kernel_size": 5},
    "queries' positions alone": {"pos_att_type": ["p2c"], "share_att_key": False},
    "no relative positions": {"relative_attention": False, "position_biased_input": True},
    "no products": {"pos_att_type": None, "position_buckets": 300},
}


@pytest.mark.parametrize(("buckets", "reach"), [(256, 512), (20, 512), (33, 70), (2, 100), (-1, 30), (600, 512)])
def test_buckets_are_transformers(buckets: int, reach: int) -> None:
    distances = torch.arange(-1100, 1101)
    theirs = make_log_bucket_position(distances, buckets, reach) if buckets > 0 else distances
    found = buckets_of(distances, buckets, reach)
    near = distances.abs() < reach  # beyond which 600 buckets for 512 distances have no meaning
    assert torch.equal(found[near], theirs.to(torch.int64)[near])


@pytest.mark.parametrize(
    ("form", "switch"), [*((form, "1") for form in FORMS), ("first", "0"), ("keys' positions alone", "0")]
)
def test_every_form_is_exact(
    tmp_path: Path, compile_cache: Path, monkeypatch: pytest.MonkeyPatch, form: str, switch: str
) -> None:
    monkeypatch.setenv(native.library.SWITCH, switch)
    both = Pair(tiny_deberta(tmp_path / "made", num_hidden_layers=2, **FORMS[form]), compile_cache)
    assert both.program.description.native_operators == native.status()[0]
    ids, types = both.encode(INPUTS)
    found = both.forward(ids, types, list(range(both.layers + 1)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = both.output(text, kinds)
        assert all(difference(got[i], state[0]) <= EXACT for got, state in zip(states, want.hidden_states, strict=True))
        assert all(
            difference(got[i], weights[0]) <= EXACT for got, weights in zip(found.weights, want.attentions, strict=True)
        )
        (alone,) = both.run([text], [kinds], [both.layers])
        if both.program.description.products == "packed":
            assert torch.equal(alone, states[-1][i])


HEADS: list[tuple[str, dict[str, Any]]] = [
    ("ForMaskedLM", {"embedding_size": 20}),
    ("ForMaskedLM", {"legacy": False}),
    ("ForSequenceClassification", {**TOPICS, "pooler_hidden_act": "tanh"}),
    ("ForTokenClassification", ENTITIES),
    ("ForQuestionAnswering", {}),
    ("ForMultipleChoice", {}),
]


@pytest.mark.parametrize(("ending", "config"), HEADS)
def test_every_head_is_exact(tmp_path: Path, compile_cache: Path, ending: str, config: dict[str, Any]) -> None:
    made = tiny_deberta(tmp_path / "made", architecture=f"DebertaV2{ending}", num_hidden_layers=1, **config)
    both = HeadPair(made, compile_cache)
    assert both.program.description.warnings == ()
    (head,) = both.heads
    together = both.logits(head, INPUTS)
    for text, got in zip(INPUTS, together, strict=True):
        assert difference(got, both.expected(head, text)) <= EXACT
        if both.program.description.products == "packed":
            assert torch.equal(both.logits(head, (text,))[0], got)


def test_the_authors_own_checkpoints_name_no_class_and_have_their_head(tmp_path: Path, compile_cache: Path) -> None:
    """microsoft/deberta-v3-base: its config.json says neither `architectures` nor `legacy`."""
    made = tiny_deberta(tmp_path / "made", architecture="DebertaV2ForMaskedLM", num_hidden_layers=1, legacy=False)
    want = HeadPair(made, compile_cache)
    edit_json(made / "config.json", architectures=None, legacy=None)
    weights = load_file(made / "model.safetensors")
    weights |= {f"mask_predictions.{name}.weight": torch.ones(36, 36) for name in ("dense", "classifier")}
    weights["deberta.embeddings.position_embeddings.weight"] = torch.ones(512, 36)
    save_file(weights, made / "model.safetensors")
    program = ScriptedProgram.load(compile_model(made, cache=compile_cache), "cpu")
    assert program.description.heads == ("fill_mask",)
    (warning,) = program.description.warnings
    assert "not served: mask_predictions.classifier.weight, mask_predictions.dense.weight" in warning
    states = torch.randn(7, 36, generator=torch.Generator().manual_seed(0))
    assert torch.equal(program.logits("fill_mask", states), want.program.logits("fill_mask", states))


def test_positions_are_projected_once(pair: Callable[..., Pair]) -> None:
    """Only the vectors that attention reads are in the program, not those that they were made of."""
    names = pair("deberta-v2").program.module.state_dict()
    assert names["encoder.layers.0.attention.position_keys"].shape == (3, 40, 12)
    assert not any("relative" in name for name in names)


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        (Operators(), False),
        (Operators(native=True), True),
        (Operators(flash=True), False),
        (Operators(native=True, flash=True), False),
    ],
)
def test_only_cpus_take_any_lengths(operators: Operators, expected: bool) -> None:
    assert DebertaEncoder(SHAPE, operators).any_lengths == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pos_att_type": ["c2p", "p2p"]}, "pos_att_type 'p2p' is not one of c2p, p2c"),
        ({"pos_att_type": 3}, "pos_att_type must be a list of names, not 3"),
        ({"conv_kernel_size": 4}, "conv_kernel_size must be odd, or 0, not 4"),
        ({"conv_kernel_size": 3, "conv_groups": 2}, "conv_groups = 2 is not supported; 1 is"),
        ({"conv_kernel_size": 3, "conv_act": "mish"}, "conv_act 'mish' is not supported; these are: gelu"),
        ({"pooler_hidden_size": 20}, "pooler_hidden_size must be hidden_size"),
        ({"attention_head_size": 7}, "attention_head_size must be hidden_size / num_attention_heads"),
        ({"position_buckets": 1}, "position_buckets and max_relative_positions must leave from 2 to"),
        ({"position_buckets": "x"}, "position_buckets must be a whole number, not 'x'"),
        ({"type_vocab_size": -1}, "type_vocab_size must be from 0 to 65,536, not -1"),
        ({"norm_rel_ebd": None}, "norm_rel_ebd must be a name, not None"),
        ({"is_decoder": True}, "deberta-v2 has no decoders"),
    ],
)
def test_what_cannot_be_run_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    directory = Path(shutil.copytree(checkpoint("deberta-v2"), tmp_path / "copy"))
    path = directory / "config.json"
    edit_json(path, **values)
    if values == {"norm_rel_ebd": None}:
        path.write_text(path.read_text("utf-8").replace("{", '{"norm_rel_ebd": null, ', 1), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, EXACT), (torch.bfloat16, 0.05)])
def test_the_operator_computes_what_aten_does(compile_cache: Path, dtype: torch.dtype, near: float) -> None:
    """Of texts longer than a panel of keys, of heads that no vector divides, and of distances in few buckets."""
    native.provide(compile_cache)
    shape = replace(SHAPE, hidden_size=69, attention_heads=3, embedding_size=69, buckets=12, positions=200)
    generator, lengths = torch.Generator().manual_seed(0), [1, 7, 8, 9, 48, 49, 97, 150]
    qkv, keys, queries = (
        torch.randn(*size, generator=generator).to(dtype) for size in ((sum(lengths), 207), (24, 69), (24, 69))
    )
    positions = DebertaEncoder(shape, Operators()).shared(segments(lengths, torch.device("cpu")))
    found = []
    for switch in (False, True):
        attention = DisentangledAttention(69, 3, Operators(native=switch), has_keys=True, has_queries=True, terms=3)
        attention.place(keys, queries)
        found.append(attention(qkv, positions).float())
    assert difference(found[1], found[0]) <= near


@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buckets": torch.tensor([0, 0, 9])}, "buckets must be rows of the vectors of positions"),
        ({"buckets": torch.tensor([0])}, "buckets must reach from the first token of a text to its last"),
        ({"buckets": torch.tensor([0, 1])}, "buckets must be an odd number of int64"),
        ({"keys": torch.zeros(2, 4, 5)}, "keys must be contiguous on the CPU"),
        ({"queries": torch.zeros(2, 3, 2)}, "keys and queries must have as many rows"),
        ({"queries": torch.zeros(2, 4, 2, dtype=torch.bfloat16)}, "queries must be contiguous on the CPU, of the type"),
    ],
)
def test_the_operator_refuses_what_it_cannot_read(compile_cache: Path, change: dict[str, Any], message: str) -> None:
    native.provide(compile_cache)
    given = {"keys": torch.zeros(2, 4, 2), "queries": torch.zeros(2, 4, 2), "buckets": torch.tensor([0, 1, 2])} | change
    texts = torch.tensor([0, 2], dtype=torch.int32)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.bertstream.disentangled_attention(
            torch.zeros(2, 12), texts, 2, given["keys"], given["queries"], given["buckets"], 1.0
        )
