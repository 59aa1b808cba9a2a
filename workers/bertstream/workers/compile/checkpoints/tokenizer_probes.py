"""Tell whether two tokenizers agree on a few texts that are known to tell them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertstream.workers.compile.checkpoints.tokenizer_classes import Definition

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXTS = (
    "a fox",
    "A Fox",
    " a fox",
    "a fox ",
    "a  fox",
    "a\nfox",
    "don't, fox?!",
    "na\u00efve caf\u00e9",
    "e\u0301",
    "\u4eca\u5929\u597d",
    "\uff21 \u00bd \ufb01 \u2122",
    "a\u00adb\x00c",
    "a\u2028b\u3000c",
    "12 345",
    *("a" * length for length in (9, 60, 101)),  # WordPiece has a length limit
)
_MOST_TOKENS = 1000  # the most added tokens that are tried; a vocabulary may have thousands
_NAMES = {
    "normalizer": "normalizer",
    "pre_tokenizer": "pre-tokenizer",
    "model": "model settings",
    "post_processor": "post-processor",
    "decoder": "decoder",
    "added_tokens": "added tokens",
}
# The kinds of difference, the worst first.
_KINDS = (
    "finds other tokens in some texts, such as {!r}",
    "gives tokens other offsets, as in {!r}",
    "gives tokens other type ids, as in {!r}",
    "writes token ids as other text, as those of {!r}",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Describe how one tokenizer differs from another, for people."""

    parts: tuple[str, ...]  # the parts of the file that make the difference
    what: str  # the end of a sentence, beginning with its verb


def find_difference(ours: Definition, theirs: Definition) -> Difference | None:
    """Return how `theirs` differs from `ours`; None where no text shows a difference."""
    parts = [name for name in _NAMES if ours[name] != theirs[name]]
    texts = list(_texts(ours, theirs))
    what = _what(ours, theirs, texts) if parts else None
    if what is None:
        return None
    alone = [name for name in parts if _matters(name, ours, theirs, texts)]
    return Difference(tuple(_NAMES[name] for name in alone or parts), what)


def _matters(part: str, ours: Definition, theirs: Definition, texts: list[str]) -> bool:
    try:
        return _what(ours, ours | {part: theirs[part]}, texts) is not None
    except Exception:  # the Rust side says so of parts that do not fit together
        return True


def _what(ours: Definition, theirs: Definition, texts: list[str]) -> str | None:
    first, second = _loaded(ours), _loaded(theirs)
    found = [(_found(first, text), _found(second, text), text) for text in texts]
    for kind, form in enumerate(_KINDS):
        for one, other, text in found:
            if one[kind] != other[kind]:
                return form.format(text)
    return None


def _loaded(definition: Definition) -> Tokenizer:
    from tokenizers import Tokenizer  # not needed by workers

    return Tokenizer.from_str(json.dumps(definition))


def _texts(ours: Definition, theirs: Definition) -> Iterator[str]:
    yield from _TEXTS
    contents = dict.fromkeys(token["content"] for each in (ours, theirs) for token in each["added_tokens"])
    for content in list(contents)[:_MOST_TOKENS]:
        yield from (f"a {content} b", f"a{content}b", f"a {content.swapcase()} b")


def _found(tokenizer: Tokenizer, text: str) -> Sequence[Any]:
    """Return what the tokenizer makes of the text, alone and as the second of a pair, by kind of difference."""
    try:
        alone, pair = tokenizer.encode(text), tokenizer.encode("a fox", text)
    except Exception:  # the Rust side says so where it has no token for a text
        return [None] * len(_KINDS)
    both = (alone, pair)
    columns = [[each.ids for each in both], [each.offsets for each in both], [each.type_ids for each in both]]
    return [*columns, tokenizer.decode(alone.ids)]
