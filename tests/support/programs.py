"""Programs with faults of their own, put where a compiled model's program lies, to see real workers die of them."""

from __future__ import annotations

import warnings
from pathlib import Path

# TorchScript reads these annotations, and knows the old spellings only.
from typing import Any, List, Optional  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers import native
from bertstream.workers.description import ModelDescription
from bertstream.workers.program import FILE_NAME


class Faulty(nn.Module):
    """A compiled program that computes for ever where a text has the token `hangs_on`, and fails for `fails_on`."""

    def __init__(self, program: Any, hangs_on: int, fails_on: int) -> None:
        super().__init__()
        self.program = program
        self.hangs_on = hangs_on
        self.fails_on = fails_on

    def forward(
        self,
        ids: Tensor,
        type_ids: Optional[Tensor],  # noqa: UP045
        lengths: List[int],  # noqa: UP006
        layers: List[int],  # noqa: UP006
    ) -> List[Tensor]:  # noqa: UP006
        if bool((ids == self.fails_on).any()):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        while bool((ids == self.hangs_on).any()):
            ids = ids.clone()
        return self.program(ids, type_ids, lengths, layers)

    @torch.jit.export
    def pooled_first(self, first: Tensor) -> Tensor:
        return self.program.pooled_first(first)

    @torch.jit.export
    def pool(self, states: Tensor, lengths: List[int], mode: str) -> Tensor:  # noqa: UP006
        return self.program.pool(states, lengths, mode)


def plant_faults(compiled: Path, *, hangs_on: int, fails_on: int) -> None:
    """Replaces the program of a compiled directory by one with these faults."""
    if ModelDescription.load(compiled).native_operators:
        native.load(compiled / native.file_name())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, as where programs are compiled
        program = torch.jit.load(compiled / FILE_NAME)  # type: ignore[no-untyped-call]
        scripted = torch.jit.script(Faulty(program, hangs_on, fails_on))
        torch.jit.save(scripted, compiled / "faulty.pt")  # type: ignore[no-untyped-call]
    (compiled / "faulty.pt").replace(compiled / FILE_NAME)
