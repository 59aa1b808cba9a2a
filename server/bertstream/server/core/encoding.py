"""Encode the texts of a message whose answer is one message, too, so that it fails as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.computing import Terms, raise_first
from bertstream.server.core.dispatch import Job, Outcome
from bertstream.server.core.layout import Tensors, join
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import Prepared


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold the outputs of all texts, end to end as in the layout of what was prepared."""

    tensors: Tensors
    outcomes: Sequence[Outcome]  # for their times


async def encode(
    model: ServedModel, plan: EncodingPlan, prepared: Prepared, terms: Terms, *, waits: bool = False
) -> Encoded:
    """Compute texts that are prepared; `waits` says whether to wait for room, or to raise where there is none."""
    batch = prepared.batch
    terms.check_deadline()
    tokens, texts = int(batch.ids.size), int(batch.lengths.size)
    async with model.admission.room(tokens, terms.caller, plan.priority, texts=texts, waits=waits):
        job = Job(batch, prepared.output_options, plan.priority, terms.deadline, terms.caller)
        outcomes = await model.dispatcher.run(job)
    raise_first(outcomes)
    return Encoded(join([outcome.tensors for outcome in outcomes]), outcomes)


def output_bytes(plan: EncodingPlan, prepared: Prepared) -> NDArray[np.int64]:
    """Return how many bytes the outputs of each text have: [n]."""
    return plan.sizes.of(prepared.layout.lengths, prepared.layout.span_counts)


def window_costs(plan: EncodingPlan, prepared: Prepared, model: ServedModel) -> NDArray[np.int64]:
    """Return what each text takes of a stream's window, [n]: its tokens, and more where its outputs are large.

    A window full of texts then keeps both the bound on tokens and the bound on bytes of outputs.
    """
    limits = model.limits
    costs: NDArray[np.int64] = (
        prepared.layout.lengths + output_bytes(plan, prepared) * limits.stream_tokens // limits.stream_bytes
    )
    return costs
