"""Make the tokenizer read prefixes of ColBERT's queries and documents as the one token that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertstream.workers.compile.checkpoints.multi_vector import MultiVectorSettings
from bertstream.workers.compile.checkpoints.tokenizer import TokenizerSettings
from bertstream.workers.compile.checkpoints.tokenizer_versions import token_ids
from bertstream.workers.compile.sources.errors import CheckpointError
from bertstream.workers.programs.description import MultiVectorDescription, QueryExpansion

_LOST = "Words that have no vector in documents are no tokens of the vocabulary, so they have one: {}."


def with_markers(tokenizer: TokenizerSettings, settings: MultiVectorSettings) -> TokenizerSettings:
    """Return the tokenizer with those of the prefixes added that it knows and would split.

    It is what sentence-transformers does with checkpoints of PyLate and of Stanford's ColBERT.
    """
    from tokenizers import AddedToken, Tokenizer  # few checkpoints need it

    made = Tokenizer.from_str(json.dumps(tokenizer.definition))
    known = token_ids(tokenizer.definition)
    added = [AddedToken(each, normalized=False, special=True) for each in _split(made, known, settings.markers)]
    if not added:
        return tokenizer
    made.add_special_tokens(added)
    return replace(tokenizer, definition=json.loads(made.to_str()))


def _split(tokenizer: Any, known: Mapping[str, int], markers: tuple[str, ...]) -> list[str]:
    """Return those of the markers that are tokens, whole or up to the first space, and are split all the same."""
    found = list[str]()
    for marker in markers:
        candidates = [each for each in (marker, *marker.split(None, 1)[:1]) if each in known]
        if candidates and tokenizer.encode(candidates[0], add_special_tokens=False).tokens != [candidates[0]]:
            found.append(candidates[0])
    return found


def describe_multi_vector(
    settings: MultiVectorSettings, tokenizer: TokenizerSettings
) -> tuple[MultiVectorDescription, tuple[str, ...]]:
    """Return what the server needs to know of the model, and warnings. Raises CheckpointError."""
    known = token_ids(tokenizer.definition)
    unknown = [word for word in settings.skipped_words if word not in known]
    description = MultiVectorDescription(
        width=settings.width,
        similarity=settings.similarity,
        query_length=settings.query_length,
        document_length=settings.document_length,
        expansion=_expansion(settings, tokenizer, known),
        skipped_ids=tuple(sorted(known[word] for word in settings.skipped_words if word in known)),
        skips_in=settings.skips_in,
    )
    return description, (_LOST.format(" ".join(unknown)),) if unknown else ()


def _expansion(
    settings: MultiVectorSettings, tokenizer: TokenizerSettings, known: Mapping[str, Any]
) -> QueryExpansion | None:
    expansion = settings.expansion
    if expansion is None:
        return None
    roles = tokenizer.special_tokens
    token = expansion.token or next((roles[role][0] for role in ("mask", "eos") if role in roles), "")
    if token not in known:
        raise CheckpointError(f"queries are to be expanded by {token or 'the mask'!r}, which the vocabulary has not")
    return QueryExpansion(known[token], expansion.length, expansion.fixed, expansion.attend)
