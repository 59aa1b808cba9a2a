"""The arithmetic of which tokens of each text are kept, the same as that of the Rust tokenizers.

Source: `truncate_encodings` and `Encoding::truncate` of huggingface/tokenizers, which transformers' tokenizers call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertstream.server.core.tokenization import ragged
from bertstream.server.core.tokenization.values import Side, Strategy, TokenizationError, TokenizeOptions, Truncation

# A stride near the window's length makes up to max_length times as many tokens as there were. There is no known use for
# that, and a request of 1 MB would take gigabytes.
MAX_WINDOW_GROWTH = 16
FREE_WINDOW_TOKENS = 4096

Lengths = NDArray[np.int64]
Errors = dict[int, TokenizationError]


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """The part that each of r rows takes of the w sequences of its text (1, or 2 for pairs)."""

    texts: Lengths  # [r]
    starts: Lengths  # [w, r]: the first token taken, counted within the sequence
    lengths: Lengths  # [w, r]: how many tokens

    def without(self, failed: Errors) -> KeptTokens:
        """Return all rows but those of the texts that failed."""
        if not failed:
            return self
        kept = ~np.isin(self.texts, list(failed))
        return KeptTokens(self.texts[kept], self.starts[:, kept], self.lengths[:, kept])


def plan_rows(
    lengths: Lengths, special_tokens: int, options: TokenizeOptions, unread: NDArray[np.bool_]
) -> tuple[KeptTokens, Errors]:
    """Cut texts to max_length, or into windows.

    lengths: [w, n], without special tokens; where `unread`, [w, n], it is at least that many.
    """
    room = options.truncation.max_length - special_tokens
    if room < 0:
        return _no_rows(lengths), _max_length_errors(lengths, special_tokens, options.truncation)
    if options.windows and _are_pairs(lengths) and options.truncation.strategy == "longest_first":
        message = "windows are cut from one text of a pair: say from which, by only_first or only_second"
        error = TokenizationError("INVALID_WINDOWS", message, "truncation.strategy")
        return _no_rows(lengths), dict.fromkeys(range(lengths.shape[1]), error)
    if options.windows:
        rows, errors = _windows(lengths, room, options)
    else:
        kept = kept_lengths(lengths, room, options.truncation.strategy)
        rows = KeptTokens(np.arange(lengths.shape[1]), _starts(lengths, kept, options.truncation.side), kept)
        errors = _truncation_errors(lengths, kept, special_tokens, options.truncation, unread)
    return rows.without(errors), errors


def _are_pairs(lengths: Lengths) -> bool:
    return len(lengths) > 1


def kept_lengths(lengths: Lengths, room: int, strategy: Strategy) -> Lengths:
    """Return how many tokens of each sequence to keep in `room` for each text: [w, n], -1 where that cannot be."""
    over = lengths.sum(axis=0) - room  # [n]
    if not (over > 0).any():
        return lengths
    if strategy == "longest_first":
        cut = _longest_first(lengths, room)
    else:
        cut = _only(lengths, over, {"refuse": -1, "only_first": 0, "only_second": 1}[strategy])
    return np.where(over > 0, cut, lengths)


def _longest_first(lengths: Lengths, room: int) -> Lengths:
    if not _are_pairs(lengths):
        return np.minimum(lengths, room)
    short, long = lengths.min(axis=0), lengths.max(axis=0)
    long = np.where(short > room, short, np.maximum(short, room - short))
    both = short + long > room  # cutting the longer one is not enough: half for each
    short, long = np.where(both, room // 2, short), np.where(both, room - room // 2, long)
    swapped = lengths[0] > lengths[1]
    return np.stack([np.where(swapped, long, short), np.where(swapped, short, long)])


def _only(lengths: Lengths, over: Lengths, target: int) -> Lengths:
    if not 0 <= target < len(lengths):
        return np.full_like(lengths, -1)
    cut = lengths.copy()
    cut[target] -= over
    # At least one token of a pair's text must be kept, as in the Rust tokenizers (which, where there is room for
    # special tokens only, cut both texts, whatever was asked for; here that is an error). A single text may lose all.
    impossible = cut[target] < (1 if _are_pairs(lengths) else 0)
    return np.where(impossible, -1, cut)


def _starts(lengths: Lengths, kept: Lengths, side: Side) -> Lengths:
    return lengths - kept if side == "left" else np.zeros_like(lengths)


def _windows(lengths: Lengths, room: int, options: TokenizeOptions) -> tuple[KeptTokens, Errors]:
    target = 1 if _are_pairs(lengths) and options.truncation.strategy == "only_second" else 0
    rooms = np.maximum(room - (lengths.sum(axis=0) - lengths[target]), 0)  # each window has the pair's other text too
    errors = _window_errors(lengths, room, rooms, target, options)
    whole = lengths[target].copy()
    whole[list(errors)] = 0
    steps = np.maximum(rooms - options.stride, 1)
    counts = _window_counts(whole, rooms, steps)
    texts = ragged.owners(counts)
    shift = (np.arange(len(texts)) - ragged.first_indexes(counts)[texts]) * steps[texts]
    ends = whole[texts]
    rows = KeptTokens(texts, np.zeros((len(lengths), len(texts)), np.int64), lengths[:, texts])
    if options.truncation.side == "right":
        starts, stops = shift, np.minimum(shift + rooms[texts], ends)
    else:
        starts, stops = np.maximum(ends - shift - rooms[texts], 0), ends - shift
    rows.starts[target], rows.lengths[target] = starts, stops - starts
    return rows, errors


def _window_counts(lengths: Lengths, rooms: Lengths, steps: Lengths) -> Lengths:
    further: Lengths = np.maximum(-((rooms - lengths) // steps), 0)  # ceil((length - room) / step), or none
    return 1 + further


def _window_errors(lengths: Lengths, room: int, rooms: Lengths, target: int, options: TokenizeOptions) -> Errors:
    kept = kept_lengths(lengths, room, options.truncation.strategy)
    unread = np.zeros(lengths.shape, np.bool_)
    errors = _truncation_errors(lengths, kept, options.truncation.max_length - room, options.truncation, unread)
    over = (lengths[target] > rooms) & (kept[0] >= 0)
    for text in np.flatnonzero(over & (rooms <= options.stride)).tolist():
        message = f"stride must be less than the {rooms[text]} tokens that each window has room for"
        errors[text] = TokenizationError("INVALID_WINDOWS", message, "stride")
    tokens = _window_counts(lengths[target], rooms, np.maximum(rooms - options.stride, 1)) * room
    grown = over & (tokens > MAX_WINDOW_GROWTH * lengths.sum(axis=0) + FREE_WINDOW_TOKENS)
    message = f"with this stride the windows would have more than {MAX_WINDOW_GROWTH} times as many tokens as the text"
    error = TokenizationError("INVALID_WINDOWS", message, "stride")
    return dict.fromkeys(np.flatnonzero(grown).tolist(), error) | errors


def _truncation_errors(
    lengths: Lengths, kept: Lengths, special_tokens: int, truncation: Truncation, unread: NDArray[np.bool_]
) -> Errors:
    most, off = truncation.max_length, "and truncation is off"
    refused = truncation.strategy == "refuse"
    errors = {}
    for text in np.flatnonzero(kept[0] < 0).tolist():
        one = _too_long_one(lengths[:, text], most - special_tokens, truncation.strategy)
        which = slice(None) if one is None else slice(one, one + 1)
        count = int(lengths[which, text].sum()) + special_tokens
        message = f"has {'at least ' if unread[which, text].any() else ''}{count} tokens"
        if one is None:
            message += f", more than {most}, {off if refused else 'and there is no second text'}"
        else:
            limit = f"more than {most}, {off}" if refused else f"which leaves no room for the other in {most}"
            message += f" with the special ones, {limit}"
        errors[text] = TokenizationError("INVALID_TEXT_LENGTH", message, sequence=one)
    return errors


def _too_long_one(lengths: Lengths, room: int, strategy: Strategy) -> int | None:
    """Return which text of a pair, [2], is too long whatever the other is; None where neither is, or both."""
    if not _are_pairs(lengths):
        return None
    if strategy != "refuse":
        return 1 if strategy == "only_first" else 0  # the one that is not cut
    alone = np.flatnonzero(lengths > room).tolist()
    return alone[0] if len(alone) == 1 else None


def _max_length_errors(lengths: Lengths, special_tokens: int, truncation: Truncation) -> Errors:
    message = f"max_length is {truncation.max_length}, but the special tokens alone are {special_tokens}"
    error = TokenizationError("INVALID_TRUNCATION", message, "truncation.max_length")
    return dict.fromkeys(range(lengths.shape[1]), error)


def _no_rows(lengths: Lengths) -> KeptTokens:
    return KeptTokens(np.zeros(0, np.int64), lengths[:, :0], lengths[:, :0])
