"""Read the items of bodies: texts, and pairs of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bertstream.server.core.errors import invalid
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tokenization import Pairs
from bertstream.server.protocols.http.texts import check_count, sent_of

TextInputs: TypeAlias = str | list[str]
PairInputs: TypeAlias = list[str | list[str]]
TextOrPairInputs: TypeAlias = str | PairInputs


def texts_of(given: TextInputs, path: str, max_texts: int) -> SentItems:
    """Return one text, or a list of them. Raises INVALID_ARGUMENT."""
    return sent_of(given, path, max_texts)  # type: ignore[arg-type]  # lists of texts are lists of texts or ids


def texts_or_pairs_of(given: TextOrPairInputs, path: str, max_texts: int) -> SentItems:
    """Return one text, a list of texts, or a list of pairs, which are lists of two. Raises INVALID_ARGUMENT."""
    if not isinstance(given, str) and given and not isinstance(given[0], str):
        return _pairs(given, path, max_texts)
    return texts_of(given, path, max_texts)  # type: ignore[arg-type]  # a list of both is refused


def pairs_of(given: PairInputs, path: str, max_texts: int) -> SentItems:
    """Return one pair, which is a list of two texts, or a list of pairs. Raises INVALID_ARGUMENT."""
    if len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], str):
        return Sent(Pairs([given[0]], [given[1]]), path, path, single=True)
    return _pairs(given, path, max_texts)


def matched(first: TextInputs, second: TextInputs, paths: tuple[str, str], max_texts: int) -> SentItems:
    """Return the pairs of two fields, of which each is a text or a list; a text beside a list is that of all pairs.

    Raises INVALID_ARGUMENT where the lists are of different lengths.
    """
    if isinstance(first, str) and isinstance(second, str):
        return Sent(Pairs([first], [second]), paths[0], paths[0], single=True, of_pairs=paths)
    count = len(second) if isinstance(first, str) else len(first)
    check_count(count, paths[1] if isinstance(first, str) else paths[0], max_texts)
    firsts, seconds = ([each] * count if isinstance(each, str) else each for each in (first, second))
    if len(seconds) != count:
        raise invalid(paths[1], f"it has {len(seconds)} texts, and {paths[0]} has {count}", "INVALID_LENGTHS")
    one, other = (
        path if isinstance(each, str) else f"{path}[]" for path, each in zip(paths, (first, second), strict=True)
    )
    listed = paths[1] if isinstance(first, str) else paths[0]
    return Sent(Pairs(firsts, seconds), listed, listed, of_pairs=(one, other))


def _pairs(given: Sequence[str | Sequence[str]], path: str, max_texts: int) -> SentItems:
    check_count(len(given), path, max_texts)
    for index, each in enumerate(given):
        if isinstance(each, str) or len(each) != 2:
            raise invalid(f"{path}[{index}]", "it must be a pair: a list of two texts", "INVALID_TYPE")
    return Sent(Pairs([each[0] for each in given], [each[1] for each in given]), path, path)
