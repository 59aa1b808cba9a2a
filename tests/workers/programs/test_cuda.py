"""Test programs on a GPU: flash attention over packed texts in half precision, runs of equal length in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.interface import AttentionOptions
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import tiny_bert, tiny_roberta

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

LENGTHS = [1, 3, 3, 512, 7, 200, 200, 2]


@pytest.mark.parametrize("maker", [tiny_bert, tiny_roberta])
@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("float16", 0.02), ("bfloat16", 0.15)])
@pytest.mark.parametrize("heads", [3, 2], ids=["heads of 16", "heads of 24"])
def test_cuda_equals_transformers_on_the_cpu(
    maker: Callable[..., Path], dtype: str, near: float, heads: int, tmp_path: Path
) -> None:
    directory = maker(tmp_path / "checkpoint", hidden_size=48, num_attention_heads=heads)
    program = ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=tmp_path), "cuda")
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 300, (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    (states,) = program.hidden_states(ids.cuda(), None, LENGTHS, [5])
    model = AutoModel.from_pretrained(directory).eval()
    with torch.no_grad():
        want = torch.cat([model(text.long()[None]).last_hidden_state[0] for text in ids.split(LENGTHS)])
    assert float((states.float().cpu() - want).abs().mean()) <= near / 5
    for mode in ("cls", "mean", "max", "mean_sqrt_len", "last_token", "pooler"):
        pooled = program.pool(states, LENGTHS, mode)
        assert (pooled.dtype, pooled.device.type, pooled.shape) == (torch.float32, "cuda", (len(LENGTHS), 48))


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("float16", 0.01), ("bfloat16", 0.1)])
def test_attention_weights_and_steps(dtype: str, near: float, tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path / "checkpoint", hidden_size=48, num_attention_heads=3)
    program = ScriptedProgram.load(compile_model(directory, dtype=dtype, device="cuda", cache=tmp_path), "cuda")
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 300, (sum(LENGTHS),), generator=generator, dtype=torch.int32)
    options = AttentionOptions((2, 5), (1, 2, 3, 7), (2, 0))
    found = program.forward(ids.cuda(), None, LENGTHS, [5], options)
    assert torch.equal(found.states[0], program.hidden_states(ids.cuda(), None, LENGTHS, [5])[0])
    model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    for place, text in enumerate(options.texts):
        with torch.no_grad():
            want = model(ids.split(LENGTHS)[text].long()[None], output_attentions=True).attentions
        for layer, weights in zip(options.layers, found.weights, strict=True):
            assert float((weights[place].cpu() - want[layer - 1][0][[2, 0]]).abs().mean()) <= near
            assert float((weights[place].sum(-1) - 1).abs().max()) <= 1e-5
    states = program.embed(ids.cuda(), None, LENGTHS)
    for layer in range(5):
        (states,) = program.advance(states, LENGTHS, layer, [layer + 1]).states
    assert torch.equal(states, found.states[0])


def test_heads_that_flash_attention_does_not_take(tmp_path: Path) -> None:
    directory = tiny_bert(tmp_path / "checkpoint")  # 36 / 3 = 12 is not a multiple of 8
    program = ScriptedProgram.load(compile_model(directory, dtype="float16", device="cuda", cache=tmp_path), "cuda")
    ids = torch.randint(5, 300, (sum(LENGTHS),), dtype=torch.int32, device="cuda")
    (states,) = program.hidden_states(ids, None, LENGTHS, [5])
    assert bool(states.isfinite().all())
