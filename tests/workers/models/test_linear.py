"""Test that linear layers of packed weights give float64's numbers, within their precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.models import packing

pytestmark = [
    pytest.mark.skipif(not native.status()[0], reason=native.status()[1]),
    pytest.mark.usefixtures("operators"),
]


@dataclass(frozen=True)
class Kind:
    """Say what x is, and how weights are packed."""

    dtype: torch.dtype
    is_bytes: bool = False
    amx: bool = False
    wide: bool = False  # bfloat16 in float32, as where the processor does not multiply it


KINDS = {
    "float32": Kind(torch.float32),
    "float32-by-amx": Kind(torch.float32, amx=True),
    "bfloat16": Kind(torch.bfloat16),
    "bfloat16-in-float32": Kind(torch.bfloat16, wide=True),
    "int8": Kind(torch.float32, is_bytes=True),
    "int8-of-bfloat16": Kind(torch.bfloat16, is_bytes=True),
}
FLOATS = ["float32", "float32-by-amx"]
SHAPES = [
    (1, 384, 384),
    (5, 40, 36),
    (16, 384, 48),
    (17, 1536, 384),
    (31, 1, 1),
    (33, 64, 33),
    (64, 3072, 40),
    (100, 384, 1536),
    (333, 100, 70),
    (1024, 384, 96),
    (0, 40, 36),
]
PAIRS = ("avx512", "avx2")  # by which two products of bytes are added in 16 bits
ROUGH = 1e-4  # for GELU where bytes or bfloat16 follow


@pytest.fixture(scope="module")
def operators(compile_cache: Path) -> None:
    native.load(native.build(compile_cache))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if KINDS[name].amx and not native.has_amx():
        pytest.skip("the processor has no AMX, or it is switched off")
    if name == "bfloat16" and not native.has_bfloat16():
        pytest.skip("the processor has no products of bfloat16, or they are switched off")
    return name


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Layer:
    """Hold a linear layer as the operators take it, and what is known of it."""

    weight: Tensor  # [N, K], in the precision of the product
    bias: Tensor
    packed: Tensor
    columns: Tensor | None = None
    factors: Tensor | None = None

    @classmethod
    def of(cls, kind: str, weight: Tensor, bias: Tensor, factors: Tensor | None = None) -> Layer:
        dtype = KINDS[kind].dtype
        bias = bias.to(dtype)
        if not KINDS[kind].is_bytes:
            weight = weight.to(dtype)
            packed = packing.pack(weight.float() if KINDS[kind].wide else weight, amx=KINDS[kind].amx)
            return cls(weight, bias, packed)
        numbers, columns = packing.quantized(weight if factors is None else weight / factors)
        return cls(numbers, bias, packing.pack(numbers), columns, factors)

    @classmethod
    def random(cls, kind: str, inputs: int, outputs: int) -> Layer:
        weight = random(outputs, inputs, seed=1) / inputs**0.5
        factors = random(inputs, seed=2).abs() + 0.5
        return cls.of(kind, weight, random(outputs, seed=3), factors)

    @property
    def arguments(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        return self.packed, self.columns, self.factors, self.bias

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.bertstream.linear(x, *self.arguments)
        return found

    def expected(self, x: Tensor) -> Tensor:
        """Return x W' + b in float64."""
        if self.columns is None:
            return x.double() @ self.weight.double().t() + self.bias.double()
        if not len(x):
            return torch.zeros(0, len(self.bias), dtype=torch.float64)
        pairs = native.instructions() in PAIRS
        product = packing.byte_product(x.float(), self.weight, self.columns, self.factors, pairs)
        return product.double() + self.bias.double()


def states(kind: str, rows: int, inputs: int, seed: int = 5) -> Tensor:
    return (random(rows, inputs, seed=seed) * 2 + 0.5).to(KINDS[kind].dtype)


def assert_near(got: Tensor, want: Tensor, near: float = 2e-6) -> None:
    """Assert that errors are within `near` of the largest number, plus the rounding to the output's type."""
    assert got.shape == want.shape
    rounding = 2**-8 if got.dtype == torch.bfloat16 else 0.0
    largest = float(want.abs().max()) if want.numel() else 0.0
    assert bool(((got.double() - want).abs() <= near * max(largest, 1e-300) + rounding * want.abs()).all())


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_linear_equals_float64(kind: str, rows: int, inputs: int, outputs: int) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, rows, inputs)
    before, got = x.clone(), layer(x)
    assert got.dtype == x.dtype
    assert_near(got, layer.expected(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", FLOATS, indirect=True)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [shape for shape in SHAPES if shape[0] > 0 and shape[1] > 1])
def test_float32_is_as_exact_as_aten(kind: str, rows: int, inputs: int, outputs: int) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, rows, inputs)
    want = layer.expected(x)
    ours, theirs = ((each.double() - want).abs() for each in (layer(x), functional.linear(x, layer.weight, layer.bias)))
    assert float(ours.mean()) <= 2 * float(theirs.mean())
    assert float(ours.max()) <= 2 * float(theirs.max()) + 1e-7 * float(want.abs().max())


@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_linear_gelu_equals_float64(kind: str, form: str, rows: int, inputs: int, outputs: int) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, rows, inputs)
    want = functional.gelu(layer.expected(x), approximate=form)
    got = torch.ops.bertstream.linear_gelu(x, *layer.arguments, form == "tanh")
    assert got.dtype == x.dtype
    assert_near(got, want, 2e-6 if kind in FLOATS else ROUGH)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_linear_add_layer_norm_equals_float64(kind: str, rows: int, inputs: int, outputs: int) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, rows, inputs)
    residual, (weight, bias) = states(kind, rows, outputs, seed=6), random(2, outputs, seed=7).to(x.dtype)
    want = functional.layer_norm(
        layer.expected(x) + residual.double(), (outputs,), weight.double(), bias.double(), 1e-5
    )
    before = residual.clone()
    got = torch.ops.bertstream.linear_add_layer_norm(x, *layer.arguments, residual, weight, bias, 1e-5)
    assert got.dtype == x.dtype
    assert_near(got, want, 5e-6)
    assert torch.equal(residual, before)


@pytest.mark.parametrize("inputs", [2, 63, 64, 100, 385])
def test_bytes_are_multiplied_exactly(inputs: int) -> None:
    """Rows with a 0 and a 255, and weights with a 127, are exactly their rounded values.

    Neighbours make 257 together at most, so that rows have 255 steps by whatever instructions.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (37, inputs), generator=generator).float()
    second = x[:, 1::2]
    second.copy_((257 - x[:, : 2 * second.size(1) : 2]).clamp_max(255))
    x[:, 0], x[:, 1] = 0, 255
    weight = torch.randint(-127, 128, (45, inputs), generator=generator).float()
    weight[:, inputs // 2] = 127
    want = x @ weight.t()
    for outputs in (1, 8, 15, 31, 45):
        layer = Layer.of("int8", weight[:outputs], torch.zeros(outputs))
        for rows in (1, 2, 3, 4, 7, 9, 21, 37):
            assert torch.equal(layer(x[:rows]), want[:rows, :outputs])


@pytest.mark.parametrize("inputs", [3072, 16_000])
@pytest.mark.parametrize("pair", [(255.0, 255.0), (255.0, 2.0), (129.0, 128.0)])
@pytest.mark.parametrize("rows", [1, 5, 32])
def test_the_greatest_sums_of_bytes_fit(rows: int, pair: tuple[float, float], inputs: int) -> None:
    x = torch.tensor(pair).repeat(rows, inputs // 2)
    x[:, :2] = torch.tensor([0.0, 255.0])
    for sign in (1, -1):
        layer = Layer.of("int8", torch.full((32, inputs), 127.0) * sign, torch.zeros(32))
        got, want = layer(x), x.double() @ layer.weight.double().t()
        assert got.unique().numel() == 1
        # Of saturated sums of two products, all that is beyond 32,767 would be missing: half of it.
        exact = sum(pair) <= 257 or native.instructions() not in PAIRS
        assert_near(got, want, 2e-6 if exact else 0.005)


def every_operator(layer: Layer, x: Tensor) -> list[Tensor]:
    """Return the results of all operators, including the residual and the norm, made of x row by row."""
    outputs = len(layer.bias)
    residual = x[:, :1].expand(-1, outputs).contiguous()
    norm = torch.linspace(0.5, 1.5, outputs).to(x.dtype)
    return [
        layer(x),
        torch.ops.bertstream.linear_gelu(x, *layer.arguments, False),
        torch.ops.bertstream.linear_gelu(x, *layer.arguments, True),
        torch.ops.bertstream.linear_add_layer_norm(x, *layer.arguments, residual, norm, norm, 1e-5),
    ]


def equal(got: list[Tensor], want: list[Tensor]) -> bool:
    return all(torch.equal(*each) for each in zip(got, want, strict=True))


@pytest.mark.parametrize(("inputs", "outputs"), [(100, 70), (384, 192)])
def test_a_row_is_the_same_alone_and_in_any_batch_on_any_number_of_threads(
    kind: str, inputs: int, outputs: int, threads: Callable[[int], None]
) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, 600, inputs)
    threads(1)
    want = every_operator(layer, x)
    for row in (0, 15, 16, 31, 300, 599):
        assert equal(every_operator(layer, x[row : row + 1]), [each[row : row + 1] for each in want])
    for number in (1, 2, 3, 8):  # eight are more than the blocks of outputs, or of rows
        threads(number)
        for first, end in ((0, 600), (7, 8), (3, 19), (9, 42), (100, 300), (1, 200)):
            assert equal(every_operator(layer, x[first:end]), [each[first:end] for each in want])


def test_several_threads_may_call_at_once(kind: str) -> None:
    layers = [Layer.random(kind, inputs, 70) for inputs in (40, 100, 384)]
    work = [(layer, states(kind, rows, layer.weight.size(1))) for layer in layers for rows in (5, 90, 200)]
    want = [every_operator(*each) for each in work]
    wrong: list[int] = []

    def run(start: int) -> None:
        for i in (*range(start, len(work)), *range(start)):
            wrong.extend([] if equal(every_operator(*work[i]), want[i]) else [i])

    callers = [threading.Thread(target=run, args=(start,)) for start in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_spoils_no_other(kind: str, odd: float) -> None:
    layer, x = Layer.random(kind, 100, 70), states(kind, 40, 100)
    want = every_operator(layer, x)
    spoilt = x.clone()
    spoilt[[3, 20], 50] = odd
    others = [row for row in range(40) if row not in (3, 20)]
    got = every_operator(layer, spoilt)
    assert equal([each[others] for each in got], [each[others] for each in want])
    assert not bool(got[0][[3, 20]].isfinite().any())
    # Nor do other rows at the same place in memory, or longer or shorter ones.
    assert equal(every_operator(layer, x), want)
    for inputs in (37, 130):
        other, fewer = Layer.random(kind, inputs, 70), states(kind, 40, inputs)
        assert all(bool(each.isfinite().all()) for each in every_operator(other, fewer))


def test_constant_rows_zeros_and_weights_of_zero(kind: str) -> None:
    layer = Layer.random(kind, 100, 70)
    x = torch.zeros(4, 100, dtype=KINDS[kind].dtype)
    x[1], x[2], x[3] = 1.5, -3.0, 1e-3
    assert torch.equal(layer(x)[0], layer.bias)
    assert_near(layer(x), layer.expected(x))
    weight = random(70, 100)
    weight[5], weight[40:] = 0.0, 0.0
    none = Layer.of(kind, weight, random(70))
    got = none(states(kind, 20, 100))
    assert torch.equal(got[:, 5], none.bias[5].expand(20))
    assert torch.equal(got[:, 40:], none.bias[40:].expand(20, -1))


@pytest.mark.parametrize("kind", ["float32-by-amx"], indirect=True)
@pytest.mark.parametrize(
    ("size", "near"), [(3e38, 2e-6), (1e30, 2e-6), (1e-20, 2e-6), (1e-30, 1e-5), (1e-34, 0.02), (1e-40, 1.0)]
)
def test_very_large_and_very_small_float32_by_amx(kind: str, size: float, near: float) -> None:
    """The parts of numbers below 1e-30 are less than float32's least normal number, and become zeros."""
    layer = Layer.of(kind, random(70, 100) / 1000, torch.zeros(70))
    x = random(20, 100).clamp(-1, 1) * size
    assert_near(layer(x), layer.expected(x), near)
    other = Layer.of(kind, random(70, 100).clamp(-1, 1) * size, torch.zeros(70))
    small = random(20, 100) / 1000
    assert_near(other(small), other.expected(small), near)


@pytest.mark.parametrize("kind", ["float32"], indirect=True)
@pytest.mark.parametrize("size", [3e38, 1e30, 1e-20, 1e-30, 1e-34, 1e-40])
def test_very_large_and_very_small_float32(kind: str, size: float) -> None:
    """Numbers that are less than the least normal one are rounded to its steps, and lose no more."""
    step = 100 * 2.0**-149
    layer = Layer.of(kind, random(70, 100) / 1000, torch.zeros(70))
    x = random(20, 100).clamp(-1, 1) * size
    want = layer.expected(x)
    assert bool(((layer(x).double() - want).abs() <= 2e-6 * want.abs().max() + step).all())
    other = Layer.of(kind, random(70, 100).clamp(-1, 1) * size, torch.zeros(70))
    small = random(20, 100) / 1000
    want = other.expected(small)
    assert bool(((other(small).double() - want).abs() <= 2e-6 * want.abs().max() + step).all())


@pytest.mark.parametrize("kind", ["float32"], indirect=True)
def test_what_is_not_finite_gives_what_aten_gives(kind: str) -> None:
    layer, x = Layer.random(kind, 100, 70), states(kind, 40, 100)
    x[3, 50], x[20, 4], x[33, 99], x[33, 0] = torch.nan, torch.inf, torch.inf, -torch.inf
    layer.weight[5, 7] = torch.inf
    layer = Layer.of(kind, layer.weight, layer.bias)
    got, want = layer(x), functional.linear(x, layer.weight, layer.bias)
    assert bool((got.isnan() == want.isnan()).all())
    assert torch.equal(got[got.isinf()], want[want.isinf()])


@pytest.mark.parametrize("kind", ["float32"], indirect=True)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 17), (33, 65), (512, 48), (300, 130)])
def test_any_number_of_rows_and_of_outputs(kind: str, inputs: int, outputs: int) -> None:
    layer, x = Layer.random(kind, inputs, outputs), states(kind, 70, inputs)
    want, whole = layer.expected(x), layer(x)
    assert_near(whole, want)
    for rows in range(1, 70):
        assert torch.equal(layer(x[70 - rows :]), whole[70 - rows :])


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bfloat16-in-float32"], indirect=True)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_weights_that_are_not_packed_give_the_same_bits(
    kind: str, rows: int, inputs: int, outputs: int, threads: Callable[[int], None]
) -> None:
    if KINDS[kind].wide and native.has_bfloat16():
        pytest.skip("the processor multiplies bfloat16 as it is")
    layer, x = Layer.random(kind, inputs, outputs), states(kind, rows, inputs)
    for number in (1, 2):
        threads(number)
        assert torch.equal(torch.ops.bertstream.linear(x, layer.weight, None, None, layer.bias), layer(x))


@pytest.mark.parametrize("kind", ["float32"], indirect=True)
def test_wrong_weights_that_are_not_packed_are_refused(kind: str) -> None:
    layer, x = Layer.random(kind, 100, 70), states(kind, 4, 100)
    weight = layer.weight
    for wrong in (weight.t(), weight[:, :-1], weight[:-1], weight[:, :99].contiguous(), weight.double(), weight.half()):
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.linear(x, wrong, None, None, layer.bias)
    with pytest.raises(RuntimeError, match="must"):
        torch.ops.bertstream.linear(x, weight.bfloat16(), None, None, layer.bias)


@pytest.mark.parametrize("kind", FLOATS, indirect=True)
def test_sums_beyond_float32_are_infinite_and_only_they(kind: str) -> None:
    weight = torch.eye(64)
    weight[0] = 1.0
    x = torch.full((2, 64), 1e36)
    x[0] *= 10
    got = Layer.of(kind, weight, torch.zeros(64))(x)
    assert got[0, 0] == torch.inf
    assert torch.equal(got[0, 1:], x[0, 1:])
    assert_near(got[1], x[1].double() @ weight.double().t())


def wrong_arguments(x: Tensor, layer: Layer) -> list[tuple[Tensor | None, ...]]:
    packed, columns, factors, bias = layer.arguments
    rows = packed.size(0)
    wrong: list[tuple[Tensor | None, ...]] = [
        (x[0], packed, columns, factors, bias),
        (x.t(), packed, columns, factors, bias),
        (x[:, :-1], packed, columns, factors, bias),
        (x[:, :0].contiguous(), packed, columns, factors, bias),
        (x[:, :0].contiguous(), packed[:, :0], columns, factors, bias),
        (torch.zeros(4, 129, dtype=x.dtype), packed, columns, factors, bias),
        (x.double(), packed, columns, factors, bias),
        (x.half(), packed, columns, factors, bias),
        (x.int(), packed, columns, factors, bias),
        (x, packed.double(), columns, factors, bias),
        (x, packed.to(torch.uint8), columns, factors, bias),
        (x, packed[: rows - 2], columns, factors, bias),
        (x, packed[:, :-1], columns, factors, bias),
        (x, packed.flatten(), columns, factors, bias),
        (x, packed.transpose(3, 4), columns, factors, bias),
        (x, packed.repeat(1, 1, 2, 1, 1), columns, factors, bias),
        (x, packed, columns, factors, bias.view(1, -1)),
        (x, packed, columns, factors, torch.zeros(1000)),
        (x, packed, columns, factors, torch.zeros(())),
        (x, packed[:0], columns, factors, bias[:0]),
    ]
    if columns is not None:
        lists = (None, columns[:1], columns[:, :-1], columns.t(), columns.double(), columns.flatten())
        wrong += [(x, packed, each, factors, bias) for each in lists]
        wrong += [(x, packed, columns, each, bias) for each in (torch.ones(99), torch.ones(1, 100), torch.ones(()))]
    return wrong


def test_wrong_arguments_raise_and_do_not_crash(kind: str) -> None:
    layer, x = Layer.random(kind, 100, 70), states(kind, 4, 100)
    row, residual = torch.zeros(70), torch.zeros(4, 70, dtype=x.dtype)
    for arguments in wrong_arguments(x, layer):
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.linear(*arguments)
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.linear_gelu(*arguments, False)
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.linear_add_layer_norm(*arguments, residual, row, row, 1e-5)
    for after in (
        (residual[:3], row, row),
        (residual[:, :-1].contiguous(), row, row),
        (residual.t(), row, row),
        (residual.double(), row, row),
        (residual.to(torch.bfloat16 if x.dtype == torch.float32 else torch.float32), row, row),
        (residual[0], row, row),
        (residual, row[:-1], row),
        (residual, row, row.view(1, -1)),
    ):
        with pytest.raises(RuntimeError, match="must"):
            torch.ops.bertstream.linear_add_layer_norm(x, *layer.arguments, *after, 1e-5)


@pytest.mark.parametrize("kind", ["float32-by-amx", "bfloat16"], indirect=True)
def test_weights_in_three_parts_are_not_multiplied_with_bfloat16_nor_those_of_bfloat16_with_float32(kind: str) -> None:
    layer = Layer.random(kind, 100, 70)
    x = states("bfloat16" if kind in FLOATS else "float32", 4, 100)
    with pytest.raises(RuntimeError, match="packed must be"):
        layer(x)


def test_tensors_elsewhere_are_refused(kind: str) -> None:
    layer, x = Layer.random(kind, 100, 70), states(kind, 4, 100)
    arguments = [x, *layer.arguments]
    for i, each in enumerate(arguments):
        if each is not None:
            with pytest.raises(RuntimeError):
                torch.ops.bertstream.linear(*arguments[:i], each.to("meta"), *arguments[i + 1 :])
    with pytest.raises(RuntimeError):
        layer(x.to_sparse())


def test_weights_may_lie_anywhere(kind: str) -> None:
    """Tensors are usually aligned, but need not be."""
    layer, x = Layer.random(kind, 100, 70), states(kind, 20, 100)
    moved = [None if each is None else one_further(each) for each in (x, *layer.arguments)]
    assert torch.equal(torch.ops.bertstream.linear(*moved), layer(x))


def one_further(tensor: Tensor) -> Tensor:
    """Return the same tensor at an address that is not aligned."""
    return torch.empty(tensor.numel() + 1, dtype=tensor.dtype)[1:].view(tensor.shape).copy_(tensor)
