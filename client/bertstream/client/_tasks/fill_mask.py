"""The task "fill_mask": candidates for masked tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._columns import check, joined, split
from bertstream.client._fields import flag, numbers_of, optional_whole, set_fields, strings_of, values_of
from bertstream.client._tasks.items import ANY, preparing
from bertstream.client._tasks.options import TaskOptions, with_common
from bertstream.client._tasks.task import Task
from bertstream.v1 import tasks_pb2 as tasks

_CANDIDATES = 16  # this many take about as many bytes as a text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate for a masked token."""

    token: str
    """The token as text."""
    token_id: int
    score: float
    """Its probability, while other masks of the text remain masked."""
    sequence: str
    """The text with the candidate in place of the mask, as the tokenizer writes it; empty with `sequences=False`."""
    position: int
    """The index of the mask among the text's tokens."""


class FillMaskOptions(TaskOptions, total=False):
    """Keyword arguments of `fill_mask`: those of TaskOptions, and these."""

    top_k: int | None
    """How many candidates to return for each mask; None for 5."""
    targets: Sequence[str | int] | None
    """The only candidates to consider: words, each of which must be one token, or token ids. Their scores remain
    those among the whole vocabulary."""
    sequences: bool
    """Whether to return the filled sentences; answers are smaller without them."""


class FillMaskCall(CallOptions, FillMaskOptions, total=False):
    """Keyword arguments of `fill_mask`, for type checkers."""


class FillMaskStream(StreamOptions, FillMaskOptions, total=False):
    """Keyword arguments of a stream of "fill_mask"."""


def fill_mask_task(
    *, top_k: int | None = None, targets: Sequence[str | int] | None = None, sequences: bool = True, **given: Any
) -> Task[list[list[Candidate]]]:
    """Return the task for FillMaskOptions. Raises ValueError or TypeError for unusable values."""
    options = tasks.FillMaskOptions(omit_sequences=not flag(sequences, "sequences"))
    set_fields(options, top_k=optional_whole(top_k, "top_k", 1))
    some = values_of(targets, "targets", "a list of str or int")
    if targets is not None and not some:
        raise ValueError("targets is empty; leave it out for the whole vocabulary")
    if not all(isinstance(target, str) or hasattr(target, "__index__") for target in some):
        raise TypeError(f"targets must be a list of str or int, not {targets!r}")
    options.targets.extend(strings_of([target for target in some if isinstance(target, str)], "targets"))
    options.target_ids.extend(numbers_of([target for target in some if not isinstance(target, str)], "targets"))
    return Task(
        with_common(options, **given),
        tasks.FillMasksRequest,
        tasks.MaskCandidates,
        preparing("fill_mask", ANY, 1 + options.top_k // _CANDIDATES),
        candidates_of,
        renamed=_renamed,
    )


def candidates_of(message: tasks.MaskCandidates, items: int) -> list[list[list[Candidate]]]:
    """Return the candidates for each mask of each text."""
    masks = len(message.mask_positions)
    check(message.mask_counts, items, "mask_counts")
    check(message.candidate_counts, masks, "candidate_counts")
    sequences: Sequence[str] = message.sequences or [""] * len(message.token_ids)
    positions = [
        position
        for position, count in zip(message.mask_positions, message.candidate_counts, strict=True)
        for _ in range(count)
    ]
    candidates = joined(Candidate, message.tokens, message.token_ids, message.scores, sequences, positions)
    return split(split(candidates, message.candidate_counts), message.mask_counts)


def _renamed(options: tasks.FillMaskOptions) -> dict[str, Any]:
    return {"targets": (*options.targets, *options.target_ids), "sequences": not options.omit_sequences}
