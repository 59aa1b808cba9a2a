"""Test NomicBERT and GTE in the forms that their authors published: settings, weights and code of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import GteModel

from bertstream.workers.compile.checkpoints import CheckpointError, read_config
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models.rotary import Rotary
from bertstream.workers.models.rotary_bert import RotaryBertShape
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import edit_json, tiny_gte, write_json
from tests.support.pairs import EXACT, Pair, difference, packed, sizes

Checkpoint = Callable[[str], Path]
IDS = [list(range(5, 60)), [7, 70, 12], [9]]
NOMIC_CODE = {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}
NEW_CODE = {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"}


def states(directory: Path, cache: Path) -> Tensor:
    """Return the last states of IDS by a checkpoint's program."""
    program = ScriptedProgram.load(compile_model(directory, cache=cache), "cpu")
    ids = torch.tensor([each for text in IDS for each in text], dtype=torch.int32)
    return program.hidden_states(ids, None, sizes(IDS), [program.description.layers])[0]


def changed_weights(directory: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    path = directory / "model.safetensors"
    save_file(dict(change(load_file(path))), path)


def own_nomic(checkpoint: Checkpoint, folder: Path, **config: Any) -> Path:
    """Make a NomicBERT of transformers one of its authors': by GPT-2's names of settings, with their code."""
    directory = Path(shutil.copytree(checkpoint("nomic_bert-mlm"), folder / "nomic"))
    theirs = json.loads((directory / "config.json").read_text("utf-8"))
    sizes = {"n_embd": 36, "n_layer": 3, "n_head": 3, "n_inner": 70, "layer_norm_epsilon": 1e-12, "n_positions": 700}
    kept = {key: theirs[key] for key in ("vocab_size", "type_vocab_size", "model_type")}
    own = {
        "activation_function": "swiglu",
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "prenorm": False,
        "rotary_emb_interleaved": False,
        "rotary_scaling_factor": None,
        "max_trained_positions": 2048,
        **dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"), False),
    }
    named = {"architectures": ["NomicBertForPreTraining"], "auto_map": NOMIC_CODE}
    write_json(directory / "config.json", {**kept, **sizes, **own, **named, **config})
    changed_weights(
        directory, lambda weights: {name.replace("nomic_bert.", "bert."): weight for name, weight in weights.items()}
    )
    return directory


def test_their_nomic_bert_is_transformers(checkpoint: Checkpoint, tmp_path: Path, compile_cache: Path) -> None:
    own = own_nomic(checkpoint, tmp_path)
    assert torch.equal(states(own, compile_cache), states(checkpoint("nomic_bert-mlm"), compile_cache))
    its = ScriptedProgram.load(compile_model(own, cache=compile_cache), "cpu").description
    assert (its.heads, its.max_tokens, its.warnings) == (("fill_mask",), 700, ())


def test_without_biases_of_the_head_they_are_zeros(checkpoint: Checkpoint, tmp_path: Path, compile_cache: Path) -> None:
    own = own_nomic(checkpoint, tmp_path)
    changed_weights(own, lambda found: {name: each for name, each in found.items() if not _is_head_bias(name)})
    program = ScriptedProgram.load(compile_model(own, cache=compile_cache), "cpu")
    x = torch.randn(4, 36, generator=torch.Generator().manual_seed(0))
    weights = load_file(own / "model.safetensors")
    head = "cls.predictions.transform."
    dense = functional.silu(x @ weights[f"{head}dense.weight"].T)
    norm = weights[f"{head}layer_norm.weight"], weights[f"{head}layer_norm.bias"]
    want = functional.layer_norm(dense, (36,), *norm, eps=1e-12) @ weights["bert.embeddings.word_embeddings.weight"].T
    assert difference(program.logits("fill_mask", x), want) <= EXACT


def _is_head_bias(name: str) -> bool:
    return name in ("cls.predictions.bias", "cls.predictions.transform.dense.bias")


def reference(weights: Mapping[str, Tensor], ids: list[int], base: float) -> Tensor:
    """Compute NomicBERT's paper for one text: 3 heads of 12, GELU in the gate, and biases everywhere."""

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (36,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    words, kinds = (weights[f"bert.embeddings.{name}_embeddings.weight"] for name in ("word", "token_type"))
    x = norm(words[ids] + kinds[0], "bert.emb_ln")
    angles = torch.outer(torch.arange(float(len(ids))), base ** (-torch.arange(0, 12, 2) / 12))
    turns = torch.polar(torch.ones_like(angles), angles)  # a pair of numbers is a complex one, and a turn a product
    for layer in (f"bert.encoder.layers.{number}." for number in range(3)):
        q, k, v = linear(x, f"{layer}attn.Wqkv").view(-1, 3, 3, 12).permute(1, 2, 0, 3)
        low, high = torch.stack([q, k]).chunk(2, -1)
        both = torch.complex(low, high) * turns
        q, k = torch.cat([both.real, both.imag], -1)
        attended = (q @ k.transpose(1, 2) / 12**0.5).softmax(-1) @ v
        x = norm(x + linear(attended.transpose(0, 1).flatten(1), f"{layer}attn.out_proj"), f"{layer}norm1")
        gated = linear(x, f"{layer}mlp.fc11") * functional.gelu(linear(x, f"{layer}mlp.fc12"))
        x = norm(x + linear(gated, f"{layer}mlp.fc2"), f"{layer}norm2")
    return x


def test_what_their_code_can_and_transformers_cannot(
    checkpoint: Checkpoint, tmp_path: Path, compile_cache: Path
) -> None:
    biased = dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias"), True)
    own = own_nomic(checkpoint, tmp_path, activation_function="geglu", rotary_emb_base=30, **biased)
    generator = torch.Generator().manual_seed(3)

    def with_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        matrices = [name for name in weights if name.endswith((".weight",)) and (".attn." in name or ".mlp." in name)]
        added = {name.replace(".weight", ".bias"): weights[name][:, 0] for name in matrices}
        return weights | {name: torch.randn(each.shape, generator=generator) / 4 for name, each in added.items()}

    changed_weights(own, with_biases)
    weights = load_file(own / "model.safetensors")
    want = torch.cat([reference(weights, text, 30.0) for text in IDS])
    assert difference(states(own, compile_cache), want) <= EXACT


def own_gte(directory: Path, **config: Any) -> Path:
    """Make a GTE of transformers one of its authors': under another name, with their code."""
    named = {"model_type": "new", "architectures": ["NewModel"], "auto_map": NEW_CODE, "rope_parameters": None}
    fixed = {"position_embedding_type": "rope", "layer_norm_type": "layer_norm", "pack_qkv": True}
    edit_json(directory / "config.json", **named, **fixed, logn_attention_scale=False, **config)
    changed_weights(directory, lambda found: {f"new.{name}": weight for name, weight in found.items()})
    return directory


def test_their_gte_with_scaled_angles_is_transformers(tmp_path: Path, compile_cache: Path) -> None:
    """Fixed NTK scaling is another base, and all angles divided by the same number."""
    linear = {"rope_type": "linear", "rope_theta": 160_000.0, "factor": 8.0 ** (2 / 12)}
    directory = tiny_gte(tmp_path / "gte", rope_parameters=linear, type_vocab_size=0)
    both = Pair(directory, compile_cache)
    want = torch.cat([both.expected(text)[-1] for text in IDS])
    assert difference(states(directory, compile_cache), want) <= EXACT
    own = own_gte(directory, rope_theta=20_000, rope_scaling={"type": "ntk", "factor": 8.0})
    assert difference(states(own, compile_cache), want) <= EXACT
    its = ScriptedProgram.load(compile_model(own, cache=compile_cache), "cpu").description
    assert (its.family, its.type_vocabulary_size, its.has_pooler, its.warnings) == ("new", 0, False, ())


def test_weights_of_theirs_in_a_checkpoint_of_transformers(
    checkpoint: Checkpoint, tmp_path: Path, compile_cache: Path
) -> None:
    directory = Path(shutil.copytree(checkpoint("gte-classifier"), tmp_path / "copy"))
    changed_weights(directory, lambda found: {name.replace("gte.", "new."): each for name, each in found.items()})
    assert torch.equal(states(directory, compile_cache), states(checkpoint("gte-classifier"), compile_cache))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("nomic_bert", {"activation_function": "gelu"}, "activation_function 'gelu' is not supported; these are: swi"),
        ("nomic_bert", {"prenorm": True}, "prenorm = True is not supported"),
        ("nomic_bert", {"moe_every_n_layers": 2}, "moe_every_n_layers = 2 is not supported"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction = 0.5 is not supported"),
        ("nomic_bert", {"head_dim": 10}, "head_dim 10 must be hidden_size 36 / num_attention_heads 3"),
        ("nomic_bert", {"n_embd": "x"}, "hidden_size must be a whole number from 1 to 65,536, not 'x'"),
        ("nomic_bert", {"qkv_proj_bias": "no"}, "qkv_proj_bias must be true or false, not 'no'"),
        ("gte", {"position_embedding_type": "absolute"}, "position_embedding_type = 'absolute' is not supported for g"),
        ("gte", {"logn_attention_scale": True}, "logn_attention_scale = True is not supported for gte"),
        ("gte", {"type_vocab_size": -1}, "type_vocab_size must be a whole number from 0 to 65,536, not -1"),
        (
            "gte",
            {"rope_parameters": {"rope_type": "ntk", "factor": 8, "mixed_b": 0.7}},
            "rope_parameters: partial_rotary_factor and mixed_b are not supported",
        ),
        ("nomic_bert", {"rotary_scaling_factor": 0.5}, "rotary_scaling_factor must be at least 1, not 0.5"),
        (
            "nomic_bert",
            {"rotary_scaling_factor": 2, "max_trained_positions": "x"},
            "the trained length of texts must be",
        ),
        (
            "gte",
            {"rope_parameters": {"rope_type": "dynamic"}},
            "rope_parameters: factor must be a number above 0, not No",
        ),
        (
            "gte",
            {"rope_parameters": {"rope_type": "ntk"}},
            "rope_parameters: factor must be a number above 0, not None",
        ),
        ("gte", {"hidden_size": 27}, "rotary positions need heads of an even size, and config.json says 27 in 3 heads"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, name: str, values: dict[str, Any], message: str
) -> None:
    directory = Path(shutil.copytree(checkpoint(name), tmp_path / "copy"))
    edit_json(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


@pytest.mark.parametrize(
    ("values", "positions"),
    [
        ({}, 512),
        ({"n_positions": 8192}, 8192),
    ],
)
def test_texts_are_as_long_as_positions_are_known(
    checkpoint: Checkpoint, tmp_path: Path, values: dict[str, Any], positions: int
) -> None:
    assert shape_of(checkpoint("nomic_bert"), tmp_path, values) == (positions, Rotary(1000.0))


@pytest.mark.parametrize(
    ("name", "values", "trained", "positions"),
    [
        ("nomic_bert", {"n_positions": 8192, "rotary_scaling_factor": 2, "max_trained_positions": 2048}, 2048, 8192),
        ("nomic_bert", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000.0}}, 512, 1024),
        ("gte", {"rope_parameters": {"rope_type": "dynamic", "factor": 2, "rope_theta": 1000.0}}, 512, 1024),
    ],
)
def test_longer_texts_have_angles_by_their_length(
    checkpoint: Checkpoint, tmp_path: Path, name: str, values: dict[str, Any], trained: int, positions: int
) -> None:
    found = shape_of(checkpoint(name), tmp_path, values)
    assert found == (positions, Rotary(1000.0, dynamic=2.0, trained=trained))


def shape_of(base: Path, folder: Path, values: dict[str, Any]) -> tuple[int, Rotary]:
    """Return the tokens of the longest text, and its angles, of a checkpoint with other settings."""
    directory = Path(shutil.copytree(base, folder / "copy"))
    edit_json(directory / "config.json", **values)
    shape = read_config(directory).shape
    assert isinstance(shape, RotaryBertShape)
    return shape.max_tokens, shape.rotary


def test_a_text_beyond_the_trained_length_is_transformers_alone(tmp_path: Path, compile_cache: Path) -> None:
    """Whose angles are those of the longest text of a batch, so that each text is computed by a model of its own."""
    scaled = {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 3.0}
    directory = tiny_gte(tmp_path / "gte", rope_parameters=scaled, max_position_embeddings=20)
    texts = [list(range(5, 65)), list(range(5, 25)), list(range(5, 47)), list(range(9, 51)), [9]]
    program = ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu")
    assert program.description.max_tokens == 60
    (found,) = program.hidden_states(packed(texts), None, sizes(texts), [program.description.layers])
    for ids, each in zip(texts, found.split(sizes(texts)), strict=True):
        model: Any = GteModel.from_pretrained(directory)
        with torch.inference_mode():
            want = model(torch.tensor([ids])).last_hidden_state[0]
        assert difference(each, want) <= EXACT
        (alone,) = program.hidden_states(packed([ids]), None, [len(ids)], [program.description.layers])
        if program.description.products == "packed":
            assert torch.equal(alone, each)


def test_code_of_others_under_the_same_name_is_not_run(checkpoint: Checkpoint, tmp_path: Path) -> None:
    own = own_nomic(checkpoint, tmp_path)
    assert read_config(own).unsupported == ()
    edit_json(own / "config.json", auto_map={"AutoModel": "someone/else--modeling_other.NomicBertModel"})
    assert read_config(own).unsupported == ("the checkpoint's own code for AutoModel",)
