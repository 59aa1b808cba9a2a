"""Test that weights are packed as native/panels.h says, and lose only what their precision does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers import native
from bertstream.workers.models import BertShape, Model, Operators, load_model
from bertstream.workers.models.linear import Linear, Packed, Source
from bertstream.workers.models.packing import byte_product, pack, parts, quantized, smoothing

SIZES = [(1, 1), (16, 64), (33, 31), (36, 40), (70, 100), (384, 385)]
LEAST = 2.0**-133  # of bfloat16


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unpacked(packed: Tensor) -> Tensor:
    """Unpack a weight number by number, as panels.h lays it out.

    [N / 16, K / depth, planes, 16, depth] -> [planes, N, K].
    """
    tiles, slices, planes, _, depth = packed.shape
    group = depth // 16
    found = torch.zeros(planes, tiles * 16, slices * depth, dtype=packed.dtype)
    for output in range(tiles * 16):
        for k in range(slices * depth):
            row, within = k % depth // group, k % group
            found[:, output, k] = packed[output // 16, k // depth, :, row, output % 16 * group + within]
    return found


@pytest.mark.parametrize(("outputs", "inputs"), SIZES[:5])
@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_unpacking_gives_the_weights_back(outputs: int, inputs: int, dtype: torch.dtype, amx: bool) -> None:
    weight = random(outputs, inputs) if dtype.is_floating_point else quantized(random(outputs, inputs))[0]
    weight = weight.to(dtype)
    packed = pack(weight, amx=amx)
    planes = 3 if amx and dtype == torch.float32 else 1
    depth = 64 // packed.element_size()
    assert packed.shape == (-(-outputs // 32) * 2, -(-inputs // depth), planes, 16, depth)
    assert packed.is_contiguous()
    found = unpacked(packed)
    assert torch.equal(found[:, :outputs, :inputs], parts(weight) if planes == 3 else weight[None])
    assert not bool(found[:, outputs:].any())
    assert not bool(found[:, :, inputs:].any())


def test_what_is_packed_may_lie_in_any_order() -> None:
    weight = random(100, 70)
    assert torch.equal(pack(weight.t()), pack(weight.t().contiguous()))
    assert torch.equal(pack(weight[::2]), pack(weight[::2].clone()))


def test_parts_have_all_bits() -> None:
    weight = random(300, 300) * torch.logspace(-20, 30, 300)
    weight[0, :6] = torch.tensor([0.0, -0.0, 1.0, 2.0**-100, 1 + 2.0**-23, -(2 - 2.0**-23)])
    found = parts(weight)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.double().sum(0), weight.double())
    assert bool((found[1].abs() <= found[0].abs() * 2**-8).all())
    assert bool((found[2].abs() <= found[0].abs() * 2**-16).all())


def test_parts_of_very_small_numbers_lack_what_bfloat16_lacks() -> None:
    weight = random(100, 100) * 1e-37
    assert float((parts(weight).double().sum(0) - weight.double()).abs().max()) <= LEAST / 2


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_quantized_weights_are_within_half_a_step(outputs: int, inputs: int) -> None:
    weight = random(outputs, inputs) * torch.logspace(-3, 3, outputs)[:, None]
    numbers, columns = quantized(weight)
    assert numbers.dtype == torch.int8
    assert numbers.abs().amax(1).tolist() == [127] * outputs
    again = numbers.double() * columns[0].double()[:, None]
    assert bool(((again - weight).abs() <= columns[0][:, None] * 0.5001).all())
    assert torch.allclose(columns[1].double(), again.sum(1), rtol=1e-6, atol=0)


def test_weights_of_zeros_and_next_to_none() -> None:
    weight = torch.zeros(3, 50)
    weight[1], weight[2, 4] = 1e-38, 1e-20
    numbers, columns = quantized(weight)
    assert bool(columns.isfinite().all())
    assert (columns[0] > 0).all()
    assert [row.unique().tolist() for row in numbers] == [[0], [0], [0, 127]]
    assert columns[1, 0] == 0


def test_smoothing_makes_inputs_and_weights_equally_large() -> None:
    weight, largest = random(30, 50) * torch.logspace(-2, 2, 50), torch.logspace(3, -3, 50)
    factors = smoothing(weight, largest)
    assert torch.allclose(largest * factors, (weight / factors).abs().amax(0), rtol=1e-5)
    weight[:, 3], largest[7] = 0.0, 0.0
    assert smoothing(weight, largest)[[3, 7]].tolist() == [1.0, 1.0]
    x = random(20, 50)
    assert torch.allclose((x * factors) @ (weight / factors).t(), x @ weight.t(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("factors", [None, torch.linspace(0.5, 2, 100)])
def test_byte_product_is_near_the_product(factors: Tensor | None) -> None:
    weight, x = random(70, 100), random(40, 100, seed=1) + 3
    numbers, columns = quantized(weight if factors is None else weight / factors)
    want = x @ weight.t()
    assert float((byte_product(x, numbers, columns, factors) - want).norm() / want.norm()) <= 0.02
    assert bool(byte_product(torch.full((1, 100), torch.nan), numbers, columns, factors).isnan().all())


NATIVE = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
WAYS = [
    Operators(),
    Operators(products="int8"),
    pytest.param(Operators(native=True, products="int8"), marks=NATIVE),
    pytest.param(Operators(native=True, products="packed"), marks=NATIVE),
    pytest.param(Operators(native=True, products="packed", amx=True), marks=NATIVE),
]


def load_operators(ways: Operators, cache: Path) -> None:
    if ways.native:
        native.load(native.build(cache))
    if ways.amx and not native.has_amx():
        pytest.skip("the processor has no AMX, or it is switched off")


@pytest.mark.parametrize("operators", WAYS, ids=str)
def test_a_layer_gives_the_product(operators: Operators, compile_cache: Path) -> None:
    load_operators(operators, compile_cache)
    layer = Linear(100, 70, operators)
    weight, bias, x = random(70, 100), random(70, seed=1), random(40, 100, seed=2)
    layer.load_state_dict({"weight": weight, "bias": bias})
    layer.finish({})
    plain = operators.products == "plain"
    assert set(layer.state_dict()) == ({"weight", "bias"} if plain else {"packed", "bias"} | bytes_of(operators))
    want = functional.linear(x, weight, bias)
    near = 0.02 if operators.products == "int8" else 1e-6
    with torch.no_grad():
        assert float((layer(x) - want).norm() / want.norm()) <= near


@pytest.mark.parametrize("keeps", [False, True])
def test_weights_in_bfloat16_stay_that_where_it_is_multiplied(keeps: bool) -> None:
    layer = Linear(100, 70, Operators(native=True, products="packed", bfloat16=keeps))
    weight = random(70, 100).to(torch.bfloat16)
    layer.load_state_dict({"weight": weight, "bias": random(70)})
    layer.weight = nn.Parameter(weight)
    layer.finish({})
    assert torch.equal(layer.get_buffer("packed"), pack(weight if keeps else weight.float()))


def bytes_of(operators: Operators) -> set[str]:
    return {"columns"} if operators.products == "int8" else set()


@pytest.mark.parametrize("operators", WAYS[1:], ids=str)
def test_layers_that_share_a_weight_share_what_is_made_of_it(operators: Operators, compile_cache: Path) -> None:
    load_operators(operators, compile_cache)
    layers = [Linear(36, 40, operators) for _ in range(3)]
    shared, own = nn.Parameter(random(40, 36)), nn.Parameter(random(40, 36, seed=1))
    layers[0].weight, layers[1].weight, layers[2].weight = shared, shared, own
    made: dict[Source, Packed] = {}
    for layer in layers:
        layer.finish(made)
    first, second, third = (layer.get_buffer("packed") for layer in layers)
    assert first.data_ptr() == second.data_ptr() != third.data_ptr()
    assert not any(name == "weight" for layer in layers for name, _ in layer.named_parameters())


def test_a_loaded_model_shares_and_does_not_change_its_weights() -> None:
    """A tensor under two names stays one."""
    operators = Operators(products="int8")
    shape = BertShape(
        vocabulary_size=50, hidden_size=8, layers=2, attention_heads=1, intermediate_size=8, positions=20,
        type_vocabulary_size=1, activation="gelu", layer_norm_eps=1e-5, embedding_size=8, positions_skip_padding=False,
        pad_token_id=0, has_pooler=False,
    )  # fmt: skip
    with torch.device("meta"):
        names = Model(shape, Operators()).state_dict()
    weights = {name: random(*each.shape, seed=i) for i, (name, each) in enumerate(names.items())}
    weights["encoder.layers.1.feed_forward.intermediate.weight"] = weights[
        "encoder.layers.0.feed_forward.intermediate.weight"
    ]
    before = {name: weight.clone() for name, weight in weights.items()}
    model = load_model(shape, operators, weights, torch.float32)
    packed = [model.get_buffer(f"encoder.layers.{i}.feed_forward.intermediate.packed").data_ptr() for i in range(2)]
    assert packed[0] == packed[1]
    assert all(torch.equal(weights[name], each) for name, each in before.items())
