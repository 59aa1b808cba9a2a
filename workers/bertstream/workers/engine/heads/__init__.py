"""Make the outputs of task heads from the last states of a batch.

To add an output, add a file here that makes it, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from bertstream.workers.contract import Output
from bertstream.workers.engine.batch import Prepared
from bertstream.workers.engine.heads import (
    answer_spans,
    entity_spans,
    labels,
    masked_tokens,
    max_similarities,
    sparse_weights,
)
from bertstream.workers.engine.heads.asking import Asking, Named
from bertstream.workers.programs.interface import Program

# Each function makes one work's output, given by the work's index in the batch: float32 and int32, on the CPU.
HEAD_OUTPUTS: Mapping[Output, Callable[[Asking, int], Named]] = {
    "label_scores": labels.label_scores,
    "token_label_scores": labels.token_label_scores,
    "answer_spans": answer_spans.answer_spans,
    "mask_candidates": masked_tokens.mask_candidates,
    "token_log_probabilities": masked_tokens.token_log_probabilities,
    "sparse_weights": sparse_weights.sparse_weights,
    "max_similarities": max_similarities.max_similarities,
    "entity_spans": entity_spans.entity_spans,
}


class Heads:
    """Run the heads that the works of a batch ask for, each when it is first needed."""

    def __init__(self, program: Program, batch: Prepared, states: Mapping[int, Tensor]) -> None:
        self._asking = Asking(program, batch, states)
        self._batch = batch

    def of(self, index: int) -> Named:
        """Return the outputs of one work's head; none where it asks for none."""
        found = Named()
        for output in self._batch.works[index].output_options.outputs:
            if output in HEAD_OUTPUTS:
                found |= HEAD_OUTPUTS[output](self._asking, index)
        return found
