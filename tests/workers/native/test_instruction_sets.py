"""Test that the operators give the same numbers with whatever instructions a processor has.

Each smaller set of them is used in a process of its own, since torch and the operators look once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.models import packing
from bertstream.workers.native import processor
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.pairs import EXACT, difference

pytestmark = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])

ROUGH = 1e-4  # for GELU where bytes follow
SHAPES = [(1, 384, 384), (5, 40, 36), (17, 1536, 96), (33, 1, 1), (100, 100, 70), (64, 3072, 33)]

# What the operators say that they use. "portable" is as on a processor of another make, for which there is no code with
# its own instructions, and "avx2+vnni" on one with VNNI, but without AVX-512.
LEVELS = {
    "bf16": "avx512+vnni+bf16",
    "vnni": "avx512+vnni",
    "avx512": "avx512",
    "avx2+vnni": "avx2+vnni",
    "avx2": "avx2",
    "portable": "portable",
}
OPERATORS_ALONE = ("avx2+vnni", "portable")
PAIRS = ("avx512", "avx2")  # by which two products of bytes are added in 16 bits

CHILD = """
import platform
import sys
from pathlib import Path

import torch

from bertstream.workers import native

cache, checkpoint, compiled, work, level = sys.argv[1:]


def float_products(given):
    return [
        (torch.ops.bertstream.linear(*each), torch.ops.bertstream.linear_gelu(*each, False)) for each in given
    ]


torch.set_num_threads(1)
if level == "portable":
    platform.machine = lambda: "another"
library = native.build(Path(cache))
native.load(library)
given = torch.load(work)
found = {"instructions": native.instructions(), "amx": native.has_amx(), "threads": []}
for threads in (1, 3):
    torch.set_num_threads(threads)
    found["threads"].append([torch.ops.bertstream.linear(*each) for each in given["products"]])
found["gelu"] = [torch.ops.bertstream.linear_gelu(*each, False) for each in given["products"]]
found["floats"] = float_products(given["floats"])
found["distances"] = torch.ops.bertstream.disentangled_attention(*given["distances"])
found["halves"] = [torch.ops.bertstream.linear(*each) for each in given["halves"]]
found["not finite"] = torch.ops.bertstream.linear(*given["not finite"])
try:
    torch.ops.bertstream.linear(*given["packed"])
except RuntimeError as error:
    found["refused"] = str(error)
try:
    found["tiles of halves"] = [torch.ops.bertstream.linear(*each) for each in given["tiles of halves"]]
except RuntimeError as error:
    found["refused halves"] = str(error)
if level not in ("avx2+vnni", "portable"):
    from bertstream.workers.compile.compiler import compile_model
    from bertstream.workers.programs.program import ScriptedProgram, ProgramError

    try:
        program = ScriptedProgram.load(Path(compiled), "cpu", library)
        found["other program"] = program.hidden_states(given["ids"], None, [100, 50, 50], [5])[0]
    except ProgramError as error:
        found["refused program"] = str(error)
    try:
        program = ScriptedProgram.load(Path(given["program of halves"]), "cpu", library)
        found["of halves"] = program.hidden_states(given["ids"], None, [100, 50, 50], [5])[0]
    except ProgramError as error:
        found["refused program of halves"] = str(error)
    own = compile_model(Path(checkpoint), cache=Path(cache))
    program = ScriptedProgram.load(own, "cpu")
    found["folder"] = own.name
    found["products"] = program.description.products
    found["amx program"] = program.description.amx
    found["native"] = program.description.native_operators
    found["states"] = program.hidden_states(given["ids"], None, [100, 50, 50], [5])[0]
torch.save(found, work)
"""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def products() -> tuple[list[tuple[Tensor, ...]], list[Tensor]]:
    """Return int8 products, as the operator takes them, and the weights that are packed in each."""
    made: list[tuple[Tensor, ...]] = []
    weights: list[Tensor] = []
    for rows, inputs, outputs in SHAPES:
        factors = random(inputs, seed=2).abs() + 0.5
        numbers, columns = packing.quantized(random(outputs, inputs, seed=1) / inputs**0.5 / factors)
        for dtype in (torch.float32, torch.bfloat16):
            x = (random(rows, inputs, seed=3) + 0.5).to(dtype)
            made.append((x, packing.pack(numbers), columns, factors, random(outputs, seed=4)))
            weights.append(numbers)
    return made, weights


def float_products() -> list[tuple[Tensor | None, ...]]:
    """Return products of float32, as the operator takes them."""
    made: list[tuple[Tensor | None, ...]] = []
    for rows, inputs, outputs in SHAPES:
        packed = packing.pack(random(outputs, inputs, seed=1) / inputs**0.5)
        made.append((random(rows, inputs, seed=3) + 0.5, packed, None, None, random(outputs, seed=4)))
    return made


def half_weights() -> list[Tensor]:
    return [(random(outputs, inputs, seed=1) / inputs**0.5).to(torch.bfloat16) for _, inputs, outputs in SHAPES]


def half_products(*, tiles: bool) -> list[tuple[Any, ...]]:
    """Return products of bfloat16, as the operator takes them: of weights that stay that in tiles, or are float32."""
    made: list[tuple[Any, ...]] = []
    for (rows, inputs, outputs), weight in zip(SHAPES, half_weights(), strict=True):
        x = (random(rows, inputs, seed=3) + 0.5).to(torch.bfloat16)
        packed = packing.pack(weight if tiles else weight.to(torch.float32))
        made.append((x, packed, None, None, random(outputs, seed=4)))
    return made


def by_distance() -> tuple[Any, ...]:
    """Return texts for attention by contents and distances, as the operator takes them."""
    tables = [random(3, 12, 23, seed=seed) for seed in (6, 7)]
    texts = torch.tensor([0, 1, 8, 57, 120], dtype=torch.int32)
    return random(120, 207, seed=5), texts, 3, *tables, torch.arange(-62, 63).clamp(-6, 5) + 6, 0.1


def spoilt() -> tuple[Tensor, ...]:
    """Return 33 rows, one of which has a NaN, and one an infinity."""
    x, *rest = products()[0][8]
    x = x[:33].clone()
    x[4, 70], x[20, 3] = torch.nan, -torch.inf
    return (x, *rest)


@pytest.fixture(scope="module")
def here(checkpoint: Callable[[str], Path], compile_cache: Path) -> dict[str, Any]:
    """Return what is given to each child, and the results in this process."""
    native.load(native.build(compile_cache))
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    of_halves = compile_model(checkpoint("bert"), cache=compile_cache, dtype="bfloat16")
    program = ScriptedProgram.load(compiled, "cpu")
    ids = torch.randint(5, 300, (200,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    weight = packing.pack(random(36, 40), amx=True)
    of_bytes, weights = products()
    given = {
        "products": of_bytes,
        "floats": float_products(),
        "halves": half_products(tiles=False),
        "tiles of halves": half_products(tiles=True),
        "distances": by_distance(),
        "not finite": spoilt(),
        "packed": (random(5, 40), weight, None, None, torch.zeros(36)),
        "ids": ids,
        "program of halves": str(of_halves),
    }
    return {
        "given": given,
        "weights": weights,
        "compiled": compiled,
        "amx": program.description.amx,
        "of halves": ScriptedProgram.load(of_halves, "cpu").hidden_states(ids, None, [100, 50, 50], [5])[0],
        "states": program.hidden_states(ids, None, [100, 50, 50], [5])[0],
    }


def environment(level: str) -> dict[str, str]:
    """Return the environment of a process that is kept to a level."""
    if level == "portable":
        return {"ATEN_CPU_CAPABILITY": "default"}
    if level == "avx2+vnni":
        return {"ATEN_CPU_CAPABILITY": "avx2"}
    kept = processor.LEVELS[level]
    return {"BERTSTREAM_CPU": level, "ATEN_CPU_CAPABILITY": kept.aten, "ONEDNN_MAX_CPU_ISA": kept.onednn}


def has(level: str) -> bool:
    """Return whether this processor has the instructions of a level."""
    levels = list(processor.LEVELS)
    level = "vnni" if level == "avx2+vnni" else level
    return level == "portable" or levels.index(level) <= levels.index(processor.best_of(processor.flags()))


def run(level: str, here: dict[str, Any], checkpoint: Path, cache: Path, work: Path) -> dict[str, Any]:
    torch.save(here["given"], work)
    arguments = [str(each) for each in (cache, checkpoint, here["compiled"], work, level)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, *arguments],
        env=os.environ | environment(level),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = torch.load(work)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_the_same_numbers_by_lesser_instructions(
    level: str,
    here: dict[str, Any],
    checkpoint: Callable[[str], Path],
    new_cache: Callable[[Path], Path],
    tmp_path: Path,
) -> None:
    if not has(level):
        pytest.skip(f"this processor has no {level}")
    if level in OPERATORS_ALONE and not os.environ.get("BERTSTREAM_TEST_ALL_INSTRUCTIONS"):
        pytest.skip("has operators compiled for a minute of a core: `make test-instructions` runs it")
    found = run(level, here, checkpoint("bert"), new_cache(tmp_path / "cache"), tmp_path / "work.pt")
    assert (found["instructions"], found["amx"]) == (LEVELS[level], False)
    check_products(found, here["given"]["products"], here["weights"])
    check_floats(found["floats"], here["given"]["floats"], exactly=level != "portable")
    distances = torch.ops.bertstream.disentangled_attention(*here["given"]["distances"])
    assert difference(found["distances"], distances) <= EXACT
    check_rows_that_are_not_finite(found, found["threads"][0][8])
    assert "for an x of float32, where there is AMX" in found["refused"]
    check_halves(found, here["given"], multiplied=level == "bf16")
    if level not in OPERATORS_ALONE:
        check_programs(found, here)
        check_program_of_halves(found, here, multiplied=level == "bf16")
        check_folder_moves(found, here, checkpoint("bert"), tmp_path / "cache")


def check_products(found: dict[str, Any], given: list[tuple[Tensor, ...]], weights: list[Tensor]) -> None:
    pairs = found["instructions"] in PAIRS
    alike = pairs == (native.instructions() in PAIRS)  # whether the bytes are the same here
    alone, several = found["threads"]
    for got, again, gelu, arguments, numbers in zip(alone, several, found["gelu"], given, weights, strict=True):
        x, _, columns, factors, bias = arguments
        assert torch.equal(got, again)
        if alike:
            want, near = torch.ops.bertstream.linear(*arguments), 3e-6
            assert_near(gelu, torch.ops.bertstream.linear_gelu(*arguments, False), near * float(want.abs().max()))
        else:  # ATen's sums of float32 are less exact than those of whole numbers
            want, near = packing.byte_product(x.float(), numbers, columns, factors, pairs) + bias, 1e-5
            assert_near(gelu, functional.gelu(want), ROUGH)
        assert_near(got, want, near * float(want.abs().max()))


def assert_near(got: Tensor, want: Tensor, near: float) -> None:
    rounding = 2.0**-7 if got.dtype == torch.bfloat16 else 0.0
    assert bool(((got.double() - want.double()).abs() <= near + rounding * want.abs()).all())


def check_floats(found: list[tuple[Tensor, Tensor]], given: list[tuple[Tensor | None, ...]], *, exactly: bool) -> None:
    """Check that long and short vectors give the same bits; without multiply-and-adds roundings differ."""
    for (got, gelu), arguments in zip(found, given, strict=True):
        pairs = (
            (got, torch.ops.bertstream.linear(*arguments)),
            (gelu, torch.ops.bertstream.linear_gelu(*arguments, False)),
        )
        for one, other in pairs:
            assert torch.equal(one, other) or (not exactly and difference(one, other) <= 1e-5)


def check_halves(found: dict[str, Any], given: dict[str, Any], *, multiplied: bool) -> None:
    """Check products of bfloat16: of float32's weights everywhere, of its own where the processor multiplies them."""
    for name in ("halves", "tiles of halves") if multiplied else ("halves",):
        for got, (x, _, _, _, bias), weight in zip(found[name], given[name], half_weights(), strict=True):
            want = x.double() @ weight.double().t() + bias.double()
            assert_near(got, want, 3e-6 * float(want.abs().max()))
    if not multiplied:
        assert "where the processor has products of it" in found["refused halves"]


def check_rows_that_are_not_finite(found: dict[str, Any], alone: Tensor) -> None:
    """Check that two rows, one of a NaN and one of an infinity, spoil no others: these are what they are without."""
    got = found["not finite"]
    odd = [4, 20]
    assert not bool(got[odd].isfinite().any())
    others = [row for row in range(33) if row not in odd]
    assert torch.equal(got[others], alone[others])


def check_programs(found: dict[str, Any], here: dict[str, Any]) -> None:
    assert (found["products"], found["native"], found["amx program"]) == ("packed", True, False)
    assert difference(found["states"], here["states"]) <= EXACT
    if here["amx"]:
        assert "compiled for AMX, which is not there or switched off" in found["refused program"]
    else:  # what was compiled here is served there as it is
        assert found["folder"] == here["compiled"].name
        assert torch.equal(found["other program"], found["states"])


def check_program_of_halves(found: dict[str, Any], here: dict[str, Any], *, multiplied: bool) -> None:
    """Check that what was compiled here is served there, unless it is for products that are not there."""
    if not native.has_bfloat16():
        assert torch.equal(found["of halves"], here["of halves"])
    elif here["amx"] or not multiplied:
        assert "the model was compiled for " in found["refused program of halves"]
    else:
        assert torch.equal(found["of halves"], here["of halves"])


def check_folder_moves(found: dict[str, Any], here: dict[str, Any], checkpoint: Path, cache: Path) -> None:
    """Check that what was compiled there is served here, unless AMX has its own layout of weights."""
    theirs = cache / "models" / found["folder"]
    written = (theirs / "program.pt").stat().st_mtime_ns
    ours = compile_model(checkpoint, cache=cache)
    assert (ours == theirs) == (not here["amx"])
    assert (theirs / "program.pt").stat().st_mtime_ns == written
    (states,) = ScriptedProgram.load(ours, "cpu").hidden_states(here["given"]["ids"], None, [100, 50, 50], [5])
    assert difference(states, found["states"]) <= EXACT
