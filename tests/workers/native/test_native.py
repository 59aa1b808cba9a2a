"""Test that the C++ operators give ATen's numbers, and that all works where there is no compiler."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.native import library, processor
from bertstream.workers.programs.program import ScriptedProgram
from bertstream.workers.trust.ownership import TrustError

needs_compiler = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])


@pytest.fixture
def no_memory() -> Iterator[None]:
    """Look for the compiler anew."""
    library.compiler.cache_clear()
    yield
    library.compiler.cache_clear()
    library.failures.clear()


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
    x, residual = random(2, 3000, 384)
    added, weight, bias = random(3, 384, seed=1)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(torch.ops.bertstream.add_layer_norm_(x.clone(), added, residual, weight, bias, 1e-12))
    torch.set_num_threads(before)
    assert torch.equal(*found)


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_rows_without_columns_stay_empty() -> None:
    for rows in (0, 3):
        x, none = torch.zeros(rows, 0), torch.zeros(0)
        assert torch.ops.bertstream.add_gelu_(x, none, False).shape == (rows, 0)
        assert torch.ops.bertstream.add_layer_norm_(x, none, x.clone(), none, none, 1e-5).shape == (rows, 0)


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


GELU_FORMS = {"none": False, "tanh": True}


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("form", GELU_FORMS)
@pytest.mark.parametrize("size", [1, 7, 16, 40, 1536])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 0.04)])
def test_add_gelu_equals_aten(form: str, size: int, dtype: torch.dtype, near: float) -> None:
    """The sum and the result are rounded by up to 5e-7 each, as they are below 16."""
    generator = torch.Generator().manual_seed(size)
    x, added = (torch.randn(33, size, generator=generator) * 3).to(dtype), torch.randn(size, generator=generator)
    want = functional.gelu(x.double() + added.to(dtype).double(), approximate=form)
    got = torch.ops.bertstream.add_gelu_(x, added.to(dtype), GELU_FORMS[form])
    assert got.data_ptr() == x.data_ptr()
    assert float((got.double() - want).abs().max()) <= near


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("form", GELU_FORMS)
def test_gelu_is_exact_everywhere(form: str) -> None:
    x = torch.linspace(-30, 30, 600_001).view(1, -1)
    want = functional.gelu(x.double(), approximate=form)
    got = torch.ops.bertstream.add_gelu_(x.clone(), torch.zeros(x.size(1)), GELU_FORMS[form])
    assert float((got.double() - want).abs().max()) <= 2e-6
    ends = torch.tensor([[-1e4, 1e4, torch.inf, torch.nan]])
    found = torch.ops.bertstream.add_gelu_(ends, torch.zeros(4), GELU_FORMS[form])[0]
    assert found[:3].tolist() == [0.0, 1e4, torch.inf]
    assert bool(found[3].isnan())


LENGTHS = ([1], [5, 1, 2], [16, 16, 15, 17], [70, 48, 33, 33, 32, 31, 8, 1, 1], [512, 513, 3])


def attended(qkv: Tensor, lengths: list[int], heads: int, causal: bool) -> Tensor:
    """Attend to each text by itself.

    qkv: [T, 3H] -> [T, H].
    """
    found = []
    for rows in qkv.split(lengths):
        q, k, v = rows.view(len(rows), 3, heads, -1).permute(1, 2, 0, 3)
        found.append(functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(0, 1).flatten(1))
    return torch.cat(found)


def starts(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "size"), [(3, 12), (1, 16), (2, 32), (2, 64), (1, 7), (1, 96), (1, 128)])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_attention_equals_aten(
    lengths: list[int], heads: int, size: int, causal: bool, dtype: torch.dtype, near: float
) -> None:
    qkv = random(sum(lengths), 3 * heads * size).to(dtype)
    want = attended(qkv.double(), lengths, heads, causal)
    got = torch.ops.bertstream.attention(qkv, None, starts(lengths), heads, causal)
    assert got.dtype == dtype
    assert float((got.double() - want).abs().max()) <= near


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize(("heads", "size"), [(3, 12), (2, 32), (2, 64)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 5e-6), (torch.bfloat16, 0.1)])
def test_attention_adds_a_bias_first(heads: int, size: int, dtype: torch.dtype, near: float) -> None:
    lengths = [70, 17, 5]
    qkv, bias = random(92, 3 * heads * size).to(dtype), random(3 * heads * size, seed=1).to(dtype)
    want = attended(qkv.double() + bias.double(), lengths, heads, False)
    got = torch.ops.bertstream.attention(qkv, bias, starts(lengths), heads, False)
    assert float((got.double() - want).abs().max()) <= near


def by_distance(rows: Tensor, tokens: int) -> Tensor:
    """Return the bias of every query and key, computed one by one.

    rows: [heads, 2 span - 1] -> [heads, tokens, tokens].
    """
    middle = rows.size(1) // 2
    lines = [rows[:, middle - query : middle - query + tokens] for query in range(tokens)]
    return torch.stack(lines, 1)


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize(("heads", "size"), [(3, 12), (2, 32), (2, 64), (1, 7)])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 5e-6), (torch.bfloat16, 0.02)])
def test_attention_adds_a_bias_by_distance(
    lengths: list[int], heads: int, size: int, more: int, dtype: torch.dtype, near: float
) -> None:
    """The bias may reach further than the longest text, and what stands beside it in memory is not read."""
    qkv, span = random(sum(lengths), 3 * heads * size).to(dtype), max(lengths) + more
    rows = random(heads, 2 * span - 1, seed=1) * 2
    want = []
    for text in qkv.double().split(lengths):
        q, k, v = text.view(len(text), 3, heads, -1).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2) * size**-0.5 + by_distance(rows.double(), len(text))
        want.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    got = torch.ops.bertstream.attention(qkv, None, starts(lengths), heads, False, rows)
    assert got.dtype == dtype
    assert float((got.double() - torch.cat(want)).abs().max()) <= near
    edged = torch.cat([torch.full_like(rows[:1], torch.nan), rows, torch.full_like(rows[:1], torch.nan)])
    again = torch.ops.bertstream.attention(qkv, None, starts(lengths), heads, False, edged[1:-1])
    assert torch.equal(again, got)


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("distances", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_does_not_depend_on_other_texts_nor_on_threads(dtype: torch.dtype, distances: bool) -> None:
    lengths = [130, 40, 40, 23, 9, 1]
    qkv = random(sum(lengths), 3 * 64).to(dtype)
    rows = random(2, 2 * lengths[0] - 1, seed=1)

    def attend(qkv: Tensor, lengths: list[int]) -> Tensor:
        cut = 130 - max(lengths)
        own = (rows[:, cut : rows.size(1) - cut].contiguous(),) if distances else ()
        found: Tensor = torch.ops.bertstream.attention(qkv, None, starts(lengths), 2, False, *own)
        return found

    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(attend(qkv, lengths))
    torch.set_num_threads(before)
    alone = [attend(text, [len(text)]) for text in qkv.split(lengths)]
    assert all(torch.equal(each, torch.cat(alone)) for each in found)


@needs_compiler
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_large_scores_and_of_none(dtype: torch.dtype) -> None:
    """Large scores make a softmax that is one token; NaN stays in its own text."""
    qkv = torch.cat([torch.eye(32) * 100, torch.eye(32) * 100, random(32, 32)], 1).to(dtype)
    found = torch.ops.bertstream.attention(qkv, None, starts([32]), 1, False)
    assert torch.equal(found, qkv[:, 64:])
    for column in (0, 32, 64):
        spoilt = random(40, 96, seed=column).to(dtype)
        spoilt[3, column] = torch.nan
        found = torch.ops.bertstream.attention(spoilt, None, starts([20, 20]), 1, False)
        assert bool(found[3, 0].isnan())
        assert bool(found[20:].isfinite().all())


@needs_compiler
@pytest.mark.usefixtures("operators")
def test_attention_refuses_what_it_cannot_read() -> None:
    qkv, texts = torch.zeros(4, 96), torch.tensor([0, 4], dtype=torch.int32)
    wrong = [
        (qkv.t(), None, texts, 1),
        (qkv.double(), None, texts, 1),
        (qkv, torch.zeros(95), texts, 1),
        (qkv, None, texts.long(), 1),
        (qkv, None, texts + 1, 1),
        (qkv, None, torch.tensor([0, 5, 4], dtype=torch.int32), 1),
        (qkv, None, torch.tensor([0, 3], dtype=torch.int32), 1),
        (qkv, None, texts[:0], 1),
        (qkv, None, texts, 5),
        (qkv, None, texts, 0),
    ]
    for arguments in wrong:
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.attention(*arguments, False)
    for rows in (torch.zeros(3, 7), torch.zeros(2, 8), torch.zeros(2, 5), torch.zeros(2, 7).double(), torch.zeros(7)):
        with pytest.raises(RuntimeError, match="distances must"):
            torch.ops.bertstream.attention(qkv, None, texts, 2, False, rows)
    assert torch.ops.bertstream.attention(qkv[:0], None, texts[:1], 1, False).shape == (0, 32)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "dtype", "near"),
    [("bert", "float32", 5e-6), ("bert-gelu-new", "float32", 5e-6), ("roberta", "bfloat16", 0.2)],
)
def test_programs_with_and_without_operators_agree(
    checkpoint: Callable[[str], Path],
    compile_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    dtype: str,
    near: float,
) -> None:
    with_operators = ScriptedProgram.load(compile_model(checkpoint(name), dtype=dtype, cache=compile_cache), "cpu")
    monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    without = ScriptedProgram.load(compile_model(checkpoint(name), dtype=dtype, cache=compile_cache), "cpu")
    assert [program.description.native_operators for program in (with_operators, without)] == [True, False]
    ids = torch.randint(5, 300, (200,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
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
    assert native.failures == []  # it was meant


@needs_compiler
@pytest.mark.usefixtures("no_memory")
def test_an_old_processor_means_aten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"sse4_2", "avx"}))
    with pytest.raises(native.NativeError, match="no AVX2"):
        native.build(tmp_path)
    assert "no AVX2" in native.status()[1]


@pytest.mark.usefixtures("no_memory")
def test_no_compiler_means_aten(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert native.status() == (False, "no C++ compiler found")
    program = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=tmp_path), "cpu")
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
@pytest.mark.parametrize(
    "ends",
    ["echo 'error: writing to /tmp/a.s: No space left on device' >&2; exit 1", "kill -9 $$"],
    ids=["disk", "memory"],
)
def test_a_compiler_that_lacked_room_is_asked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: str) -> None:
    asked = tmp_path / "asked"
    script = tmp_path / "starved"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\necho x >> {asked}\n{ends}\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    for _ in range(2):
        with pytest.raises(native.NativeError):
            native.build(tmp_path)
    assert asked.read_text() == "x\nx\n"


@pytest.fixture
def stub_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """Use a compiler that writes a few bytes; return a function that counts its calls."""
    asked = tmp_path / "asked"
    script = tmp_path / "stub"
    work = f'echo x >> {asked}\nsleep 0.1\nfor last; do :; done\necho library > "$last"\n'
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\n{work}')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    return lambda: len(asked.read_text().split())


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize(
    "damage",
    [
        lambda built: built.write_bytes(b"planted"),
        lambda built: built.unlink(),
        lambda built: built.with_name("more.so").touch(),
        lambda built: built.parent.chmod(0o777),
    ],
    ids=["planted", "missing", "additional", "open"],
)
def test_a_library_that_is_not_as_it_was_built_is_built_anew(
    stub_compiler: Callable[[], int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
) -> None:
    built = native.build(tmp_path / "cache")
    assert native.build(tmp_path / "cache") == built
    assert (stub_compiler(), built.read_text()) == (1, "library\n")
    damage(built)
    assert native.build(tmp_path / "cache") == built
    assert (stub_compiler(), built.read_text()) == (2, "library\n")
    assert [path.name for path in built.parent.iterdir() if path.suffix == ".so"] == [built.name]
    (record,) = caplog.records
    assert record.getMessage().startswith(str(built.parent))
    assert "put aside" in record.getMessage()


@pytest.mark.usefixtures("no_memory")
def test_what_a_killed_builder_left_is_removed_by_the_next(stub_compiler: Callable[[], int], tmp_path: Path) -> None:
    built = native.build(tmp_path / "cache")
    place = built.parent
    shutil.rmtree(place)
    (place.parent / f".{place.name}.abandon").mkdir()
    (place.parent / ".another.abandon").mkdir()
    assert native.build(tmp_path / "cache") == built
    assert stub_compiler() == 2
    folders = {path.name for path in place.parent.iterdir() if path.is_dir()}
    assert folders == {place.name, ".another.abandon"}  # the other may be under way


@pytest.mark.usefixtures("no_memory")
def test_several_at_once_build_it_once(stub_compiler: Callable[[], int], tmp_path: Path) -> None:
    """Use threads, which exclude each other as processes do."""
    begin = threading.Barrier(4)

    def build() -> Path:
        begin.wait()
        return native.build(tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        built = {each.result() for each in [pool.submit(build) for _ in range(4)]}
    assert [path.read_text() for path in built] == ["library\n"]
    assert stub_compiler() == 1


@pytest.mark.usefixtures("no_memory")
def test_nothing_is_built_where_others_may_write(stub_compiler: Callable[[], int], tmp_path: Path) -> None:
    native.build(tmp_path / "cache")
    (tmp_path / "cache" / "native").chmod(0o777)
    with pytest.raises(TrustError, match=r"cache/native may be written to by others \(mode 0777\)"):
        native.build(tmp_path / "cache")
    assert stub_compiler() == 1


@pytest.mark.usefixtures("no_memory")
def test_what_root_has_built_needs_no_writing(
    stub_compiler: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is so in an image whose cache was filled when it was made."""
    built = native.build(tmp_path / "cache")
    monkeypatch.setattr("bertstream.workers.native.library.make_folder", lambda folder: pytest.fail("it writes"))
    assert native.build(tmp_path / "cache") == built
    assert stub_compiler() == 1


def read_only(*arguments: object, **options: object) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/somewhere")


def open_to_read(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
    return read_only() if "w" in mode else open(path, mode, *arguments, **options)  # noqa: PTH123 - it is Path.open


@pytest.mark.usefixtures("no_memory", "stub_compiler")
@pytest.mark.parametrize(
    ("name", "instead"),
    [("pathlib.Path.mkdir", read_only), ("pathlib.Path.open", open_to_read), ("tempfile.mkdtemp", read_only)],
)
def test_a_cache_without_operators_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[..., object]
) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(name, instead)
        with pytest.raises(native.ReadOnlyError) as raised:
            native.build(cache)
    assert str(raised.value) == (
        f"the operators {native.file_name()} are not in {cache / 'native'}, which cannot be written to (Read-only file "
        "system): fill the cache by bertstream compile where it can be, on a processor of this kind, or choose another "
        "by --cache"
    )
    assert native.build(cache).read_text() == "library\n"


@pytest.mark.usefixtures("no_memory", "stub_compiler")
def test_a_full_disk_is_another_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(OSError, match="No space left"):
        native.build(tmp_path / "cache")


@pytest.mark.usefixtures("no_memory")
def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "loaded", [])
    (tmp_path / "bad.so").write_bytes(b"junk")
    with pytest.raises(native.NativeError, match=r"bad\.so cannot be loaded"):
        native.load(tmp_path / "bad.so")
