"""Put a faulty program in the place of a compiled model's, to see real workers die of it."""

from __future__ import annotations

import warnings
from pathlib import Path

# TorchScript reads these annotations, and knows only the old spellings.
from typing import Any, List, Optional, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.programs import weights_file
from bertstream.workers.programs.program import FILE_NAME, ScriptedProgram
from bertstream.workers.trust.seal import seal


class Faulty(nn.Module):
    """Wrap a compiled program with three faults.

    It computes for ever where a text has the token `hangs_on`, fails where one has `fails_on`, and for texts of
    `stuck_length` tokens goes no further than layer `stuck_layer` when it goes layer by layer.
    """

    def __init__(self, program: Any, hangs_on: int, fails_on: int, stuck_length: int, stuck_layer: int) -> None:
        super().__init__()
        self.program = program
        self.hangs_on = hangs_on
        self.fails_on = fails_on
        self.stuck_length = stuck_length
        self.stuck_layer = stuck_layer

    def check(self, ids: Tensor) -> None:
        if bool((ids == self.fails_on).any()):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        while bool((ids == self.hangs_on).any()):
            ids = ids.clone()

    def forward(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
    ) -> List[Tensor]:  # noqa: UP006
        self.check(ids)
        states: List[Tensor] = self.program(ids, type_ids, lengths, layers)  # noqa: UP006
        return states

    @torch.jit.export
    def forward_with_weights(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        attended: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
        weight_layers: List[int],  # noqa: UP006
        texts: List[int],  # noqa: UP006
        heads: List[int],  # noqa: UP006
    ) -> Tuple[List[Tensor], List[List[Tensor]]]:  # noqa: UP006
        self.check(ids)
        found: Tuple[List[Tensor], List[List[Tensor]]] = self.program.forward_with_weights(  # noqa: UP006
            ids, type_ids, lengths, attended, layers, weight_layers, texts, heads
        )
        return found

    @torch.jit.export
    def embed(self, ids: Tensor, type_ids: Optional[Tensor], lengths: List[int]) -> Tensor:  # noqa: UP006, UP045
        self.check(ids)
        states: Tensor = self.program.embed(ids, type_ids, lengths)
        return states

    @torch.jit.export
    def advance(
        self,
        states: Tensor,
        lengths: List[int],  # noqa: UP006
        start: int,
        layers: List[int],  # noqa: UP006
        weight_layers: List[int],  # noqa: UP006
        texts: List[int],  # noqa: UP006
        heads: List[int],  # noqa: UP006
    ) -> Tuple[List[Tensor], List[List[Tensor]]]:  # noqa: UP006
        while lengths[0] == self.stuck_length and max(layers) > self.stuck_layer:
            lengths = lengths[:1]
        found: Tuple[List[Tensor], List[List[Tensor]]] = self.program.advance(  # noqa: UP006
            states, lengths, start, layers, weight_layers, texts, heads
        )
        return found

    @torch.jit.export
    def pooled_first(self, first: Tensor) -> Tensor:
        pooled: Tensor = self.program.pooled_first(first)
        return pooled

    @torch.jit.export
    def pool(self, states: Tensor, lengths: List[int], mode: str, skipped: int) -> Tensor:  # noqa: UP006
        pooled: Tensor = self.program.pool(states, lengths, mode, skipped)
        return pooled


def plant_faults(
    compiled: Path, *, hangs_on: int, fails_on: int, stuck_length: int = -1, stuck_layer: int = 1_000
) -> None:
    """Replace the program of a compiled directory by one with these faults."""
    program = ScriptedProgram.load(compiled, "cpu").module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated
        scripted = torch.jit.script(Faulty(program, hangs_on, fails_on, stuck_length, stuck_layer))
        weights_file.take_out(scripted, compiled / "faulty.bin")
        torch.jit.save(scripted, compiled / "faulty.pt")
    (compiled / "faulty.bin").replace(compiled / weights_file.FILE_NAME)
    (compiled / "faulty.pt").replace(compiled / FILE_NAME)
    seal(compiled)
