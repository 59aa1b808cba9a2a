"""Give the tokens of texts as tensors."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bertstream.server.core.tokenization import Column, Tokenized
from bertstream.server.protocols.inference.inputs import IDS, MASK, TYPES
from bertstream.server.protocols.inference.tensors import Array, Spec, pad

COUNT, OFFSETS = "token_count", "offsets"
SPECS = (
    Spec(COUNT, "INT32", (-1, 1)),
    Spec(IDS, "INT64", (-1, -1)),
    Spec(MASK, "INT64", (-1, -1)),
    Spec(TYPES, "INT64", (-1, -1)),
    Spec(OFFSETS, "INT32", (-1, -1, 2)),
)
NAMES = frozenset(spec.name for spec in SPECS)


def columns_for(names: Collection[str]) -> frozenset[Column]:
    """Return what the tokenizer has to tell besides ids for outputs of these names."""
    return frozenset({"offsets"} if OFFSETS in names else ())


def token_arrays(tokens: Tokenized, width: int, names: Collection[str]) -> dict[str, Array]:
    """Return the outputs of these names that are about tokens, padded to `width`; texts have a row each.

    Offsets of token ids are 0, as there is no text that they could be in.
    """
    lengths, made = tokens.lengths, dict[str, Array]()
    if COUNT in names:
        made[COUNT] = lengths[:, None].astype("<i4")
    if IDS in names:
        made[IDS] = pad(tokens.ids.astype("<i8"), lengths, width)
    if MASK in names:
        made[MASK] = (np.arange(width) < lengths[:, None]).astype("<i8")
    if TYPES in names:
        made[TYPES] = pad(tokens.filled_type_ids().astype("<i8"), lengths, width)
    if OFFSETS in names:
        none = np.zeros(tokens.ids.size, np.int32)
        starts, ends = (none if each is None else each for each in (tokens.starts, tokens.ends))
        made[OFFSETS] = pad(np.stack([starts, ends], axis=1).astype("<i4"), lengths, width)
    return made
