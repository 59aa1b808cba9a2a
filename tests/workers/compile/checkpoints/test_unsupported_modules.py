"""Test that what cannot be run of a checkpoint is refused, unless it may be left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bertstream.workers.compile.checkpoints import CheckpointError, read_sentence_settings
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.description import DefaultPooling, ModelDescription
from tests.support.checkpoints import edit_json, sentence_files, tiny_bert, write_json
from tests.support.sentence import HIDDEN, add_module

DENSE = {"in_features": 36, "out_features": 20, "activation_function": "torch.nn.modules.activation.ReLU"}
UNSUPPORTED: list[tuple[str, Callable[[Path], object], str]] = [
    ("CNN", lambda directory: add_module(directory, "CNN", "2_CNN"), "module CNN (2_CNN)"),
    ("LSTM", lambda directory: add_module(directory, "LSTM", "2_LSTM"), "module LSTM (2_LSTM)"),
    (
        "WeightedLayerPooling",
        lambda directory: add_module(directory, "WeightedLayerPooling", "2_W"),
        "module WeightedLayerPooling (2_W)",
    ),
    (
        "SpladePooling",
        lambda directory: add_module(directory, "SpladePooling", "2_S"),
        "module SpladePooling (2_S)",
    ),
    ("own code", lambda directory: add_module(directory, "custom_st.Pooling", "2_P"), "module custom_st.Pooling (2_P)"),
    (
        "Dense of tokens",
        lambda directory: add_module(directory, "Dense", "2_D", DENSE | {"module_input_name": "token_embeddings"}),
        "module Dense (2_D) from token_embeddings to token_embeddings",
    ),
    (
        "Dense to scores",
        lambda directory: add_module(directory, "Dense", "2_D", DENSE | {"module_output_name": "scores"}),
        "a SentenceTransformer whose modules end in scores",
    ),
    (
        "Normalize of tokens",
        lambda directory: add_module(directory, "Normalize", "2_N", {"module_input_name": "token_embeddings"}),
        "module Normalize (2_N) from token_embeddings to token_embeddings",
    ),
    (
        "activation",
        lambda directory: add_module(directory, "Dense", "2_D", DENSE | {"activation_function": "own.Act"}),
        "module Dense (2_D) with the activation own.Act",
    ),
    (
        "torch function",
        lambda directory: add_module(directory, "Dense", "2_D", DENSE | {"activation_function": "torch.sin"}),
        "module Dense (2_D) with the activation torch.sin",
    ),
    (
        "mode",
        lambda directory: write_json(directory / "1_Pooling" / "config.json", {"pooling_mode": ["mean", "attention"]}),
        "module Pooling (1_Pooling) by attention",
    ),
    (
        "task",
        lambda directory: write_json(directory / "sentence_bert_config.json", {"transformer_task": "text-generation"}),
        "module Transformer (model) with the task text-generation",
    ),
    (
        "logits",
        lambda directory: write_json(directory / "sentence_bert_config.json", {"transformer_task": "fill-mask"}),
        "module Pooling (1_Pooling) of logits",
    ),
    (
        "output",
        lambda directory: write_json(
            directory / "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "forward", "method_output_name": ["hidden_states", 3]}}},
        ),
        "module Transformer (model) that gives hidden_states.3 as token_embeddings",
    ),
    (
        "chat",
        lambda directory: write_json(
            directory / "sentence_bert_config.json", {"modality_config": {"text": {}, "message": {}}}
        ),
        "module Transformer (model) that gives answers to text, message as token_embeddings",
    ),
    (
        "code for the model",
        lambda directory: edit_json(directory / "config.json", auto_map={"AutoModel": "own--modeling.Own"}),
        "the checkpoint's own code for AutoModel",
    ),
    (
        "code for the tokenizer",
        lambda directory: edit_json(directory / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.T", None]}),
        "the checkpoint's own code for AutoTokenizer",
    ),
]


@pytest.mark.parametrize(("spoil", "what"), [each[1:] for each in UNSUPPORTED], ids=[each[0] for each in UNSUPPORTED])
def test_what_cannot_be_run_is_refused_unless_it_is_allowed(
    compile_cache: Path, tmp_path: Path, spoil: Callable[[Path], object], what: str
) -> None:
    directory = sentence_files(tiny_bert(tmp_path / "model", num_hidden_layers=1), normalize=False)
    spoil(directory)
    with pytest.raises(CheckpointError) as caught:
        compile_model(directory, cache=compile_cache)
    assert str(caught.value) == (
        f"{directory} cannot be served as its authors meant: {what} is not supported; "
        "to serve it without, say --allow-unsupported-modules"
    )
    compiled = compile_model(directory, cache=compile_cache, allow_unsupported_modules=True)
    found = ModelDescription.load(compiled)
    assert found.warnings[0] == f"What the checkpoint's authors meant is not done: {what} is not supported."
    assert found.default_pooling == DefaultPooling()
    with pytest.raises(CheckpointError):  # although it is in the cache
        compile_model(directory, cache=compile_cache)


def test_pooling_and_normalizing_stay_where_what_is_between_is_left_out(tmp_path: Path) -> None:
    directory = sentence_files(tmp_path, pooling={"pooling_mode": ["cls", "mean"]}, normalize=False)
    add_module(add_module(directory, "CNN", "2_CNN"), "Normalize", "3_Normalize")
    found = read_sentence_settings(directory, HIDDEN)
    assert (found.pooling.mode, found.pooling.width, found.pooling.normalize) == ("checkpoint", 72, True)
    assert found.unsupported == ("module CNN (2_CNN)",)
