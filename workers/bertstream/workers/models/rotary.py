"""Turn queries and keys by their tokens' positions, so that scores depend on distances (arXiv 2104.09864).

T tokens, H hidden size, h heads of D.
"""

from __future__ import annotations

from dataclasses import dataclass

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List, NamedTuple  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.positions import places
from bertstream.workers.models.segments import Segments
from bertstream.workers.models.shape import EncoderShape

POSITIONS = 1 << 24  # the most that there may be: float32 counts no further


@dataclass(frozen=True, slots=True)
class Rotary:
    """Say by which angles tokens are turned: by their positions times theta^(-2 i / D), for i from 0 to D / 2 - 1."""

    theta: float
    linear: float = 1.0  # divides all angles
    ntk: float = 1.0  # multiplies theta, and divides all angles by its power of 2 / D (kexue.fm/archives/9706)
    # Says how far theta grows for texts of more than `trained` tokens, each by its own length ("dynamic NTK").
    dynamic: float = 1.0
    trained: int = 0  # 0: theta is the same for texts of any length

    def frequencies(self, head_size: int) -> Tensor:
        """Return the angles of position 1, [D / 2] float32.

        They are computed on the CPU in float32, step by step as in transformers, since rounding decides.
        """
        powers = torch.arange(0, head_size, 2, dtype=torch.float32, device="cpu") / head_size
        frequencies: Tensor = 1.0 / ((self.theta * self.ntk) ** powers)
        return frequencies / (self.linear * self.ntk ** (2 / head_size))


def check_head_size(shape: EncoderShape) -> None:
    """Raise ValueError for heads of a size that has no halves."""
    if shape.hidden_size // shape.attention_heads % 2:
        sizes = f"{shape.hidden_size} in {shape.attention_heads} heads"
        raise ValueError(f"rotary positions need heads of an even size, and config.json says {sizes}")


class TokenAngles(NamedTuple):
    """Hold the cosines and sines of each token's angles, [T, D / 2] float32."""

    cosines: Tensor
    sines: Tensor


class Angles(nn.Module):
    """Compute each token's angles, once a batch."""

    __constants__ = ("dynamic", "head_size", "is_dynamic", "theta", "trained")

    def __init__(self, rotary: Rotary, head_size: int) -> None:
        super().__init__()
        self.theta, self.head_size = rotary.theta, head_size
        self.dynamic, self.trained, self.is_dynamic = rotary.dynamic, rotary.trained, rotary.trained > 0
        # No weight of a checkpoint, though saved with them.
        self.frequencies = nn.Buffer(rotary.frequencies(head_size), persistent=False)

    def forward(self, where: Segments) -> TokenAngles:
        """Return the turns of the tokens of texts that lie where `where` says."""
        if self.is_dynamic and where.longest > self.trained:
            return self.by_length(where)
        angles = torch.arange(where.longest, device=self.frequencies.device).unsqueeze(1) * self.frequencies  # [L, D/2]
        # By float64, whose last bits ATen's loops compute one way or another, but not those that float32 keeps.
        exact, rows = angles.to(torch.float64), places(where, where.tokens)
        return TokenAngles(exact.cos().to(torch.float32)[rows], exact.sin().to(torch.float32)[rows])

    def by_length(self, where: Segments) -> TokenAngles:
        """Return the turns of texts some of which are longer than the trained ones, for each length by itself."""
        cosines: List[Tensor] = []  # noqa: UP006
        sines: List[Tensor] = []  # noqa: UP006
        for _, texts, length in where.runs:
            frequencies = self.frequencies_of(length)
            angles = torch.arange(length, device=frequencies.device).unsqueeze(1) * frequencies
            exact = angles.to(torch.float64)
            cosines.append(exact.cos().to(torch.float32).repeat(texts, 1))
            sines.append(exact.sin().to(torch.float32).repeat(texts, 1))
        return TokenAngles(torch.cat(cosines), torch.cat(sines))

    def frequencies_of(self, length: int) -> Tensor:
        """Return the angles of position 1 in a text of this length, [D / 2], step by step as in transformers.

        There, the longest text of a batch decides for all of them.
        """
        if length <= self.trained:
            return self.frequencies
        longer = self.dynamic * torch.tensor(length) / self.trained - (self.dynamic - 1)
        theta = self.theta * longer ** (self.head_size / (self.head_size - 2))
        powers = torch.arange(0, self.head_size, 2, dtype=torch.float32) / self.head_size
        frequencies: Tensor = 1.0 / theta**powers
        return frequencies.to(self.frequencies.device)


class Rotation(nn.Module):
    """Turn queries and keys by their angles, in place."""

    __constants__ = ("head_size", "heads", "native")

    def __init__(self, hidden_size: int, heads: int, *, native: bool) -> None:
        super().__init__()
        self.heads = heads
        self.head_size = hidden_size // heads
        self.native = native

    def forward(self, qkv: Tensor, turns: TokenAngles) -> Tensor:
        """Turn. qkv: [T, 3H] -> [T, 3H]; it is float32 until it is rounded once."""
        if self.native:
            return torch.ops.bertstream.rotate_(qkv, turns.cosines, turns.sines, self.heads)
        low, high = qkv.view(-1, 3, self.heads, 2, self.head_size // 2)[:, :2].unbind(3)  # each [T, 2, h, D/2]
        cosines, sines = turns.cosines[:, None, None], turns.sines[:, None, None]
        turned = low * cosines - high * sines
        high.copy_(high * cosines + low * sines)
        low.copy_(turned)
        return qkv
