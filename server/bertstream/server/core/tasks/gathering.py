"""Gathers the workers' outputs for the rows of some items, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError
from bertstream.server.core.head_outputs import HEAD_OUTPUTS, Unit
from bertstream.server.core.layout import AnswerSizes, Layout, Tensors, cut, entries, join
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.workers.contract import Batch, OutputOptions
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.ragged import pieces_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Computed:
    """The computed rows, end to end in `tensors`, with all rows of each item that they are of."""

    rows: Ints  # [q] the rows' indexes, ascending
    items: Ints  # [q] the item of each
    copies: Ints  # [q] the number of texts that each row became
    layout: Layout  # of these texts
    tensors: Tensors

    def shares(self, least_bytes: Ints | None, limit: int) -> Iterator[Share]:
        """Yield shares of consecutive items with answers of about `limit` bytes, or of one item; least_bytes: [n]."""
        items = np.unique(self.items)
        sizes = np.zeros_like(items) if least_bytes is None else least_bytes[items]
        for first, last in pieces_of(sizes, limit):
            yield self._share(items[first], items[last - 1])

    def halves(self, share: Share) -> Iterator[Share]:
        """Yield the two halves of a share of several items."""
        middle = share.items.size // 2
        yield self._share(share.items[0], share.items[middle - 1])
        yield self._share(share.items[middle], share.items[-1])

    def whole(self) -> Share:
        """Return one share of all items."""
        return self._share(self.items[0], self.items[-1])

    def before(self, item: int) -> Share:
        """Return one share of all items before this one, of which there must be any."""
        end = int(np.searchsorted(self.items, item))
        return self._share(self.items[0], self.items[end - 1])

    def _share(self, first_item: np.int64, last_item: np.int64) -> Share:
        first, last = np.searchsorted(self.items, first_item), np.searchsorted(self.items, last_item, side="right")
        items, counts = np.unique(self.items[first:last], return_counts=True)
        if last - first == self.rows.size:
            return Share(items, self.rows, counts, self.tensors)
        texts = slice(int(self.copies[:first].sum()), int(self.copies[:last].sum()))
        return Share(items, self.rows[first:last], counts, cut(self.tensors, self.layout, texts.start, texts.stop))


def gather(
    rows: Rows[Any], first: int, last: int, batch: Batch, outcomes: Sequence[Outcome]
) -> tuple[Computed, dict[int, RequestError]]:
    """Gather the outcomes of the rows from `first` up to `last`, which are all rows of their items and became `batch`.

    An item with rows that failed has the error of the first of these, and is left out of the computed ones.
    """
    items = rows.items[first:last].astype(np.int64)
    copies = np.ones(last - first, np.int64) if rows.copies is None else rows.copies[first:last]
    layout = Layout(batch.lengths, None if batch.spans is None else batch.spans.counts)
    indexes = np.arange(first, last)
    owners = np.repeat(items, copies)  # the item of each text
    failed: dict[int, RequestError] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            for item in np.unique(owners[outcome.start : outcome.start + outcome.texts]).tolist():
                failed.setdefault(item, outcome.error)
    if not failed:
        tensors = join([outcome.tensors for outcome in outcomes]) if outcomes else {}
        return Computed(indexes, items, copies, layout, tensors), failed
    kept = ~np.isin(owners, list(failed))
    good = [outcome for outcome in outcomes if outcome.error is None]
    tensors = join([_kept(outcome, layout, kept) for outcome in good]) if good else {}
    counts = None if layout.span_counts is None else layout.span_counts[kept]
    whole = ~np.isin(items, list(failed))
    left = Layout(layout.lengths[kept], counts)
    return Computed(indexes[whole], items[whole], copies[whole], left, tensors), failed


def item_costs(rows: Rows[Any], costs: Ints) -> tuple[Ints, Ints]:
    """Return where the rows of each item that has any start, and their cost together: costs [r] -> [m], [m]."""
    _, starts = np.unique(rows.items, return_index=True)
    return starts, np.add.reduceat(costs, starts) if starts.size else starts


def window_costs(rows: Rows[Any], sizes: AnswerSizes, tokens_of_bytes: float) -> Ints:
    """Return the cost of each row in a stream's window: its tokens, or more where its tensors are large: [r]."""
    spans = None if rows.batch.spans is None else rows.batch.spans.counts
    size = sizes.of(rows.batch.lengths, spans)
    if rows.copies is not None:
        size = size * rows.copies
    costs: Ints = rows.costs + (size * tokens_of_bytes).astype(np.int64)
    return costs


def tensor_sizes(output_options: OutputOptions, description: ModelDescription) -> AnswerSizes:
    """Return the bytes of the workers' tensors for each row, token and span."""
    if output_options.head is None:
        return AnswerSizes(0, 0, 0, 0)
    sizes = dict.fromkeys(get_args(Unit), 0)
    for output in output_options.outputs:
        its = HEAD_OUTPUTS[output]
        sizes[its.unit] += its.most_bytes(output_options.head, description)
    return AnswerSizes(sizes["text"], sizes["token"], 0, sizes["span"])


def _kept(outcome: Outcome, layout: Layout, kept: NDArray[np.bool_]) -> Tensors:
    """Return the entries of those of an outcome's texts that are kept."""
    first, last = outcome.start, outcome.start + outcome.texts
    if kept[first:last].all():
        return outcome.tensors
    own = layout.part(first, last)
    return {
        name: values[np.repeat(kept[first:last], entries(outcome.tensors, own, name))]
        for name, values in outcome.tensors.items()
    }
