"""Parses SpanLists into the spans of n texts."""

from __future__ import annotations

import numpy as np

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.plans import EncodingPlan
from bertstream.server.core.spans import AskedSpans, SpanUnit
from bertstream.server.core.tokenization import Ids, Inputs, Pairs, Words
from bertstream.server.protocols.enums import name_of
from bertstream.v1 import encoding_pb2

MAX_SPANS = 512  # of one text; enough for a span for each token

UNITS: dict[int, SpanUnit] = {
    encoding_pb2.SPAN_UNIT_UNSPECIFIED: "characters",
    encoding_pb2.SPAN_UNIT_CHARACTERS: "characters",
    encoding_pb2.SPAN_UNIT_WORDS: "words",
    encoding_pb2.SPAN_UNIT_TOKENS: "tokens",
}


def spans_for(plan: EncodingPlan, spans: encoding_pb2.SpanLists, inputs: Inputs, path: str) -> AskedSpans | None:
    """Return the spans if the plan pools spans, else None. Raises INVALID_ARGUMENT for spans that are not used."""
    if "pooled_spans" in plan.output_options.outputs:
        return parse_spans(spans, inputs, path)
    if spans.span_counts or spans.starts:
        raise invalid(path, "they mean something only with POOLED_SPANS", "INVALID_COMBINATION")
    return None


def parse_spans(spans: encoding_pb2.SpanLists, inputs: Inputs, path: str) -> AskedSpans:
    """Parse the spans. Raises INVALID_ARGUMENT with the field's path."""
    unit = name_of(UNITS, spans.unit, f"{path}.unit")
    counts = np.array(spans.span_counts, np.int32)
    starts, ends = np.array(spans.starts, np.int64), np.array(spans.ends, np.int64)
    if counts.size != len(inputs):
        raise invalid(f"{path}.span_counts", f"{counts.size} counts for {len(inputs)} texts", "INVALID_LENGTHS")
    if (counts < 0).any() or not counts.sum(dtype=np.int64) == starts.size == ends.size:
        raise invalid(path, "span_counts must add up to the number of starts, and of ends", "INVALID_LENGTHS")
    if (counts > MAX_SPANS).any():
        raise too_large(f"{path}.span_counts[{int(counts.argmax())}]", f"the limit is {MAX_SPANS} spans a text")
    if unit != "tokens" and isinstance(inputs, Ids | Pairs):
        raise invalid(f"{path}.unit", "spans of pairs and of token ids are counted in tokens", "INVALID_COMBINATION")
    if unit == "characters" and isinstance(inputs, Words):  # there is no text whose characters could be counted
        why = "spans of texts split into words are counted in words or tokens"
        raise invalid(f"{path}.unit", why, "INVALID_COMBINATION")
    return AskedSpans(counts, starts, ends, unit)
