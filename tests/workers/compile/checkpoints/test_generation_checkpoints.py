"""Test what is read of a checkpoint's generation: settings, ids, and configurations of decoders."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from bertstream.workers.compile.checkpoints import CheckpointError, GenerationSettings, read_config, read_generation
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import edit_json, tiny_bert, write_json
from tests.support.generation_checkpoints import tiny_bert2bert, tiny_causal, transformers_model

SETTINGS = {
    "max_new_tokens": 30,
    "max_length": 50,
    "min_new_tokens": 2,
    "min_length": 3,
    "num_beams": 4,
    "num_return_sequences": 2,
    "length_penalty": 2.0,
    "early_stopping": "never",
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 11,
    "top_p": 0.9,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
}


def read(directory: Path, *, has_source: bool = False, first_token: int | None = None) -> GenerationSettings:
    return read_generation(
        directory, vocabulary_size=100, max_tokens=64, has_source=has_source, first_token=first_token
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a decoder "causal" and an encoder-decoder "both", to be read only."""
    folder = tmp_path_factory.mktemp("made")
    tiny_causal(folder / "causal")
    tiny_bert2bert(folder / "both", decoder_sizes={"hidden_size": 24})
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(made / name, tmp_path / name))


def edit_part(directory: Path, part: str, **changes: Any) -> None:
    """Set keys of one side's configuration; None removes one."""
    values = read_part(directory, part) | changes
    edit_json(directory / "config.json", **{part: {key: value for key, value in values.items() if value is not None}})


def read_part(directory: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))[part]
    return values


def described(directory: Path, cache: Path) -> ModelDescription:
    return ModelDescription.load(compile_model(directory, cache=cache))


# Settings and ids.


def test_all_settings_are_read(tmp_path: Path) -> None:
    ids = {"eos_token_id": [3, 5], "pad_token_id": 1, "bos_token_id": 2}
    write_json(tmp_path / "generation_config.json", {**SETTINGS, **ids, "use_cache": True})
    found = read(tmp_path)
    assert found.description.defaults == SETTINGS
    assert found.description.eos_token_ids == (3, 5)
    assert (found.description.pad_token_id, found.description.decoder_start_token_id) == (1, -1)
    assert (found.description.vocabulary_size, found.description.max_tokens) == (100, 64)
    assert found.warnings == ()


def test_a_checkpoint_without_settings_has_no_defaults(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    description = read(tmp_path).description
    assert (description.defaults, description.eos_token_ids, description.pad_token_id) == ({}, (), 0)


def test_the_end_stands_in_for_padding(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": 7})
    assert read(tmp_path).description.pad_token_id == 7


def test_the_file_for_it_hides_what_config_json_says(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"num_beams": 4, "eos_token_id": 3})
    write_json(tmp_path / "generation_config.json", {"num_beams": 2, "top_k": None})
    description = read(tmp_path).description
    assert (description.defaults, description.eos_token_ids) == ({"num_beams": 2}, ())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_beams", 0),
        ("num_beams", "two"),
        ("max_length", True),
        ("temperature", 0),
        ("top_p", 1.5),
        ("early_stopping", "always"),
        ("do_sample", 1),
        ("length_penalty", "long"),
        ("length_penalty", math.nan),
        ("temperature", math.inf),
    ],
)
def test_a_default_that_makes_no_sense_is_left_out_with_a_warning(tmp_path: Path, setting: str, value: Any) -> None:
    write_json(tmp_path / "generation_config.json", {"top_k": 5, setting: value})
    found = read(tmp_path)
    assert found.description.defaults == {"top_k": 5}
    (warning,) = found.warnings
    assert f"{setting} = {value!r}" in warning


def test_settings_that_are_not_done_are_named(tmp_path: Path) -> None:
    neutral = {"diversity_penalty": 0.0, "num_beam_groups": 1, "bad_words_ids": None, "typical_p": 1.0}
    write_json(tmp_path / "generation_config.json", neutral)
    assert read(tmp_path).warnings == ()
    write_json(tmp_path / "generation_config.json", neutral | {"forced_eos_token_id": 2, "bad_words_ids": [[5]]})
    (warning,) = read(tmp_path).warnings
    assert "bad_words_ids, forced_eos_token_id" in warning


@pytest.mark.parametrize("value", ["three", 3.5, [3, "four"], True])
def test_ids_are_numbers(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(CheckpointError, match="eos_token_id must be a token's id or a list of them"):
        read(tmp_path)


def test_an_end_beyond_the_vocabulary_never_comes(tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [100, 99, -1]})
    assert read(tmp_path).description.eos_token_ids == (99,)


@pytest.mark.parametrize(
    ("settings", "start"),
    [({"decoder_start_token_id": 5, "bos_token_id": 6}, 5), ({"bos_token_id": 6}, 6), ({}, 8)],
)
def test_what_a_decoder_begins_with(tmp_path: Path, settings: dict[str, int], start: int) -> None:
    write_json(tmp_path / "generation_config.json", settings)
    found = read(tmp_path, has_source=True, first_token=8)
    assert found.description.decoder_start_token_id == start
    assert [("decoder_start_token_id" in warning) for warning in found.warnings] == ([] if settings else [True])


@pytest.mark.parametrize("settings", [{"decoder_start_token_id": 100}, {"bos_token_id": [1, 2]}])
def test_a_decoder_begins_with_one_known_token(tmp_path: Path, settings: dict[str, Any]) -> None:
    write_json(tmp_path / "generation_config.json", settings)
    with pytest.raises(CheckpointError, match="must be the id of one token"):
        read(tmp_path, has_source=True, first_token=8)
    write_json(tmp_path / "generation_config.json", {})
    with pytest.raises(CheckpointError, match="neither decoder_start_token_id nor bos_token_id"):
        read(tmp_path, has_source=True)


def test_old_settings_are_resolved_as_transformers_resolves_them(copy: Callable[[str], Path]) -> None:
    """Without generation_config.json, config.json's own settings count, and then its decoder's."""
    directory = copy("both")
    (directory / "generation_config.json").unlink()
    outer = {"num_beams": 4, "length_penalty": 2.0, "max_length": 142, "early_stopping": True, "eos_token_id": 3}
    edit_json(directory / "config.json", **outer, decoder_start_token_id=None, bos_token_id=None, pad_token_id=None)
    inner = {"num_beams": 1, "max_length": 20, "min_length": 5, "top_k": 50, "temperature": 0.5, "eos_token_id": 9}
    edit_part(directory, "decoder", **inner, bos_token_id=7)
    found = read(directory, has_source=True).description
    theirs = transformers_model(directory).generation_config
    assert found.defaults == {key: getattr(theirs, key) for key in SETTINGS if getattr(theirs, key) is not None}
    assert found.defaults.keys() == (outer.keys() | inner.keys()) - {"eos_token_id"}
    assert found.eos_token_ids == (theirs.eos_token_id,) == (3,)
    assert found.decoder_start_token_id == theirs.bos_token_id == 7
    assert found.pad_token_id == theirs.pad_token_id


# Configurations and weights.


def test_a_decoder_without_a_head_is_a_causal_encoder(tmp_path: Path, compile_cache: Path) -> None:
    directory = tiny_bert(tmp_path / "model", is_decoder=True)
    description = described(directory, compile_cache)
    assert (description.heads, description.generation, description.warnings) == ((), None, ())
    assert read_config(directory).is_decoder


def test_a_language_model_that_attends_both_ways_does_not_generate(
    copy: Callable[[str], Path], compile_cache: Path
) -> None:
    directory = copy("causal")
    edit_json(directory / "config.json", is_decoder=False)
    description = described(directory, compile_cache)
    assert (description.generation, "causal_lm" in description.heads) == (None, False)
    assert any("is_decoder" in warning for warning in description.warnings)


def test_a_language_model_without_its_head_is_refused(copy: Callable[[str], Path], compile_cache: Path) -> None:
    directory = copy("causal")
    weights = load_file(directory / "model.safetensors")
    save_file(
        {name: w for name, w in weights.items() if "transform.dense" not in name}, directory / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"head causal_lm: cls\.predictions\.transform\.dense\.weight"):
        compile_model(directory, cache=compile_cache)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("encoder", {"is_decoder": True}, "is_decoder = True is not supported in an encoder"),
        ("encoder", {"model_type": "t5"}, "model_type 't5' is not supported"),
        ("decoder", {"is_decoder": None}, "is_decoder = None is not supported in a decoder"),
        ("decoder", {"add_cross_attention": False}, "add_cross_attention = False is not supported in a decoder"),
        ("decoder", {"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ("decoder", {"model_type": "distilbert"}, "distilbert has no decoders"),
        ("decoder", {"cross_attention_hidden_size": 36}, "cross_attention_hidden_size must be the decoder's hidden"),
        ("decoder", {"hidden_size": 25}, "hidden_size 25 is not a multiple"),
    ],
)
def test_sides_that_would_be_computed_wrongly_are_refused(
    copy: Callable[[str], Path], part: str, changes: dict[str, Any], message: str
) -> None:
    directory = copy("both")
    edit_part(directory, part, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


def test_a_side_is_a_configuration(copy: Callable[[str], Path]) -> None:
    directory = copy("both")
    edit_json(directory / "config.json", decoder="bert-base-uncased")
    with pytest.raises(CheckpointError, match="decoder must be the configuration of a model"):
        read_config(directory)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("enc_to_dec_proj.bias", r"of different sizes, and enc_to_dec_proj\.bias is not there"),
        (
            "decoder.bert.encoder.layer.1.crossattention.self.key.weight",
            r"the decoder: .*missing 1 \(encoder\.layer\.1\.crossattention\.self\.key\.weight\)",
        ),
        ("decoder.cls.predictions.transform.dense.bias", r"the decoder: .*cls\.predictions\.transform\.dense\.bias"),
        ("encoder.embeddings.LayerNorm.weight", r"missing 1 \(embeddings\.LayerNorm\.weight\)"),
    ],
)
def test_what_a_side_lacks_is_named(
    copy: Callable[[str], Path], compile_cache: Path, left_out: str, message: str
) -> None:
    directory = copy("both")
    weights = load_file(directory / "model.safetensors")
    del weights[left_out]
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        compile_model(directory, cache=compile_cache)


def test_a_decoder_of_other_sizes_than_said_is_refused(copy: Callable[[str], Path], compile_cache: Path) -> None:
    directory = copy("both")
    edit_part(directory, "decoder", intermediate_size=55)
    with pytest.raises(
        CheckpointError, match=r"decoder's weight layers\.0\.feed_forward\.intermediate\.weight is \[54, 24\]"
    ):
        compile_model(directory, cache=compile_cache)


def test_generation_settings_name_the_compiled_model(copy: Callable[[str], Path], compile_cache: Path) -> None:
    directory = copy("causal")
    before = compile_model(directory, cache=compile_cache)
    write_json(directory / "generation_config.json", {"eos_token_id": 3, "num_beams": 2})
    after = compile_model(directory, cache=compile_cache)
    assert after != before
    generation = ScriptedProgram.load(after, "cpu").description.generation
    assert generation is not None
    assert (generation.defaults, generation.eos_token_ids) == ({"num_beams": 2}, (3,))
