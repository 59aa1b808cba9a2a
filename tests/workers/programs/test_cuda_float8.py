"""Test fp8 and GELU at the end of a product, on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs import gpu_products
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import tiny_bert, tiny_roberta
from tests.support.pairs import packed, sizes
from tests.workers.programs.test_int8 import cosine, ranks, sentences

GPU = torch.device("cuda", 0)
NEW = torch.cuda.is_available() and torch.cuda.get_device_capability() >= gpu_products.FLOAT8_CAPABILITY
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
needs_float8 = pytest.mark.skipif(not NEW, reason="no GPU of compute capability 9.0 or newer")

LENGTHS = [1, 3, 3, 512, 7, 200, 200, 2]


@needs_float8
def test_its_products_are_right() -> None:
    assert gpu_products.float8_problem(GPU) == ""


@needs_float8
@pytest.mark.parametrize("switch", ["1", "0"], ids=["operators", "aten"])
def test_real_sentences(compile_cache: Path, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """This is as on the CPU in test_float8.py."""
    monkeypatch.setenv("BERTSTREAM_NATIVE", switch)
    directory = compile_model(checkpoints.embedded(), dtype="fp8", device="cuda", cache=compile_cache)
    program = ScriptedProgram.load(directory, GPU)
    want, lengths = sentences(), sizes(sentences().ids)
    (states,) = program.hidden_states(packed(want.ids).to(GPU), None, lengths, [program.description.layers])
    vectors = functional.normalize(program.pool(states, lengths, "mean").cpu(), dim=1)
    assert cosine(vectors, want.vectors) >= 0.994
    assert float(torch.corrcoef(torch.stack([ranks(vectors), ranks(want.vectors)]))[0, 1]) >= 0.995
    assert program.description.precision_test.min_cosine >= 0.97


@needs_float8
@pytest.mark.parametrize("maker", [tiny_bert, tiny_roberta])
def test_a_text_alone_is_near_that_among_others(maker: Callable[..., Path], tmp_path: Path) -> None:
    directory = maker(tmp_path / "made", hidden_size=48, num_attention_heads=3, intermediate_size=96)
    coarse, exact = (
        ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=tmp_path), GPU)
        for dtype in ("fp8", "float32")
    )
    ids = torch.randint(5, 300, (sum(LENGTHS),), generator=torch.Generator().manual_seed(2)).to(GPU, torch.int32)
    (together,), (want,) = (program.hidden_states(ids, None, LENGTHS, [5]) for program in (coarse, exact))
    assert cosine(together.float(), want) >= 0.98
    for text, states in zip(ids.split(LENGTHS), together.split(LENGTHS), strict=True):
        (alone,) = coarse.hidden_states(text, None, [len(text)], [5])
        assert cosine(alone.float(), states.float()) >= 0.98


@needs_float8
@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
def test_its_rows_are_made_by_one_kernel_each(tmp_path: Path, compile_cache: Path) -> None:
    directory = tiny_bert(tmp_path / "made", hidden_size=48, num_attention_heads=3, intermediate_size=96)
    program = ScriptedProgram.load(compile_model(directory, dtype="fp8", device="cuda", cache=compile_cache), GPU)
    assert program.description.native_operators
    ids, lengths = torch.arange(5, 65, device=GPU), [20, 20, 7, 13]
    program.hidden_states(ids, None, lengths, [5])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        program.hidden_states(ids, None, lengths, [5])
        torch.cuda.synchronize()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert (counts["quantize_rows_bfloat16"], counts["add_gelu_quantize_rows_bfloat16"]) == (15, 5)
    assert counts["add_layer_norm_bfloat16"] == 10


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"])
def test_gelu_at_the_end_of_a_product(activation: str, dtype: str, tmp_path: Path) -> None:
    assert gpu_products.epilogue_problem(GPU, getattr(torch, dtype)) == ""
    directory = tiny_bert(tmp_path / "made", hidden_size=48, num_attention_heads=3, hidden_act=activation)
    program = ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=tmp_path), GPU)
    exact = ScriptedProgram.load(compile_model(directory, device="cuda", cache=tmp_path), GPU)
    places = [each for each in program.module.modules() if hasattr(each, "epilogue")]
    assert [each.epilogue for each in places] == [True] * 5
    ids = torch.randint(5, 300, (sum(LENGTHS),), generator=torch.Generator().manual_seed(2)).to(GPU, torch.int32)
    (got,), (want,) = (each.hidden_states(ids, None, LENGTHS, [5]) for each in (program, exact))
    assert cosine(got.float(), want) >= (0.9999 if dtype == "float16" else 0.998)
