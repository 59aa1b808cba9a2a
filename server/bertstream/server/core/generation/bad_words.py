"""Words that are never to be generated, as token ids."""

from __future__ import annotations

from bertstream.server.core.errors import invalid
from bertstream.server.core.generation.plan import GenerationPlan, generation_of
from bertstream.server.core.models import ServedModel
from bertstream.server.core.tokenization import Texts, Tokenized, TokenizeOptions, Truncation
from bertstream.workers.ragged import starts_of

Words = tuple[tuple[int, ...], ...]


async def bad_word_ids(model: ServedModel, plan: GenerationPlan, path: str = "options.bad_words") -> Words:
    """Return the ids of each word as it is, and with a space before it where that has other tokens.

    Raises INVALID_EMPTY_TEXT for a word without tokens. Words that the vocabulary cannot spell, or that are longer than
    any text, are left out, since they are never generated; so are tokens that end sequences, as in transformers.
    """
    words = plan.bad_words
    if not words:
        return ()
    own = generation_of(model.description)
    options = TokenizeOptions(Truncation("refuse", own.max_tokens), add_special_tokens=False, allow_empty=True)
    timed = await model.tokenize(Texts([*words, *(f" {word}" for word in words)]), options)
    found = _spellings(timed.tokens)
    for i in range(len(words)):
        if found.get(i) == ():
            raise invalid(f"{path}[{i}]", "it has no tokens", "INVALID_EMPTY_TEXT")
    unknown = _unknown(model, words)
    ends = {(id,) for id in plan.options.eos_token_ids}
    kept = (ids for ids in found.values() if ids and ids not in ends and unknown.isdisjoint(ids))
    return tuple(dict.fromkeys(ids for ids in kept if max(ids) < own.vocabulary_size))


def _spellings(tokens: Tokenized) -> dict[int, tuple[int, ...]]:
    """Return the ids of each text that has a row, by the text's index."""
    starts, ids = starts_of(tokens.lengths).tolist(), tokens.ids.tolist()
    rows = zip(tokens.text_indexes.tolist(), starts, tokens.lengths.tolist(), strict=True)
    return {text: tuple(ids[start : start + length]) for text, start, length in rows}


def _unknown(model: ServedModel, words: tuple[str, ...]) -> set[int]:
    """Return the id of the unknown token, in a set that is empty where its own name is among the words."""
    token, id = model.description.special_tokens.get("unk", ("", -1))
    return set() if token in words else {id}
