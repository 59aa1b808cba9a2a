"""Test the operators' kernels on a GPU, and ATen's for what they do not take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.native import cuda_library
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import tiny_bert

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(not native.status()[0], reason=native.status()[1]),
]


@pytest.fixture(scope="module")
def kernels(compile_cache: Path) -> Iterator[None]:
    native.load(native.build(compile_cache))
    assert cuda_library.load(cuda_library.build(compile_cache)) == ""
    assert cuda_library.switch_on(0) == ""
    yield
    torch.ops.bertstream.use_cuda_kernels(0, False)


@pytest.mark.usefixtures("kernels")
def test_their_numbers_are_aten_s() -> None:
    assert cuda_library.differences(torch.device("cuda", 0)) == ""


@pytest.mark.usefixtures("kernels")
def test_they_are_one_kernel_each() -> None:
    x, row = torch.randn(64, 768, device="cuda").half(), torch.randn(768, device="cuda").half()
    torch.ops.bertstream.add_gelu_(x, row, False)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        torch.ops.bertstream.add_layer_norm_(x, row, x.clone(), row, row, 1e-5)
        torch.ops.bertstream.add_gelu_(x, row, False)
        torch.cuda.synchronize()
    names = [event.key for event in profile.key_averages()]
    assert "add_layer_norm_float16" in names
    assert "add_gelu_float16" in names


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("size", [1, 7, 36, 10_000])
def test_what_they_do_not_take_is_aten_s(size: int) -> None:
    x, residual = torch.randn(2, 5, size, device="cuda").unbind()
    added, weight, bias = torch.randn(3, size, device="cuda").unbind()
    want = functional.layer_norm(x + residual + added, (size,), weight, bias, 1e-5)
    mine = x.clone()
    torch.ops.bertstream.add_layer_norm_(mine, added, residual, weight, bias, 1e-5)
    torch.testing.assert_close(mine, want, atol=1e-4, rtol=1e-4)
    mine = x.clone()
    torch.ops.bertstream.add_gelu_(mine, added, True)
    torch.testing.assert_close(mine, functional.gelu(x + added, approximate="tanh"), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_they_are_recorded_in_a_graph() -> None:
    x, row = torch.randn(64, 768, device="cuda").half(), torch.randn(768, device="cuda").half()
    want = torch.ops.bertstream.add_gelu_(x.clone(), row, False)
    graph, given = torch.cuda.CUDAGraph(), torch.zeros_like(x)
    with torch.cuda.graph(graph):
        found = torch.ops.bertstream.add_gelu_(given.clone(), row, False)
    given.copy_(x)
    graph.replay()
    assert torch.equal(found, want)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(("dtype", "near"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_a_program_takes_them(
    dtype: str, near: float, tmp_path: Path, compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tiny_bert(tmp_path / "checkpoint", hidden_size=48, num_attention_heads=3)
    ids, lengths = torch.arange(5, 65, device="cuda"), [20, 20, 7, 13]
    program = ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=compile_cache), "cuda")
    assert program.description.native_operators
    program.hidden_states(ids, None, lengths, [5])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        (got,) = program.hidden_states(ids, None, lengths, [5])
        torch.cuda.synchronize()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert (counts[f"add_layer_norm_{dtype}"], counts[f"add_gelu_{dtype}"]) == (10, 5)
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    plain = ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=compile_cache), "cuda")
    assert not plain.description.native_operators
    (want,) = plain.hidden_states(ids, None, lengths, [5])
    assert float((got.float() - want.float()).abs().max()) <= near
