"""Finds the tokens that candidates for masks are restricted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertstream.server.core.errors import Violation, invalid_fields, too_large
from bertstream.server.core.tasks.base import HeadModel
from bertstream.server.core.tokenization import Texts, TokenizeOptions, Truncation, ragged

MAX_TARGETS = 10_000  # a bound, since they are sent with each piece of work


def find_targets(targets: Sequence[str], target_ids: Sequence[int], model: HeadModel, path: str) -> tuple[int, ...]:
    """Return the targets' ids, ascending, each once; no ids mean the whole vocabulary.

    Raises INVALID_TARGET, naming all targets that are bad.
    """
    if len(targets) + len(target_ids) > MAX_TARGETS:
        raise too_large(f"{path}.targets", f"the limit is {MAX_TARGETS} targets, those given as ids included")
    size = model.description.vocabulary_size
    about = f"it is not in [0, {size})"
    beyond = [Violation(f"{path}.target_ids[{i}]", about) for i, id in enumerate(target_ids) if not 0 <= id < size]
    if beyond:
        raise invalid_fields(beyond, "INVALID_TOKEN_ID")
    found = _ids_of(list(targets), model)
    about = "it is not one token of the vocabulary"
    if bad := [Violation(f"{path}.targets[{i}]", about) for i, id in enumerate(found) if id is None]:
        raise invalid_fields(bad, "INVALID_TARGET")
    return tuple(sorted({*(id for id in found if id is not None), *target_ids}))


def _ids_of(targets: list[str], model: HeadModel) -> list[int | None]:
    """Return the id of each target: the entry spelled just so, or the single token of the text or of " " + text."""
    found = model.tokenizer.ids_of(targets)
    left = [i for i, id in enumerate(found) if id is None]
    for before in ("", " "):
        single = _single_tokens([before + targets[i] for i in left], model)
        for i, id in zip(left, single, strict=True):
            found[i] = id
        left = [i for i in left if found[i] is None]
    return found


def _single_tokens(texts: list[str], model: HeadModel) -> list[int | None]:
    """Return the id of each text that is a single token other than the unknown token, else None."""
    unknown = model.description.special_tokens.get("unk", ("", -1))[1]
    options = TokenizeOptions(Truncation("longest_first", 2), add_special_tokens=False, allow_empty=True)
    tokens = model.tokenizer.tokenize(Texts(texts), options)
    lengths = np.zeros(len(texts), np.int32)
    lengths[tokens.text_indexes] = tokens.lengths
    starts = ragged.first_indexes(lengths)
    single = np.flatnonzero(lengths == 1)
    ids: list[int | None] = [None] * len(texts)
    for i, id in zip(single.tolist(), tokens.ids[starts[single]].tolist(), strict=True):
        ids[i] = id if id != unknown else None
    return ids
