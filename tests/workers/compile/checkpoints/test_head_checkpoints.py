"""Test which heads a checkpoint has, and what is said of heads that it should have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.checkpoints import CheckpointError, FoundHeads, read_config
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.description import ModelDescription
from tests.support.checkpoints import edit_json, write_json
from tests.support.head_pairs import HeadPair
from tests.support.pairs import EXACT, difference

Checkpoint = Callable[[str], Path]
Copy = Callable[[str], Path]


@pytest.fixture
def copy(checkpoint: Checkpoint, tmp_path: Path) -> Copy:
    """Return a function that copies a tiny checkpoint, to be damaged."""
    return lambda name: Path(shutil.copytree(checkpoint(name), tmp_path / name))


def edit(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors")
    return directory


def heads_of(directory: Path) -> FoundHeads:
    config = read_config(directory)
    weights = checkpoints.read_weights(checkpoints.weight_files(directory), lambda done, total: None)
    encoder = checkpoints.convert_weights(weights, config.family, config.shape)
    shape = replace(config.shape, has_pooler="pooler.dense.weight" in encoder)
    return checkpoints.find_heads(weights, encoder["embeddings.word.weight"], replace(config, shape=shape))


def names(found: FoundHeads) -> list[str]:
    return [head.name for head in found.shapes]


def same(left: FoundHeads, right: FoundHeads) -> bool:
    return left.weights.keys() == right.weights.keys() and all(
        torch.equal(left.weights[name], right.weights[name]) for name in left.weights
    )


# Which heads there are


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel", "BertForTokenClassificationOfOurs"])
def test_vocabulary_and_next_sentence_heads_are_told_by_their_weights(copy: Copy, architecture: str) -> None:
    directory = copy("bert-pretraining")
    edit_json(directory / "config.json", architectures=[architecture])
    found = heads_of(directory)
    assert (names(found), found.warnings) == (["fill_mask", "next_sentence"], ())


@pytest.mark.parametrize(
    ("name", "architecture", "head"),
    [
        ("bert-ner", "BertForTokenClassification", "token_classification"),
        ("bert-classifier", "BertForSequenceClassification", "sequence_classification"),
        ("bert-cross-encoder", "BertForMultipleChoice", "multiple_choice"),
    ],
)
def test_classifiers_are_told_by_the_class(copy: Copy, name: str, architecture: str, head: str) -> None:
    directory = copy(name)
    edit_json(directory / "config.json", architectures=[architecture])
    assert names(heads_of(directory)) == [head]


def test_a_class_that_nobody_knows_has_no_classifier(copy: Copy) -> None:
    directory = copy("roberta-classifier")
    edit_json(directory / "config.json", architectures=["RobertaForSomethingElse"])
    found = heads_of(directory)
    assert names(found) == []
    assert found.warnings == (
        "The checkpoint has weights of a head that is not served: classifier.dense.bias, classifier.dense.weight, "
        "classifier.out_proj.bias, classifier.out_proj.weight; --task can say what it is for.",
    )


def test_an_encoder_saved_under_the_name_of_a_masked_language_model_is_served(copy: Copy) -> None:
    directory = copy("roberta")
    edit_json(directory / "config.json", architectures=["RobertaForMaskedLM"])
    found = heads_of(directory)
    assert names(found) == []
    assert found.warnings == (
        "The checkpoint is said to be a RobertaForMaskedLM, and the weights of its head fill_mask are not there.",
    )


def test_a_half_of_a_head_that_nobody_promised_is_left_alone(copy: Copy) -> None:
    directory = edit(copy("bert-nsp"), lambda weights: weights.pop("cls.seq_relationship.bias"))
    edit_json(directory / "config.json", architectures=["BertModel"])
    found = heads_of(directory)
    assert (names(found), found.weights) == ([], {})
    assert found.warnings == ("The checkpoint has weights of a head that is not served: cls.seq_relationship.weight.",)


def test_a_discriminator_is_an_encoder(checkpoint: Checkpoint) -> None:
    found = heads_of(checkpoint("electra-discriminator"))
    assert names(found) == []
    assert "discriminator_predictions.dense.weight" in found.warnings[0]


# What is wrong with them


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("bert-mlm", "cls.predictions.bias"),
        ("bert-mlm", "cls.predictions.transform.LayerNorm.weight"),
        ("bert-untied-mlm", "cls.predictions.decoder.weight"),
        ("bert-nsp", "cls.seq_relationship.weight"),
        ("bert-ner", "classifier.weight"),
        ("bert-qa", "qa_outputs.bias"),
        ("roberta-mlm", "lm_head.dense.bias"),
        ("roberta-classifier", "classifier.out_proj.weight"),
        ("distilbert-classifier", "pre_classifier.weight"),
        ("electra-choice", "sequence_summary.summary.bias"),
        ("electra-mlm", "generator_lm_head.bias"),
    ],
)
def test_what_a_promised_head_lacks_is_named(copy: Copy, name: str, lacks: str) -> None:
    directory = edit(copy(name), lambda weights: weights.pop(lacks))
    with pytest.raises(CheckpointError, match=rf"lacks weights of its head [a-z_]+: {lacks}$"):
        heads_of(directory)


def test_a_classifier_without_any_weights_is_no_classifier(copy: Copy) -> None:
    directory = copy("distilbert")
    edit_json(directory / "config.json", architectures=["DistilBertForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"sequence_classification: pre_classifier\.weight, .*classifier\.bias$"):
        heads_of(directory)


def test_a_head_that_reads_the_pooler_needs_one(copy: Copy) -> None:
    def change(weights: dict[str, Tensor]) -> None:
        del weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"]

    with pytest.raises(CheckpointError, match=r"its head sequence_classification: pooler\.dense\.weight$"):
        heads_of(edit(copy("bert-classifier"), change))


@pytest.mark.parametrize(
    ("name", "weight", "shape", "wanted"),
    [
        ("bert-classifier", "classifier.weight", [3, 36], [4, 36]),
        ("bert-qa", "qa_outputs.bias", [3], [2]),
        ("bert-choice", "classifier.weight", [2, 36], [1, 36]),
        ("electra-mlm", "generator_predictions.dense.weight", [36, 36], [20, 36]),
        ("bert-mlm", "cls.predictions.bias", [7], None),
        ("bert-untied-mlm", "cls.predictions.decoder.weight", [7, 36], None),
    ],
)
def test_weights_of_a_wrong_shape_are_named(
    copy: Copy, name: str, weight: str, shape: list[int], wanted: list[int] | None
) -> None:
    directory = edit(copy(name), lambda weights: weights.update({weight: torch.zeros(shape)}))
    vocabulary = read_config(directory).shape.vocabulary_size
    expected = str(wanted or [vocabulary, *shape[1:]])
    with pytest.raises(CheckpointError) as caught:
        heads_of(directory)
    assert str(caught.value) == f"weight {weight} is {shape}, and config.json says {expected}"


def test_a_quantized_head_is_refused(copy: Copy) -> None:
    weight = torch.zeros(2, 36, dtype=torch.int8)
    directory = edit(copy("roberta-qa"), lambda weights: weights.update({"qa_outputs.weight": weight}))
    with pytest.raises(CheckpointError, match=r"qa_outputs\.weight has type torch\.int8; quantized"):
        heads_of(directory)


# Vocabulary heads


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bert-mlm", "cls.predictions.bias", "cls.predictions.decoder.bias"),
        ("xlm-roberta-mlm", "lm_head.bias", "lm_head.decoder.bias"),
        ("bert-mlm", "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.gamma"),
    ],
)
def test_weights_under_other_names(copy: Copy, name: str, old: str, new: str) -> None:
    directory = copy(name)
    before = heads_of(directory)
    after = heads_of(edit(directory, lambda weights: weights.update({new: weights.pop(old)})))
    assert same(before, after)
    assert after.warnings == ()


def test_where_there_are_two_biases_transformers_decides(copy: Copy, compile_cache: Path) -> None:
    """Add the decoder's own bias, as transformers does even where the matrix is tied."""

    def change(weights: dict[str, Tensor]) -> None:
        weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"] + 1

    both = HeadPair(edit(copy("bert-mlm"), change), compile_cache)
    (got,) = both.logits("fill_mask", ("a fox",))
    assert difference(got, both.expected("fill_mask", "a fox")) <= EXACT


def test_a_matrix_that_is_the_embeddings_own_is_not_kept(copy: Copy) -> None:
    directory = copy("bert-mlm")
    before = heads_of(directory)
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    torch.save(weights, directory / "pytorch_model.bin")
    after = heads_of(directory)
    assert same(before, after)
    assert after.shapes[0].tied


@pytest.mark.parametrize("name", ["bert-mlm", "distilbert-mlm", "electra-mlm"])
def test_a_matrix_of_its_own_counts_whatever_the_config_says(copy: Copy, compile_cache: Path, name: str) -> None:
    matrix = {
        "bert-mlm": "cls.predictions.decoder.weight",
        "distilbert-mlm": "vocab_projector.weight",
        "electra-mlm": "generator_lm_head.weight",
    }[name]
    words = f"{name.removesuffix('-mlm')}.embeddings.word_embeddings.weight"
    directory = edit(copy(name), lambda weights: weights.update({matrix: weights[words].flip(0).contiguous()}))
    both = HeadPair(directory, compile_cache)
    (got,) = both.logits("fill_mask", ("a fox",))
    assert difference(got, both.expected("fill_mask", "a fox")) <= EXACT


# config.json


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, ("sport", "politics", "weather", "food")),
        ({"id2label": {"1": "b", "0": "a"}}, ("a", "b")),
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": {"0": 5, "1": True}}, ("5", "True")),
    ],
)
def test_labels_are_named_as_in_transformers(copy: Copy, changes: dict[str, Any], labels: tuple[str, ...]) -> None:
    directory = copy("bert-classifier")
    edit_json(directory / "config.json", **changes)
    assert read_config(directory).heads.labels == labels


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert-ner", {"id2label": {"0": "a", "2": "b"}}, "id2label must number its labels from 0, not 0, 2"),
        ("bert-ner", {"id2label": {"zero": "a"}}, "id2label must number its labels from 0, not zero"),
        ("bert-ner", {"id2label": ["a"]}, "id2label must be a table of labels by number"),
        ("bert-ner", {"num_labels": -1}, "num_labels must be a whole number from 1 to 1,048,576, not -1"),
        ("electra-choice", {"summary_type": "last"}, "summary_type = 'last' is not supported"),
        ("electra-choice", {"summary_use_proj": False}, "summary_use_proj = False is not supported"),
        ("electra-choice", {"summary_activation": "mish"}, "summary_activation 'mish' is not supported; these are"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    copy: Copy, name: str, changes: dict[str, Any], message: str
) -> None:
    directory = copy(name)
    edit_json(directory / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


def test_labels_of_heads_without_any_do_not_matter(copy: Copy) -> None:
    directory = copy("bert-qa")
    edit_json(directory / "config.json", id2label={"7": "a"})
    assert read_config(directory).heads.labels == ()


@pytest.mark.parametrize(
    ("name", "function", "rerank"),
    [
        ("bert-classifier", "softmax", ""),
        ("bert-multi-label", "sigmoid", ""),
        ("bert-regression", "none", ""),
        ("distilbert-regression", "none", ""),
        ("electra-cross-encoder", "sigmoid", ""),
        ("bert-cross-encoder", "sigmoid", "none"),
        ("roberta-cross-encoder", "sigmoid", "sigmoid"),
    ],
)
def test_scores_are_made_as_transformers_and_sentence_transformers_make_them(
    checkpoint: Checkpoint, compile_cache: Path, name: str, function: str, rerank: str
) -> None:
    found = ModelDescription.load(compile_model(checkpoint(name), cache=compile_cache))
    assert found.heads == ("sequence_classification",)
    assert (found.score_function, found.rerank_function, found.warnings) == (function, rerank, ())


def test_the_file_of_sentence_transformers_goes_before_the_config(copy: Copy) -> None:
    directory = copy("bert-cross-encoder")
    settings = directory / "config_sentence_transformers.json"
    write_json(settings, {"activation_fn": "torch.nn.modules.activation.Sigmoid"})
    assert read_config(directory).heads.scores.rerank_function == "sigmoid"
    write_json(settings, {"activation_fn": "own.Scaled"})
    scores = read_config(directory).heads.scores
    assert scores.rerank_function == ""
    assert scores.warnings == ("The checkpoint's function of reranking scores, own.Scaled, is not known.",)


@pytest.mark.parametrize(
    ("name", "heads", "labels"),
    [
        ("bert", (), 0),
        ("bert-pretraining", ("fill_mask", "next_sentence"), 0),
        ("camembert-ner", ("token_classification",), 7),
        ("xlm-roberta-qa", ("question_answering",), 0),
        ("bert-nli", ("sequence_classification",), 3),
    ],
)
def test_the_description_names_heads_and_labels(
    checkpoint: Checkpoint, compile_cache: Path, name: str, heads: tuple[str, ...], labels: int
) -> None:
    found = ModelDescription.load(compile_model(checkpoint(name), cache=compile_cache))
    assert (found.heads, len(found.labels), found.warnings) == (heads, labels, ())
