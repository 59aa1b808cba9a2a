"""Test the checkpoints that bertstream is for, as wide as they are, with random weights, against transformers."""

from __future__ import annotations

import contextlib
import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.interface import AttentionOptions
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import save_random_model, write_json
from tests.support.pairs import difference

pytestmark = pytest.mark.slow

BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
ROBERTA = BERT | {
    "architectures": ["RobertaModel"],
    "model_type": "roberta",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}
# For those that have another vocabulary than bert-base-uncased and nothing else: that one has all layers.
SHALLOW = BERT | {"directionality": "bidi", "num_hidden_layers": 2}
# Else as in their public config.json, except the names of the class with a head.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert-base-uncased": BERT,
    "bert-base-chinese": SHALLOW | {"vocab_size": 21128},
    "bert-base-multilingual-cased": SHALLOW | {"vocab_size": 119547},
    "bert-base-multilingual-uncased": SHALLOW | {"vocab_size": 105879},
    "roberta-base": ROBERTA,
    "distilroberta-base": ROBERTA | {"num_hidden_layers": 6},
}
LENGTHS = [7, 512, 33, 33]
EXACT = 1e-4


@pytest.fixture
def roomy() -> Iterator[Path]:
    """Yield a folder that is deleted after the test: pytest keeps its own for a while, and this takes a gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_and_attention(name: str, roomy: Path, compile_cache: Path) -> None:
    config = CONFIGS[name]
    directory = make(roomy / name, config)
    with contextlib.suppress(native.NativeError):
        native.provide(compile_cache)  # loaded from a folder that stays
        (roomy / "native").symlink_to(compile_cache / "native")
    program = ScriptedProgram.load(compile_model(directory, cache=roomy), "cpu")
    its = program.description
    assert (its.vocabulary_size, its.layers, its.max_tokens) == (config["vocab_size"], config["num_hidden_layers"], 512)
    assert (its.hidden_size, its.attention_heads, its.has_pooler) == (768, 12, True)
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, its.vocabulary_size, (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    ids[-1] = its.vocabulary_size - 1
    types = torch.randint(its.type_vocabulary_size, ids.shape, generator=generator, dtype=torch.int32)
    every = list(range(its.layers + 1))
    attention = AttentionOptions(tuple(every[1:]), tuple(range(len(LENGTHS))), tuple(range(12)))
    found = program.forward(ids, types, LENGTHS, every, attention)
    first = program.pooler(torch.stack([rows[0] for rows in found.states[-1].split(LENGTHS)]))
    del program
    gc.collect()
    model = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    rows = zip(*(state.split(LENGTHS) for state in found.states), strict=True)
    for i, (text, kinds, states) in enumerate(zip(ids.split(LENGTHS), types.split(LENGTHS), rows, strict=True)):
        with torch.inference_mode():
            options = {"output_hidden_states": True, "output_attentions": True}
            want = model(text.long()[None], token_type_ids=kinds.long()[None], **options)
        for state, expected in zip(states, want.hidden_states, strict=True):
            assert difference(state, expected[0]) <= EXACT
        for weights, expected in zip(found.weights, want.attentions, strict=True):
            assert difference(weights[i], expected[0]) <= EXACT
        assert difference(first[i : i + 1], want.pooler_output) <= EXACT


def make(directory: Path, config: dict[str, Any]) -> Path:
    """Make a checkpoint with random weights, and a tokenizer of as many nonsense words as it has ids."""
    settings = transformers.AutoConfig.for_model(**config)
    save_random_model(directory, config["architectures"][0], settings, noise=0.03)
    words = {f"w{i}": i for i in range(config["vocab_size"])}
    write_json(
        directory / "tokenizer.json",
        {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}},
    )
    return directory
