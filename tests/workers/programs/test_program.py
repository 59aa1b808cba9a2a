"""Test that a program's numbers are transformers' own, for texts of any lengths packed together."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from msgspec import structs
from torch import Tensor

from bertstream.workers import native
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import Pooling, PoolingMode
from bertstream.workers.native import cuda_library, library
from bertstream.workers.programs import gpu_products
from bertstream.workers.programs import program as programs
from bertstream.workers.programs.description import DefaultPooling
from bertstream.workers.programs.program import ProgramError, ScriptedProgram
from bertstream.workers.trust.seal import seal
from tests.support.checkpoints import TEXTS, edit_json
from tests.support.pairs import EXACT, Pair, difference, packed

pytestmark = pytest.mark.smoke

NAMES = ("bert", "bert-cased", "bert-mlm", "bert-gelu-new", "roberta", "roberta-pad", "roberta-classifier")


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_texts_packed_together_equals_each_text_alone(pair: Callable[[str], Pair], name: str) -> None:
    both = pair(name)
    ids, types = both.encode()
    lengths = [len(text) for text in ids]
    assert 512 in lengths
    states = both.run(ids, types, list(range(both.layers + 1)))
    of_text = zip(*(state.split(lengths) for state in states), strict=True)
    for text, kinds, rows in zip(ids, types, of_text, strict=True):
        for got, want in zip(rows, both.expected(text, kinds), strict=True):
            assert difference(got, want) <= EXACT


@pytest.mark.parametrize("name", ["bert", "roberta-pad"])
def test_texts_of_one_token(pair: Callable[[str], Pair], name: str) -> None:
    both = pair(name)
    (states,) = both.run([[7], [9], [7, 9]], None, [both.layers])
    want = torch.cat([both.expected(text)[-1] for text in ([7], [9], [7, 9])])
    assert difference(states, want) <= EXACT


def test_pairs_have_two_segments(pair: Callable[[str], Pair]) -> None:
    both = pair("bert")
    ids, types = both.encode((("a fox", "the dog"), ("the sun", "sleeps in the park")))
    assert {kind for kinds in types for kind in kinds} == {0, 1}
    (states,) = both.run(ids, types, [both.layers])
    want = torch.cat([both.expected(text, kinds)[-1] for text, kinds in zip(ids, types, strict=True)])
    assert difference(states, want) <= EXACT


def test_no_type_ids_mean_zeros(pair: Callable[[str], Pair]) -> None:
    both = pair("bert")
    ids, types = both.encode()
    zeros = [[0] * len(kinds) for kinds in types]
    assert torch.equal(both.run(ids, None, [both.layers])[0], both.run(ids, zeros, [both.layers])[0])


@pytest.mark.parametrize("name", ["roberta", "roberta-pad"])
def test_pad_ids_within_a_text_take_roberta_s_positions(pair: Callable[[str], Pair], name: str) -> None:
    both = pair(name)
    pad = both.model.config.pad_token_id
    ids = [[0, 40, 41, 2], [0, pad, 40, pad, 41, 42], [pad, pad], [40], [0, 40, pad]]
    (states,) = both.run(ids, None, [both.layers])
    want = torch.cat([both.expected(text)[-1] for text in ids])
    assert difference(states, want) <= EXACT


def test_order_of_texts_does_not_matter(pair: Callable[[str], Pair]) -> None:
    both = pair("bert")
    ids, _ = both.encode()
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(3)).tolist()
    straight = both.run(ids, None, [both.layers])[0].split([len(text) for text in ids])
    mixed = both.run([ids[i] for i in order], None, [both.layers])[0].split([len(ids[i]) for i in order])
    for place, i in enumerate(order):
        assert difference(mixed[place], straight[i]) <= EXACT


def test_300_texts_of_any_length_equal_each_alone(pair: Callable[[str], Pair]) -> None:
    both = pair("roberta")
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 513, (300,), generator=generator).tolist()
    lengths[:2] = [1, 512]
    ids = [torch.randint(5, 300, (length,), generator=generator).tolist() for length in lengths]
    states = both.run(ids, None, [both.layers])[0].split(lengths)
    for text, got in zip(ids, states, strict=True):
        assert difference(got, both.run([text], None, [both.layers])[0]) <= EXACT


def test_layers_come_in_the_order_asked_for_and_twice_if_asked_twice(pair: Callable[[str], Pair]) -> None:
    both = pair("bert")
    ids, _ = both.encode(("The quick brown fox", "a b"))
    every = both.run(ids, None, list(range(both.layers + 1)))
    asked = [4, 0, 2, 2]
    for layer, got in zip(asked, both.run(ids, None, asked), strict=True):
        assert torch.equal(got, every[layer])


def test_layers_above_the_highest_asked_for_are_not_computed(pair: Callable[[str], Pair]) -> None:
    both = pair("bert")
    ids, _ = both.encode(("The quick brown fox",))

    def products(layer: int) -> int:
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu, acc_events=True) as profile:  # without acc_events torch 2.11 warns
            both.run(ids, None, [layer])
        linear = ("aten::linear", "bertstream::linear")  # our linear operators have various endings
        return sum(event.count for event in profile.key_averages() if event.key.startswith(linear))

    assert [products(layer) for layer in (0, 1, 3)] == [0, 4, 12]


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_the_pooler_is_the_model_s_own(pair: Callable[[str], Pair], name: str) -> None:
    both = pair(name)
    ids, _ = both.encode()
    lengths = [len(text) for text in ids]
    (states,) = both.run(ids, None, [both.layers])
    first = torch.stack([rows[0] for rows in states.split(lengths)])
    with torch.no_grad():
        want = torch.cat([both.model(torch.tensor([text])).pooler_output for text in ids])
    assert difference(both.program.pooler(first), want) <= EXACT
    assert difference(both.program.pool(states, lengths, "pooler"), want) <= EXACT


@pytest.mark.parametrize("name", ["bert-mlm", "roberta-classifier"])
def test_a_checkpoint_without_a_pooler_has_none(pair: Callable[[str], Pair], name: str) -> None:
    both = pair(name)
    assert not both.program.description.has_pooler
    with pytest.raises(ValueError, match="no pooler"):
        both.program.pooler(torch.zeros(1, 36))
    with pytest.raises(ValueError, match="no pooler"):
        both.program.pool(torch.zeros(1, 36), [1], "pooler")


POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "cls": lambda rows: rows[0],
    "mean": lambda rows: rows.mean(0),
    "max": lambda rows: rows.amax(0),
    "mean_sqrt_len": lambda rows: rows.sum(0) / len(rows) ** 0.5,
    "weighted_mean": lambda rows: (rows * (places := torch.arange(1.0, len(rows) + 1)[:, None])).sum(0) / places.sum(),
    "last_token": lambda rows: rows[-1],
}


@pytest.mark.parametrize("mode", POOLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pooling(pair: Callable[[str], Pair], mode: str, dtype: torch.dtype) -> None:
    lengths = [3, 3, 1, 512, 7, 7, 7, 2]
    states = torch.randn(sum(lengths), 36, generator=torch.Generator().manual_seed(1)).to(dtype)
    got = pair("bert").program.pool(states, lengths, mode)
    assert got.dtype == torch.float32
    want = torch.stack([POOLED[mode](rows.float()) for rows in states.split(lengths)])
    assert difference(got, want) <= 1e-6


@pytest.mark.parametrize("mode", POOLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling_of_texts_that_are_laid_out_already(pair: Callable[[str], Pair], mode: str, dtype: torch.dtype) -> None:
    program, lengths = pair("bert").program, [3, 3, 1, 60, 7, 2]
    states = torch.randn(sum(lengths) + 4, 36, generator=torch.Generator().manual_seed(1)).to(dtype)
    states[sum(lengths) :] = torch.nan  # these belong to no text
    starts = torch.tensor([0, *lengths, 0, 0], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    want = program.pool(states[: sum(lengths)], lengths, mode)
    for rows in (states, states[: sum(lengths)]):
        got = program.pool_at(rows, starts, mode)
        assert got.dtype == torch.float32
        assert difference(got[:-2], want) <= 1e-5
        assert not bool(got[-2:].any())


@pytest.mark.parametrize("mode", [*POOLED, "pooler"])
def test_the_checkpoint_s_own_pooling_is_what_graphs_record(pair: Callable[[str], Pair], mode: PoolingMode) -> None:
    program = copy.copy(pair("bert").program)
    program.description = structs.replace(program.description, default_pooling=DefaultPooling(mode, True, 7))
    own = Pooling(mode, (program.description.layers,), normalize=True, dimensions=7)
    assert program.poolings == (() if mode == "pooler" else (replace(own, normalize=False), own))


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_half_precision_is_close(
    checkpoint: Callable[[str], Path], compile_cache: Path, dtype: str, near: float
) -> None:
    both = Pair(checkpoint("bert"), compile_cache, dtype=dtype)
    assert both.program.description.compute_type == dtype
    ids, types = both.encode()
    (states,) = both.run(ids, types, [both.layers])
    assert states.dtype == getattr(torch, dtype)
    want = torch.cat([both.expected(text, kinds)[-1] for text, kinds in zip(ids, types, strict=True)])
    assert float((states.float() - want).abs().mean()) <= near / 5
    assert float(torch.cosine_similarity(states.float(), want).min()) >= 1 - near / 10


def test_int64_ids_are_taken_too(pair: Callable[[str], Pair]) -> None:
    both = pair("roberta")
    ids = torch.tensor([0, 40, 41, 2])
    got = both.program.hidden_states(ids, None, [4], [1])[0]
    assert torch.equal(got, both.program.hidden_states(ids.int(), None, [4], [1])[0])


def test_the_embedded_model_gives_sentence_transformers_vectors(compile_cache: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(embedded()), device="cpu")
    program = ScriptedProgram.load(compile_model(embedded(), cache=compile_cache), "cpu")
    limit = program.description.default_max_length
    ids = [theirs.tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in TEXTS]
    lengths = [len(text) for text in ids]
    (states,) = program.hidden_states(packed(ids), None, lengths, [program.description.layers])
    got = torch.nn.functional.normalize(program.pool(states, lengths, "mean"), dim=-1)
    assert difference(got, torch.from_numpy(theirs.encode(list(TEXTS)))) <= EXACT


def test_a_program_for_another_device_is_refused(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    with pytest.raises(ProgramError, match="compiled for cpu, not cuda"):
        ScriptedProgram.load(compiled, "cuda")


def test_a_damaged_program_says_what_to_do(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    for file in compiled.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if file.name == "program.pt" else None])
    with pytest.raises(ProgramError, match="compile the model again"):
        ScriptedProgram.load(tmp_path, "cpu")


def test_missing_operators_say_what_to_do(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    for file in compiled.glob("*.[jp][st]*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit_json(tmp_path / "description.json", native_operators=True)
    seal(tmp_path)
    monkeypatch.setattr(library, "loaded", [])
    with pytest.raises(ProgramError, match=r"cannot be loaded: nobody has said where they are; start the server again"):
        ScriptedProgram.load(tmp_path, "cpu")
    other = tmp_path / library.library_name("of-another-processor")
    with pytest.raises(ProgramError, match=f"{other} is for other instructions than this process may use: "):
        ScriptedProgram.load(tmp_path, "cpu", other)


@pytest.mark.parametrize("reason", ["", "add_gelu_ (none) differs from ATen's"])
def test_operators_for_cuda_come_after_those_for_the_cpu_and_before_the_program(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    compiled = compile_model(checkpoint("bert"), dtype="float16", device="cuda", cache=compile_cache)
    (tmp_path / "description.json").write_bytes((compiled / "description.json").read_bytes())
    edit_json(tmp_path / "description.json", native_operators=True)
    seal(tmp_path)
    steps: list[object] = []

    def start(folder: Path, device: torch.device) -> str:
        steps.append((folder, device))
        return reason

    def use_epilogue(module: object, device: torch.device) -> str:
        steps.append(device)
        return reason

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(native, "load_sealed", steps.append)
    monkeypatch.setattr(cuda_library, "start", start)
    monkeypatch.setattr(programs, "load_sealed_module", lambda sealed, device: steps.append("program"))
    monkeypatch.setattr(gpu_products, "use_epilogue", use_epilogue)
    caplog.set_level(logging.INFO)
    ScriptedProgram.load(tmp_path, "cuda:1", tmp_path / "operators.so")
    gpu = torch.device("cuda", 1)
    assert steps == [tmp_path / "operators.so", (tmp_path, gpu), "program", gpu]
    logged = [(record.levelno, record.getMessage().rpartition(": ")[2]) for record in caplog.records]
    assert logged == ([(logging.WARNING, reason), (logging.INFO, reason)] if reason else [])


@pytest.mark.parametrize("pooling", [Pooling("mean", (0, 1)), Pooling("pooler", (0,))])
def test_encoding_gives_the_states_that_vectors_are_made_of(pair: Callable[[str], Pair], pooling: Pooling) -> None:
    program, ids = pair("bert").program, torch.tensor([5, 6, 7], dtype=torch.int32)
    last = program.description.layers
    needed = [0, 1] if pooling.mode == "mean" else [0, last]
    found = program.encode(ids, None, [2, 1], [0], frozenset({pooling}))
    assert list(found.states) == needed
    assert not found.vectors
    for layer, want in zip(needed, program.hidden_states(ids, None, [2, 1], needed), strict=True):
        assert torch.equal(found.states[layer], want)
