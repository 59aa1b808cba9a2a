"""Test ALBERT's layers that take turns, its heads, and what is refused of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.compile.checkpoints.weights import convert_weights
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import largest_inputs
from bertstream.workers.models.albert import AlbertShape
from bertstream.workers.programs import weights_file
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS, edit_json, tiny_albert
from tests.support.head_pairs import HeadPair, Text
from tests.support.heads import ENTITIES, TOPICS
from tests.support.pairs import EXACT, Pair, difference, sizes

INPUTS: tuple[Text, ...] = (*TEXTS, ("a fox", "the dog sleeps in the sun"), ("Größere Straßen", ""))
SIZES: dict[str, Any] = {
    "vocabulary_size": 50, "hidden_size": 16, "attention_heads": 2, "intermediate_size": 24, "positions": 20,
    "activation": "gelu_new", "layer_norm_eps": 1e-12, "embedding_size": 8,
}  # fmt: skip


def test_layers_are_of_the_groups_that_transformers_counts() -> None:
    alone = AlbertShape(**SIZES, layers=12, groups=1, group_layers=1)
    assert [alone.place(i) for i in range(12)] == [(0, 0)] * 12
    uneven = AlbertShape(**SIZES, layers=10, groups=2, group_layers=2)
    assert [uneven.place(i) for i in range(10)] == [*[(0, 0), (0, 1)] * 3, *[(1, 0), (1, 1)] * 2]


def test_groups_of_several_layers_are_exact(tmp_path: Path, compile_cache: Path) -> None:
    """Words are as wide as the layers, and still projected."""
    made = tiny_albert(tmp_path / "made", num_hidden_layers=2, inner_group_num=2, embedding_size=36)
    both = Pair(made, compile_cache)
    assert both.layers == 4
    ids, types = both.encode(INPUTS)
    found = both.forward(ids, types, list(range(5)), both.everything(len(ids)))
    states = [layer.split(sizes(ids)) for layer in found.states]
    for i, (text, kinds) in enumerate(zip(ids, types, strict=True)):
        want = both.output(text, kinds)
        assert all(difference(got[i], state[0]) <= EXACT for got, state in zip(states, want.hidden_states, strict=True))
        assert all(
            difference(got[i], weights[0]) <= EXACT for got, weights in zip(found.weights, want.attentions, strict=True)
        )


def test_shared_weights_are_there_once(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    """In the file, and in memory: five layers have the weights of two."""
    compiled = compile_model(checkpoint("albert"), cache=compile_cache)
    weights = ScriptedProgram.load(compiled, "cpu").module.state_dict()
    packed = [weights[f"encoder.layers.{i}.query_key_value.bias"].data_ptr() for i in range(5)]
    assert packed[0] == packed[1] == packed[2] != packed[3] == packed[4]
    once = {weight.data_ptr(): weight.nbytes for weight in weights.values()}
    size = (compiled / weights_file.FILE_NAME).stat().st_size
    assert size < sum(once.values()) + 4096 * (4 + len(once))


def test_the_largest_inputs_are_those_of_all_turns(checkpoint: Callable[[str], Path]) -> None:
    config = read_config(checkpoint("albert"))
    weights = load_file(checkpoint("albert") / "model.safetensors")
    ours = {f"encoder.{name}": each for name, each in convert_weights(weights, config.family, config.shape).items()}
    assert ours["encoder.layers.0.feed_forward.output.bias"] is ours["encoder.layers.2.feed_forward.output.bias"]
    found = largest_inputs(config.shape, ours)
    assert set(found) == {
        f"encoder.layers.{layer}.{name}"
        for layer in (0, 3)
        for name in ("query_key_value", "feed_forward.intermediate")
    }
    assert all(bool((each > 0).all()) for each in found.values())


HEADS: list[tuple[str, dict[str, Any]]] = [
    ("ForPreTraining", {}),
    ("ForMaskedLM", {"tie_word_embeddings": False}),
    ("ForSequenceClassification", TOPICS),
    ("ForTokenClassification", ENTITIES),
    ("ForQuestionAnswering", {}),
    ("ForMultipleChoice", {}),
]


@pytest.mark.parametrize(("ending", "config"), HEADS)
def test_every_head_is_exact(tmp_path: Path, compile_cache: Path, ending: str, config: dict[str, Any]) -> None:
    made = tiny_albert(
        tmp_path / "made", architecture=f"Albert{ending}", num_hidden_layers=1, num_hidden_groups=1, **config
    )
    both = HeadPair(made, compile_cache)
    assert both.program.description.warnings == ()
    assert both.heads == (("fill_mask", "next_sentence") if ending == "ForPreTraining" else both.heads[:1])
    for head in both.heads:
        together = both.logits(head, INPUTS)
        for text, got in zip(INPUTS, together, strict=True):
            assert difference(got, both.expected(head, text)) <= EXACT
            if both.program.description.products == "packed":
                assert torch.equal(both.logits(head, (text,))[0], got)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_groups": 6}, "num_hidden_groups 6 are more than num_hidden_layers 5"),
        ({"num_hidden_groups": 0}, "num_hidden_groups must be a whole number from 1 to 1,024, not 0"),
        ({"inner_group_num": "x"}, "inner_group_num must be a whole number from 1 to 1,024, not 'x'"),
        ({"inner_group_num": 1000}, "num_hidden_layers must be a whole number from 1 to 1,024, not 5000"),
        ({"is_decoder": True}, "albert has no decoders"),
    ],
)
def test_what_cannot_be_run_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    directory = Path(shutil.copytree(checkpoint("albert"), tmp_path / "copy"))
    edit_json(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)
