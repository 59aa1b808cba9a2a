"""Test that a family is one entry: what is read, compiled and served of it comes from there and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertstream.workers.compile.checkpoints.families import FAMILIES, Family
from bertstream.workers.compile.checkpoints.families.bert import BERT
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import HEAD_KINDS
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import edit_json, tiny_bert

# BERT's own module of the head -> the module of a family that is BERT under other names.
HEAD = {"dense": "wonder_head.first", "norm": "wonder_head.second"}
WONDER = replace(
    BERT,
    name="wonder",
    prefix="wonder.",
    settings={**BERT.settings, "hidden_size": "width", "layers": "blocks"},
    layer_prefix="blocks.{}.",
    heads=(
        replace(
            BERT.heads[0],
            classes=("ForWonders",),
            modules=HEAD,
            vocabulary_matrix="wonder_head.words.weight",
            vocabulary_biases=("wonder_head.bias",),
        ),
    ),
    head_prefixes=("wonder_head.",),
    tokenizer_class="WonderTokenizer",
)


def renamed(name: str) -> str:
    """Return WONDER's name for a weight of BERT."""
    for old, new in (
        ("cls.predictions.transform.dense.", f"{HEAD['dense']}."),
        ("cls.predictions.transform.LayerNorm.", f"{HEAD['norm']}."),
        ("cls.predictions.decoder.", "wonder_head.words."),
        ("cls.predictions.", "wonder_head."),
        ("bert.encoder.layer.", "wonder.blocks."),
        ("bert.", "wonder."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def as_wonder(directory: Path) -> None:
    """Rename a checkpoint's weights to WONDER's names."""
    weights = load_file(directory / "model.safetensors")
    save_file({renamed(name): weight for name, weight in weights.items()}, directory / "model.safetensors")
    values = json.loads((directory / "config.json").read_text("utf-8"))
    values |= {"model_type": "wonder", "architectures": ["WonderForWonders"]}
    values |= {"width": values.pop("hidden_size"), "blocks": values.pop("num_hidden_layers")}
    (directory / "config.json").write_text(json.dumps(values), "utf-8")
    edit_json(directory / "tokenizer_config.json", tokenizer_class="WonderTokenizer")


@pytest.fixture
def both(
    tmp_path: Path, compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ScriptedProgram, ScriptedProgram]:
    """Return the same model as BERT and as WONDER."""
    monkeypatch.setitem(FAMILIES, "wonder", WONDER)
    folders = [tiny_bert(tmp_path / name, architecture="BertForMaskedLM") for name in ("bert", "wonder")]
    as_wonder(folders[1])
    bert, wonder = (ScriptedProgram.load(compile_model(each, cache=compile_cache), "cpu") for each in folders)
    return bert, wonder


def test_it_has_the_same_numbers_heads_and_tokenizer(both: tuple[ScriptedProgram, ScriptedProgram]) -> None:
    bert, wonder = both
    known = wonder.description
    assert (known.family, known.architecture, known.heads) == ("wonder", "WonderForWonders", ("fill_mask",))
    assert known.warnings == ()
    assert known.special_tokens == bert.description.special_tokens
    ids, lengths, last = torch.arange(5, 25, dtype=torch.int32), [9, 11], [0, known.layers]
    found, want = (each.hidden_states(ids, None, lengths, last) for each in (wonder, bert))
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))
    assert torch.equal(wonder.logits("fill_mask", found[1]), bert.logits("fill_mask", want[1]))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_head_s_weights_are_known_to_be_a_head_s(family: Family) -> None:
    """Otherwise they would be unexpected weights of the encoder."""
    for head in family.heads:
        assert head.kind in HEAD_KINDS
        assert (head.kind == "vocabulary") == bool(head.vocabulary_matrix)
        names = [*head.modules.values(), *filter(None, [head.vocabulary_matrix]), *head.vocabulary_biases]
        assert names
        assert [name for name in names if not f"{name}.".startswith(family.head_prefixes)] == []
