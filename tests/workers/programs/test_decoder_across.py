"""Test decoders of encoder-decoders: cross-attention, sides of different families and sizes, shared weights."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs import weights_file
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import edit_json
from tests.support.decoding import Decoding, Sequence, packed
from tests.support.generation_checkpoints import tiny_bert2bert, transformers_model, with_cache
from tests.support.pairs import EXACT, difference

TEXTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 20], list(range(20, 61))]
FULL_SIZE_EXACT = 1e-4

VARIANTS: dict[str, dict[str, Any]] = {
    "bert2bert": {},
    "shared": {"tied": True},
    "roberta2roberta": {"encoder": "roberta", "decoder": "roberta"},
    "shared-roberta": {"encoder": "roberta", "decoder": "roberta", "tied": True},
    "bert2roberta": {"decoder": "roberta"},
    "electra2bert": {"encoder": "electra"},
    "bert2electra": {"decoder": "electra"},
    "distilled": {"encoder": "xlm-roberta", "decoder": "xlm-roberta", "decoder_sizes": {"num_hidden_layers": 1}},
    "camembert2camembert": {"encoder": "camembert", "decoder": "camembert"},
    "narrower": {"decoder_sizes": {"hidden_size": 24}},
    "wider": {"decoder_sizes": {"hidden_size": 48, "num_attention_heads": 3, "vocab_size": 347}},
    "untied": {"decoder_sizes": {"tie_word_embeddings": False, "hidden_act": "relu"}},
}


@dataclass
class Across:
    """Hold a program, and transformers' model of the same checkpoint."""

    directory: Path
    program: ScriptedProgram
    model: Any

    @property
    def start(self) -> int:
        assert self.program.description.generation is not None
        return self.program.description.generation.decoder_start_token_id

    @torch.no_grad()
    def full(self, text: list[int], ids: list[int]) -> Tensor:
        """Return logits [V] after these ids, by transformers without a cache."""
        decoded = torch.tensor([ids])
        logits: Tensor = self.model(torch.tensor([text]), decoder_input_ids=decoded, use_cache=False).logits[0, -1]
        return logits

    @torch.no_grad()
    def cached(self, text: list[int], ids: list[int]) -> list[Tensor]:
        """Return logits [V] after each of these ids, by transformers with its cache."""
        cache = with_cache(EncoderDecoderCache(DynamicCache(), DynamicCache()))
        encoded = self.model.encoder(torch.tensor([text]))
        steps = [torch.tensor([[token]]) for token in ids]
        return [self.model(encoder_outputs=encoded, decoder_input_ids=step, **cache).logits[0, -1] for step in steps]


@pytest.fixture(scope="session")
def across(tmp_path_factory: pytest.TempPathFactory, compile_cache: Path) -> Callable[..., Across]:
    @functools.cache
    def make(name: str = "bert2bert", dtype: str = "float32") -> Across:
        directory = tiny_bert2bert(tmp_path_factory.mktemp("across"), **VARIANTS[name])
        program = ScriptedProgram.load(compile_model(directory, cache=compile_cache, dtype=dtype), "cpu")
        return Across(directory, program, transformers_model(directory))

    return make


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_are_those_of_transformers(across: Callable[..., Across], name: str) -> None:
    pair = across(name)
    decoding = Decoding(pair.program)
    sequences = decoding.encode(TEXTS)
    found = [decoding.step(sequences, [pair.start] * len(TEXTS))]
    for _ in range(5):
        found.append(decoding.step(sequences, found[-1].argmax(1).tolist()))
    for i, (text, sequence) in enumerate(zip(TEXTS, sequences, strict=True)):
        for step, want in enumerate(pair.cached(text, sequence.ids)):
            assert found[step].dtype == torch.float32
            assert difference(found[step][i], want) < EXACT
            assert difference(found[step][i], pair.full(text, sequence.ids[: step + 1])) < EXACT


@pytest.mark.parametrize("name", ["bert2bert", "shared-roberta", "electra2bert"])
def test_the_encoder_encodes_as_ever(across: Callable[..., Across], name: str) -> None:
    pair = across(name)
    description = pair.program.description
    assert (description.architecture, description.layers) == ("EncoderDecoderModel", 5)
    assert description.heads == ("sequence_to_sequence",)
    layers = list(range(description.layers + 1))
    found = pair.program.hidden_states(packed(TEXTS), None, [len(text) for text in TEXTS], layers)
    starts = torch.tensor([0, *(len(text) for text in TEXTS)]).cumsum(0).tolist()
    with torch.no_grad():
        for i, text in enumerate(TEXTS):
            wanted = pair.model.encoder(torch.tensor([text]), output_hidden_states=True).hidden_states
            for layer, want in enumerate(wanted):
                assert difference(found[layer][starts[i] : starts[i + 1]], want[0]) < EXACT


def test_the_decoder_s_sizes_are_told_apart_from_the_encoder_s(across: Callable[..., Across]) -> None:
    pair = across("wider")
    generation = pair.program.description.generation
    assert generation is not None
    assert generation.vocabulary_size == 347 != pair.program.description.vocabulary_size
    assert [tuple(layer.shape) for layer in pair.program.new_cache(7)] == [(2, 7, 48)] * 3
    # A RoBERTa over a vocabulary whose padding has the id 0.
    generation = across("bert2roberta").program.description.generation
    assert generation is not None
    assert generation.max_tokens == 511


def test_sequences_of_any_age_and_beams_share_a_step(across: Callable[..., Across]) -> None:
    pair = across("roberta2roberta")
    decoding = Decoding(pair.program)
    running: list[tuple[list[int], Sequence]] = []
    for step in range(6):
        if step < len(TEXTS):
            (joined,) = decoding.encode([TEXTS[step]])
            decoding.step([joined], [pair.start])
            running = [(TEXTS[step], joined), *running]
        if step == 3:
            text, parent = running[1]
            running += [(text, decoding.fork(parent)), (text, decoding.fork(parent))]
        if step == 4:
            del running[2]
        tokens = [30 + step + i for i in range(len(running))]
        logits = decoding.step([sequence for _, sequence in running], tokens)
        for i, (text, sequence) in enumerate(running):
            assert difference(logits[i], pair.full(text, sequence.ids)) < EXACT


def test_padding_tokens_count_as_transformers_counts_them(across: Callable[..., Across]) -> None:
    pair = across("roberta2roberta")
    tokens = [pair.start, 11, 1, 12, 1, 13]
    decoding = Decoding(pair.program)
    (sequence,) = decoding.encode([TEXTS[2]])
    for token, want in zip(tokens, pair.cached(TEXTS[2], tokens), strict=True):
        assert difference(decoding.step([sequence], [token])[0], want) < EXACT


def test_type_ids_of_the_source_count(across: Callable[..., Across]) -> None:
    pair = across("bert2bert")
    text, types = TEXTS[2], [0, 0, 0, 1, 1, 1]
    with torch.no_grad():
        encoded = pair.model.encoder(torch.tensor([text]), token_type_ids=torch.tensor([types]))
        want = pair.model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([[pair.start]])).logits[0, -1]
    cache, zero, first = pair.program.new_cache(8), torch.tensor([0]), torch.tensor([[7]])
    pair.program.encode_source(cache, packed([text]), torch.tensor(types), [6], torch.arange(6))
    source = torch.arange(6)[None]
    tokens = torch.tensor([pair.start])
    got = pair.program.step(cache, tokens, zero, first[0], first, zero + 1, source, zero + 6)
    assert difference(got[0], want) < EXACT


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_the_sides_share_is_there_once(across: Callable[..., Across], compile_cache: Path, dtype: str) -> None:
    pair = across("shared", dtype=dtype)
    module = pair.program.module
    named = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    matrix = "weight" if pair.program.description.products == "plain" else "packed"
    for name in ("embeddings.word.weight", f"layers.4.query_key_value.{matrix}", "layers.0.feed_forward.output.bias"):
        assert named[f"encoder.{name}"].data_ptr() == named[f"decoder.{name}"].data_ptr()
    once = sum(weight.nbytes for weight in {weight.data_ptr(): weight for weight in named.values()}.values())
    size = (compile_cache / "models" / pair.program.description.revision / weights_file.FILE_NAME).stat().st_size
    assert once < 0.7 * sum(weight.nbytes for weight in named.values())
    assert size < once + 400_000  # the index and what aligns the weights are the rest


def test_shared_weights_may_be_written_as_either_side_s(
    across: Callable[..., Across], compile_cache: Path, tmp_path: Path
) -> None:
    """Pickles have them twice."""
    pair = across("shared")
    expected = Decoding(pair.program)
    want = expected.step(expected.encode([TEXTS[0]]), [pair.start])
    decoders = load_file(pair.directory / "model.safetensors")
    encoders = {
        name.replace("decoder.bert.", "encoder."): weight.clone()
        for name, weight in decoders.items()
        if name.startswith("decoder.bert.") and "crossattention" not in name
    }
    own = {name: weight for name, weight in decoders.items() if "crossattention" in name or ".cls." in name}
    pooler = {name: weight for name, weight in decoders.items() if name.startswith("encoder.")}
    for number, weights in enumerate((encoders | own | pooler, encoders | decoders)):
        directory = tiny_bert2bert(tmp_path / f"written{number}", tied=True)
        save_file(weights, directory / "model.safetensors")
        program = ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu")
        decoding = Decoding(program)
        assert difference(decoding.step(decoding.encode([TEXTS[0]]), [pair.start]), want) == 0


def test_half_precision_stays_near(across: Callable[..., Across]) -> None:
    exact, half = Decoding(across("narrower").program), Decoding(across("narrower", dtype="bfloat16").program)
    (one,), (other,) = exact.encode([TEXTS[3]]), half.encode([TEXTS[3]])
    assert half.cache[0].dtype == torch.bfloat16
    for token in (2, 33, 44):
        want, got = exact.step([one], [token]), half.step([other], [token])
        assert got.dtype == torch.float32
        assert torch.cosine_similarity(got, want).item() > 0.999


def test_a_decoder_that_begins_with_nothing_begins_with_cls(tmp_path: Path, compile_cache: Path) -> None:
    directory = tiny_bert2bert(tmp_path / "model")
    edit_json(directory / "generation_config.json", decoder_start_token_id=None, bos_token_id=None)
    description = ScriptedProgram.load(compile_model(directory, cache=compile_cache), "cpu").description
    assert description.generation is not None
    assert description.generation.decoder_start_token_id == description.special_tokens["cls"][1]
    assert any("decoder_start_token_id" in warning for warning in description.warnings)


@pytest.fixture
def roomy(compile_cache: Path) -> Iterator[Path]:
    """Yield a cache with the operators that is deleted after the test: a program of full size takes a gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(native.NativeError):
            native.provide(compile_cache)  # loaded from a folder that stays
            (Path(folder) / "native").symlink_to(compile_cache / "native")
        yield Path(folder)


@pytest.mark.slow
def test_a_full_size_bert2bert(roomy: Path) -> None:
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    encoder = {"vocab_size": 30522, **sizes}
    directory = tiny_bert2bert(roomy / "model", encoder_sizes=encoder, decoder_sizes=sizes, noise=0.03)
    program = ScriptedProgram.load(compile_model(directory, cache=roomy), "cpu")
    pair = Across(directory, program, transformers_model(directory))
    decoding = Decoding(program)
    texts = [[101, *range(1000, 1100), 102], [101, 2054, 102]]
    sequences = decoding.encode(texts)
    found = [decoding.step(sequences, [101, 101])]
    for _ in range(3):
        found.append(decoding.step(sequences, found[-1].argmax(1).tolist()))
    for i, (text, sequence) in enumerate(zip(texts, sequences, strict=True)):
        for step, want in enumerate(pair.cached(text, sequence.ids)):
            assert difference(found[step][i], want) < FULL_SIZE_EXACT
