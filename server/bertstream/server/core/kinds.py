"""Treat queries and documents as a checkpoint does, each in its own way, and find the tokens that have a vector."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bertstream.workers.contract import Batch, Spans
from bertstream.workers.programs.description import ModelDescription, MultiVectorDescription, QueryExpansion
from bertstream.workers.ragged import Ints, kept_places, rows_of, starts_of

TextKind = Literal["query", "document"]
TEXT_KINDS: tuple[TextKind, ...] = get_args(TextKind)
# By kind, the names of its prompt, in order of preference, as sentence-transformers' encode_query and encode_document.
_PROMPTS: dict[TextKind, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}


def prompt_name(description: ModelDescription, kind: TextKind | None) -> str:
    """Return the name of the prompt of this kind of text; "" where the checkpoint has none for it."""
    names = (description.default_prompt_name,) if kind is None else _PROMPTS[kind]
    return next((name for name in names if name in description.prompts), "")


def for_kind(description: ModelDescription, kind: TextKind | None) -> ModelDescription:
    """Return the same model, whose texts are cut by default to the length of this kind."""
    own = description.multi_vector
    if own is None or kind is None:
        return description
    length = query_length(own) if kind == "query" else own.document_length
    return description.with_default_length(min(length, description.max_tokens)) if length else description


def query_length(own: MultiVectorDescription) -> int:
    """Return where queries are cut, special tokens included; 0: as all texts."""
    expansion = own.expansion
    if expansion is None or not own.query_length:
        return expansion.length if expansion is not None and expansion.fixed else own.query_length
    return expansion.length if expansion.fixed else max(own.query_length, expansion.length)


def expansion_of(description: ModelDescription, kind: TextKind | None) -> QueryExpansion | None:
    """Return how this kind of text is made longer, None where it is not."""
    own = description.multi_vector
    return own.expansion if own is not None and kind == "query" else None


def with_token_vectors(batch: Batch, description: ModelDescription, kind: TextKind | None) -> Batch:
    """Return the texts, expanded where they are queries, with their tokens that have a vector as spans."""
    own = description.multi_vector
    assert own is not None
    expansion = expansion_of(description, kind)
    if expansion is not None:
        batch = _expanded(batch, expansion)
    counts, places = kept_places(_kept(batch, own, kind), batch.lengths)
    spans = Spans(counts, places, np.ones_like(places))
    return Batch(batch.ids, batch.lengths, batch.type_ids, spans, batch.attended)


def _expanded(batch: Batch, expansion: QueryExpansion) -> Batch:
    """Add tokens of the expansion at the end of each text that is shorter."""
    lengths = np.maximum(batch.lengths, expansion.length).astype(np.int32)
    at = rows_of(starts_of(lengths), batch.lengths)
    ids = np.full(int(lengths.sum()), expansion.token_id, np.int32)
    ids[at] = batch.ids
    type_ids = None
    if batch.type_ids is not None:
        type_ids = np.zeros_like(ids)
        type_ids[at] = batch.type_ids
    return Batch(ids, lengths, type_ids, attended=None if expansion.attend else batch.lengths)


def _kept(batch: Batch, own: MultiVectorDescription, kind: TextKind | None) -> NDArray[np.bool_]:
    """Return which tokens have a vector, [T]. A text of no kind counts as a document, as in sentence-transformers."""
    kept = np.ones(batch.ids.size, np.bool_)
    if own.skipped_ids and (kind or "document") in own.skips_in:
        kept = ~np.isin(batch.ids, np.array(own.skipped_ids, np.int32))
    if own.skips_first:
        kept[starts_of(batch.lengths)] = False
    return kept


def join_pairs(queries: Batch, documents: Batch, query_of: Ints) -> Batch:
    """Return rows of a query and a document each, as Batch.queries has them. query_of: [n], for each document."""
    sizes = queries.lengths[query_of].astype(np.int64)
    lengths = (sizes + documents.lengths).astype(np.int32)
    starts = starts_of(lengths)
    to_query, to_document = rows_of(starts, sizes), rows_of(starts + sizes, documents.lengths)
    from_query = rows_of(starts_of(queries.lengths)[query_of], sizes)
    kept = np.zeros(int(lengths.sum()), np.bool_)
    kept[to_query], kept[to_document] = marked(queries)[from_query], marked(documents)
    ids = np.empty(kept.size, np.int32)
    ids[to_query], ids[to_document] = queries.ids[from_query], documents.ids
    type_ids = None
    if queries.type_ids is not None or documents.type_ids is not None:
        type_ids = np.zeros_like(ids)
        type_ids[to_query] = 0 if queries.type_ids is None else queries.type_ids[from_query]
        type_ids[to_document] = 0 if documents.type_ids is None else documents.type_ids
    counts, places = kept_places(kept, lengths)
    attended = None if queries.attended is None else queries.attended[query_of]
    return Batch(ids, lengths, type_ids, Spans(counts, places, np.ones_like(places)), attended, sizes.astype(np.int32))


def marked(batch: Batch) -> NDArray[np.bool_]:
    """Return which tokens have a vector, by the spans, [T]."""
    assert batch.spans is not None
    kept = np.zeros(batch.ids.size, np.bool_)
    kept[np.repeat(starts_of(batch.lengths), batch.spans.counts) + batch.spans.starts] = True
    return kept
