"""Test heads of checkpoints whose config.json names no class: their weights tell, or the user."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertstream.workers.compile.checkpoints import CheckpointError
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import TASKS
from bertstream.workers.programs.description import ModelDescription
from tests.support.checkpoints import edit_json, tiny_bert, tiny_roberta
from tests.support.generation_checkpoints import tiny_bert2bert
from tests.support.head_pairs import HeadPair, Text
from tests.support.heads import ENTITIES, FAMILIES, HEADS
from tests.support.pairs import EXACT, difference

Checkpoint = Callable[[str], Path]
Silent = Callable[..., Path]
TEXTS: tuple[Text, ...] = (
    "The quick brown fox",
    ("a model server", "answers questions"),
    "Größere Straßen führen manchmal",
)
NAMES = {"classifier": "sequence_classification", "ner": "token_classification", "qa": "question_answering"}
NAMES |= {"choice": "multiple_choice", "mlm": "fill_mask"}


@pytest.fixture
def silent(checkpoint: Checkpoint, tmp_path: Path) -> Silent:
    """Return a function that makes a tiny checkpoint with heads, whose config.json names no class.

    changes: to config.json; None removes a key.
    """

    def make(name: str, **changes: Any) -> Path:
        directory = Path(shutil.copytree(checkpoint(name), tmp_path / name))
        edit_json(directory / "config.json", architectures=None, **changes)
        return directory

    return make


def described(directory: Path, cache: Path, **options: Any) -> ModelDescription:
    return ModelDescription.load(compile_model(directory, cache=cache, **options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_heads_have_the_numbers_of_transformers_class(
    silent: Silent, compile_cache: Path, family: str, head: str
) -> None:
    """For whole texts, BERT's class must be named: its old classes for tokens have a pooler too.

    ModernBERT's heads differ in nothing but the number of outputs.
    """
    ambiguous = (("bert", "classifier"), ("modernbert", "classifier"), ("modernbert", "qa"))
    said = {"task": NAMES[head]} if (family, head) in ambiguous else {}
    architecture = FAMILIES[family][1] + HEADS[head][0]
    pair = HeadPair(silent(f"{family}-{head}"), compile_cache, architecture, **said)
    assert pair.heads == (NAMES[head],)
    assert pair.program.description.warnings == ()
    for found, text in zip(pair.logits(NAMES[head], TEXTS), TEXTS, strict=True):
        assert difference(found, pair.expected(NAMES[head], text)) < EXACT


@pytest.mark.parametrize(
    ("name", "changes", "task"),
    [
        ("bert-cross-encoder", {}, "sequence_classification"),
        ("bert-multi-label", {}, "sequence_classification"),
        ("bert-regression", {}, "sequence_classification"),
        ("electra-cross-encoder", {"sentence_transformers": None}, "sequence_classification"),
        ("bert-classifier", {"problem_type": "single_label_classification"}, "sequence_classification"),
        ("distilbert-regression", {"problem_type": None}, "sequence_classification"),
        ("bert-choice", {"id2label": None}, "multiple_choice"),
    ],
)
def test_what_config_json_says_of_labels_and_scores_counts(
    silent: Silent, compile_cache: Path, name: str, changes: dict[str, Any], task: str
) -> None:
    found = described(silent(name, **changes), compile_cache)
    assert (found.heads, found.warnings) == ((task,), ())


def _with_pooler(directory: Path) -> Path:
    weights = load_file(directory / "model.safetensors")
    weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"] = torch.eye(36), torch.zeros(36)
    save_file(weights, directory / "model.safetensors")
    return directory


def test_labels_of_entities_tell_old_classes_of_tokens(silent: Silent, compile_cache: Path) -> None:
    found = described(_with_pooler(silent("bert-ner")), compile_cache)
    assert (found.heads, found.labels) == (("token_classification",), tuple(ENTITIES["id2label"].values()))


@pytest.mark.parametrize("name", ["bert-classifier", "bert-ner"])
def test_where_there_is_no_telling_it_is_said_what_to_say(silent: Silent, compile_cache: Path, name: str) -> None:
    directory = _with_pooler(silent(name, id2label={"0": "NOUN", "1": "VERB"} | _rest(name)))
    found = described(directory, compile_cache)
    assert (found.heads, found.labels) == ((), ())
    assert found.warnings == (
        "config.json names no class, and the weights classifier.* may be a head for sequence_classification or "
        "token_classification: it is not served unless --task says which it is.",
    )
    for task in ("sequence_classification", "token_classification"):
        found = described(directory, compile_cache, task=task)
        assert (found.heads, found.labels[:2], found.warnings) == ((task,), ("NOUN", "VERB"), ())


def _rest(name: str) -> dict[str, str]:
    count = {"bert-classifier": 4, "bert-ner": 7}[name]
    return {str(i): f"LABEL_{i}" for i in range(2, count)}


def test_labels_that_config_json_leaves_out_are_as_many_as_the_weights_have(
    silent: Silent, compile_cache: Path
) -> None:
    for name in ("roberta-classifier", "bert-ner"):
        found = described(silent(name, id2label=None, label2id=None), compile_cache)
        assert found.labels == tuple(f"LABEL_{i}" for i in range({"bert-ner": 7}.get(name, 4)))


def test_what_is_said_wins_over_the_checkpoint_s_class(checkpoint: Checkpoint, compile_cache: Path) -> None:
    found = described(checkpoint("bert-classifier"), compile_cache, task="token_classification")
    assert found.heads == ("token_classification",)
    with pytest.raises(CheckpointError, match=r"lacks weights of its head question_answering: qa_outputs\.weight, "):
        compile_model(checkpoint("bert-classifier"), cache=compile_cache, task="question_answering")


def test_an_encoder_decoder_has_no_such_heads(compile_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="an encoder-decoder has no head for token_classification"):
        compile_model(tiny_bert2bert(tmp_path), cache=compile_cache, task="token_classification")


def test_what_is_said_that_no_checkpoint_can_be(checkpoint: Checkpoint, compile_cache: Path) -> None:
    with pytest.raises(ValueError, match=f"the task 'ner' is not one of {', '.join(TASKS)}"):
        compile_model(checkpoint("bert"), cache=compile_cache, task="ner")


def test_an_encoder_alone_has_no_head(silent: Silent, compile_cache: Path) -> None:
    found = described(silent("bert"), compile_cache)
    assert (found.heads, found.warnings, found.architecture) == ((), (), "bertModel")


def test_half_a_head_is_none(silent: Silent, compile_cache: Path) -> None:
    directory = silent("roberta-classifier")
    weights = load_file(directory / "model.safetensors")
    del weights["classifier.dense.bias"]
    save_file(weights, directory / "model.safetensors")
    found = described(directory, compile_cache)
    assert found.heads == ()
    assert found.warnings[0].startswith("The checkpoint has weights of a head that is not served: classifier.dense.w")


@pytest.mark.parametrize("maker", [tiny_bert, tiny_roberta])
def test_a_decoder_predicts_the_next_token(maker: Callable[..., Path], compile_cache: Path, tmp_path: Path) -> None:
    family = {tiny_bert: "BertLMHeadModel", tiny_roberta: "RobertaForCausalLM"}[maker]
    directory = maker(tmp_path / "decoder", architecture=family, is_decoder=True, num_hidden_layers=2)
    said = described(directory, compile_cache)
    edit_json(directory / "config.json", architectures=None)
    found = described(directory, compile_cache)
    assert found.heads == said.heads == ("causal_lm",)
    assert found.generation == said.generation


def test_a_cross_encoder_s_files_tell(silent: Silent, compile_cache: Path) -> None:
    from tests.support.sentence import save_pairs

    directory = save_pairs(silent("bert-classifier").parent / "pairs", silent("bert-cross-encoder"))
    config = json.loads((directory / "config.json").read_text())
    edit_json(directory / "config.json", architectures=None, id2label=None, label2id=None, sentence_transformers=None)
    assert config["model_type"] == "bert"
    found = described(directory, compile_cache)
    assert (found.heads, found.labels, found.warnings) == (("sequence_classification",), ("LABEL_0",), ())
