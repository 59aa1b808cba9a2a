"""Encode the texts of a message whose answer is one message, too, so that it fails as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.computing import Terms, before_failure
from bertstream.server.core.dispatch import Job, Outcome
from bertstream.server.core.dispatch.cutting import part
from bertstream.server.core.errors import RequestError
from bertstream.server.core.layout import Tensors, join
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.preparation import Prepared


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold the outputs of consecutive texts, end to end as in the layout of what was prepared."""

    texts: int
    tensors: Tensors
    outcomes: Sequence[Outcome]  # for their times


async def encode(
    model: ServedModel, plan: EncodingPlan, prepared: Prepared, terms: Terms, *, waits: bool = False
) -> Encoded:
    """Compute texts that are prepared; `waits` says whether to wait for room, or to raise where there is none."""
    encoded, error = await encode_some(model, plan, prepared, slice(0, prepared.batch.lengths.size), terms, waits=waits)
    if error is not None:
        raise error
    return encoded


async def encode_some(
    model: ServedModel, plan: EncodingPlan, prepared: Prepared, which: slice, terms: Terms, *, waits: bool
) -> tuple[Encoded, RequestError | None]:
    """Compute some of the texts as `encode` does; return those before the first that fails, and its error."""
    batch = part(prepared.batch, which.start, which.stop)
    terms.check_deadline()
    tokens, texts = int(batch.ids.size), int(batch.lengths.size)
    async with model.admission.room(tokens, terms.caller, plan.priority, texts=texts, waits=waits):
        job = Job(batch, prepared.output_options, plan.priority, terms.deadline, terms.caller)
        outcomes, error = before_failure(await model.dispatcher.run(job))
    tensors = join([outcome.tensors for outcome in outcomes]) if outcomes else {}
    return Encoded(sum(outcome.texts for outcome in outcomes), tensors, outcomes), error


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
