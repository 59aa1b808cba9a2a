"""Test rotary angles, how ATen turns by them, and its attention within a window."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import NomicBertConfig
from transformers.models.nomic_bert.modeling_nomic_bert import NomicBertRotaryEmbedding, apply_rotary_pos_emb

from bertstream.workers.models import Operators
from bertstream.workers.models.attention import Attention, window_mask
from bertstream.workers.models.rotary import Angles, Rotary, Rotation, TokenAngles
from bertstream.workers.models.segments import segments

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "parameters", [{"rope_theta": 1000.0}, {"rope_theta": 5e5, "rope_type": "linear", "factor": 4}]
)
def test_angles_are_transformers(parameters: dict[str, object]) -> None:
    config = NomicBertConfig(
        hidden_size=128, num_attention_heads=2, rope_parameters={"rope_type": "default", **parameters}
    )
    cosines, sines = NomicBertRotaryEmbedding(config)(torch.zeros(1), torch.arange(9000)[None])
    rotary = Rotary(float(str(parameters["rope_theta"])), linear=float(str(parameters.get("factor", 1))))
    found = Angles(rotary, 64)(segments([9000], CPU))
    assert float((found.cosines - cosines[0, :, :32]).abs().max()) <= 1.5e-7  # a last bit, of as good a cosine
    assert float((found.sines - sines[0, :, :32]).abs().max()) <= 1.5e-7


def test_fixed_ntk_scaling_stretches_slow_angles_to_the_factor() -> None:
    """The slowest angle becomes its `factor`th part, and all others less than that (kexue.fm/archives/9706)."""
    plain, scaled = Rotary(20_000.0).frequencies(64), Rotary(20_000.0, ntk=8.0).frequencies(64)
    parts = (plain / scaled).double()
    torch.testing.assert_close(parts, 8.0 ** (torch.arange(1, 33).double() / 32), rtol=1e-5, atol=0)


def test_angles_of_a_text_do_not_depend_on_others() -> None:
    """The lengths move each number to other places of ATen's vectors."""
    angles = Angles(Rotary(10_000.0), 14)
    alone = angles(segments([9], CPU))
    for longest in (10, 33, 63, 500):
        together = angles(segments([longest, 9, 3], CPU))
        assert torch.equal(together.cosines[longest : longest + 9], alone.cosines)
        assert torch.equal(together.sines[longest : longest + 9], alone.sines)


@pytest.mark.parametrize("length", [300, 301, 1000, 2400])
def test_a_text_s_own_length_stretches_its_angles(length: int) -> None:
    """As in transformers, for a text that is alone."""
    parameters = {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 8.0}
    config = NomicBertConfig(
        hidden_size=128, num_attention_heads=2, max_position_embeddings=300, rope_parameters=parameters
    )
    cosines, sines = NomicBertRotaryEmbedding(config)(torch.zeros(1), torch.arange(length)[None])
    angles = Angles(Rotary(1000.0, dynamic=8.0, trained=300), 64)
    found = angles(segments([2000, length, length, 7], CPU))
    own = slice(2000 + length, 2000 + 2 * length)
    assert float((found.cosines[own] - cosines[0, :, :32]).abs().max()) <= 1.5e-7
    assert float((found.sines[own] - sines[0, :, :32]).abs().max()) <= 1.5e-7
    assert torch.equal(found.cosines[-7:], Angles(Rotary(1000.0), 64)(segments([7], CPU)).cosines)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_aten_turns_as_transformers(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(20, 3 * 24, generator=generator).to(dtype)
    turns = Angles(Rotary(1000.0), 12)(segments([20], CPU))
    q, k, v = qkv.float().view(20, 3, 2, 12).permute(1, 2, 0, 3)
    cosines, sines = (torch.cat([each, each], 1)[None] for each in (turns.cosines, turns.sines))
    first, second = apply_rotary_pos_emb(q[None], k[None], cosines, sines)
    want = torch.stack([first[0], second[0], v]).permute(2, 0, 1, 3).flatten(1)
    got = Rotation(24, 2, native=False)(qkv.clone(), TokenAngles(*turns))
    torch.testing.assert_close(got, want.to(dtype), atol=1e-6, rtol=0.01 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("window", [0, 3, 127, 128, 400])
def test_attention_by_parts_of_a_text_is_that_of_a_mask(window: int) -> None:
    lengths = [300, 129, 129, 128, 5]
    attention = Attention(24, 2, Operators(), window=window)
    qkv = torch.randn(sum(lengths), 72, generator=torch.Generator().manual_seed(0))
    want = []
    for text in qkv.split(lengths):
        q, k, v = text.view(len(text), 3, 2, 12).permute(1, 2, 0, 3)
        mask = window_mask(0, len(text), 0, len(text), window, CPU)
        want.append(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1).flatten(1))
    got = attention(qkv, None, segments(lengths, CPU))
    torch.testing.assert_close(got, torch.cat(want), atol=2e-6, rtol=0)


def test_a_window_has_no_direction() -> None:
    with pytest.raises(ValueError, match="neither a direction nor a bias"):
        Attention(24, 2, Operators(), causal=True, window=3)
