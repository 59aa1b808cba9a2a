"""The C++ operators give ATen's numbers, and nothing breaks where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bertstream.workers import native
from bertstream.workers.compile import compile_model
from bertstream.workers.native import library
from bertstream.workers.program import Program

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])


@pytest.fixture
def no_memory() -> Iterator[None]:
    """Look for the compiler anew."""
    library.compiler.cache_clear()
    yield
    library.compiler.cache_clear()
    library._failures.clear()


@pytest.fixture(scope="module")
def operators(compile_cache: Path) -> None:
    native.load(native.build(compile_cache))


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("size", [1, 7, 16, 36, 384, 770])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 5e-6), (torch.bfloat16, 0.07)])
def test_add_layer_norm_equals_aten(size: int, dtype: torch.dtype, near: float) -> None:
    generator = torch.Generator().manual_seed(size)
    x, residual = (torch.randn(33, size, generator=generator).to(dtype) for _ in range(2))
    added, weight, bias = (torch.randn(size, generator=generator).to(dtype) for _ in range(3))
    total = x.double() + added.double() + residual.double()
    want = torch.nn.functional.layer_norm(total, (size,), weight.double(), bias.double(), 1e-5)
    got = torch.ops.bertstream.add_layer_norm_(x, added, residual, weight, bias, 1e-5)
    assert got.data_ptr() == x.data_ptr()
    assert float((got.double() - want).abs().max()) <= near


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_add_layer_norm_on_several_threads_is_the_same() -> None:
    x, residual = torch.randn(3000, 384), torch.randn(3000, 384)
    added, weight, bias = torch.randn(3, 384)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(torch.ops.bertstream.add_layer_norm_(x.clone(), added, residual, weight, bias, 1e-12))
    torch.set_num_threads(before)
    assert torch.equal(*found)


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_wrong_arguments_raise_and_do_not_crash() -> None:
    x, row = torch.zeros(4, 8), torch.zeros(8)
    wrong = [
        (x.t(), row, x.t(), row, row),
        (x, row, torch.zeros(4, 7), row, row),
        (x, torch.zeros(7), x, row, row),
        (x, row, x, row, torch.zeros(9)),
        (x, row, x.double(), row, row),
        (x.double(), row, x.double(), row, row),
        (torch.zeros(8), row, torch.zeros(8), row, row),
    ]
    for arguments in wrong:
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.add_layer_norm_(*arguments, 1e-5)
    empty = torch.zeros(0, 8)
    assert torch.ops.bertstream.add_layer_norm_(empty, row, empty, row, row, 1e-5).shape == (0, 8)


@needs_compiler
@pytest.mark.parametrize(("name", "dtype", "near"), [("bert", "float32", 5e-6), ("roberta", "bfloat16", 0.2)])
def test_programs_with_and_without_operators_agree(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: str,
    near: float,
) -> None:
    with_operators = Program.load(compile_model(checkpoint(name), dtype=dtype, cache=compile_cache), "cpu")
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    without = Program.load(compile_model(checkpoint(name), dtype=dtype, cache=compile_cache), "cpu")
    assert [program.description.native_operators for program in (with_operators, without)] == [True, False]
    ids = torch.randint(5, 300, (200,), dtype=torch.int32)
    layers = list(range(6))
    both = [program.hidden_states(ids, None, [100, 50, 50], layers) for program in (with_operators, without)]
    for got, want in zip(*both, strict=True):
        assert float((got.float() - want.float()).abs().max()) <= near


@needs_compiler
def test_a_second_build_is_a_look_up(compile_cache: Path) -> None:
    first = native.build(compile_cache)
    changed = first.stat().st_mtime_ns
    assert native.build(compile_cache) == first
    assert first.stat().st_mtime_ns == changed
    assert first.name == native.file_name()


def test_the_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    assert native.status() == (False, "switched off by BERTSTREAM_NATIVE=0")
    with pytest.raises(native.NativeError, match="switched off"):
        native.build(tmp_path)


@pytest.mark.usefixtures("no_memory")
def test_no_compiler_means_aten(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert native.status() == (False, "no C++ compiler found")
    program = Program.load(compile_model(checkpoint("bert"), cache=tmp_path), "cpu")
    assert not program.description.native_operators


@pytest.mark.usefixtures("no_memory")
def test_a_compiler_that_fails_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    script = tmp_path / "broken"
    count = f'[ "$1" = --version ] || echo x >> {asked}'
    script.write_text(f'#!/bin/sh\n{count}\necho "fatal error: no headers" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    for _ in range(2):
        with pytest.raises(native.NativeError, match="fatal error: no headers"):
            native.build(tmp_path)
    assert asked.read_text() == "x\n"
    assert "no headers" in native.status()[1]


@pytest.mark.usefixtures("no_memory")
def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "_loaded", [])
    (tmp_path / "bad.so").write_bytes(b"junk")
    with pytest.raises(native.NativeError, match=r"bad\.so cannot be loaded"):
        native.load(tmp_path / "bad.so")
