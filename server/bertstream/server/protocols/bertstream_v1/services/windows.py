"""Makes answers for whole texts of what the workers give for their windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.dispatch import Outcome
from bertstream.server.core.errors import RequestError
from bertstream.server.core.layout import Tensors, join
from bertstream.server.core.plans import WindowPlan
from bertstream.server.core.preparation import Prepared
from bertstream.server.core.splitting import MESSAGE_BYTES
from bertstream.server.core.windows import WholeTexts, whole_texts
from bertstream.workers.ragged import pieces_of


@dataclass(frozen=True, slots=True)
class FoundTexts:
    """The texts all of whose windows were computed, and the errors of the others, by their index in the message."""

    whole: WholeTexts
    failed: Mapping[int, RequestError]


def windowed_parts(prepared: Prepared, costs: NDArray[np.int64], limit: int) -> Iterator[tuple[slice, int]]:
    """Yield the rows of consecutive texts, with all windows of each, and their cost: at most `limit`, or one text's."""
    if not prepared.texts.size:
        return
    _, starts = np.unique(prepared.texts, return_index=True)
    sizes, ends = np.add.reduceat(costs, starts), [*starts[1:].tolist(), prepared.texts.size]
    for first, last in pieces_of(sizes, limit):
        yield slice(int(starts[first]), ends[last - 1]), int(sizes[first:last].sum())


def gather_windows(windows: WindowPlan, prepared: Prepared, rows: slice, outcomes: Sequence[Outcome]) -> FoundTexts:
    """Gather the outcomes of these rows, which are all windows of their texts."""
    texts = prepared.texts[rows]
    failed: dict[int, RequestError] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            for text in np.unique(texts[outcome.start : outcome.start + outcome.texts]).tolist():
                failed.setdefault(text, outcome.error)
    good = [outcome for outcome in outcomes if outcome.error is None]
    computed = (
        np.concatenate([np.arange(each.start, each.start + each.texts) for each in good]) if good else np.arange(0)
    )
    kept = ~np.isin(texts[computed], list(failed))
    tensors = {name: values[kept] for name, values in join([each.tensors for each in good]).items()} if good else {}
    return FoundTexts(
        _merged(windows, tensors, texts[computed][kept], prepared.batch.lengths[rows][computed][kept]), failed
    )


def merge(windows: WindowPlan, tensors: Tensors, prepared: Prepared, rows: slice) -> WholeTexts:
    """Return the texts of these rows, whose outputs are all there."""
    return _merged(windows, tensors, prepared.texts[rows], prepared.batch.lengths[rows])


def _merged(windows: WindowPlan, tensors: Tensors, texts: NDArray[np.int32], lengths: NDArray[np.int32]) -> WholeTexts:
    how, wire_type = windows.pooling, windows.wire_type
    return whole_texts(tensors, texts, lengths, how, normalize=windows.normalize, wire_type=wire_type)


def message_parts(whole: WholeTexts) -> Iterator[tuple[int, int]]:
    """Yield [first, last) of the texts whose vectors go into one message of at most about 1 MiB, or of one text."""
    rows = np.ones(whole.texts.size, np.int64) if whole.window_counts is None else whole.window_counts
    width = int(whole.tensors["pooled"][:1].nbytes)
    yield from pieces_of(rows * width, MESSAGE_BYTES)
