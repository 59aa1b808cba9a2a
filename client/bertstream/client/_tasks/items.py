"""The items of task heads: the caller's arguments as lists of items, and items prepared for sending."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from bertstream.client._lists import described, items_of, plain_of
from bertstream.client._texts import (
    NO_ROOT,
    Group,
    Kind,
    PreparedText,
    Text,
    field_path,
    listed,
    prepare,
    refusal,
    utf8_size,
)
from bertstream.client._types import Tokens
from bertstream.v1 import tasks_pb2 as tasks

Pair: TypeAlias = tuple[str, str]
Question: TypeAlias = tuple[str, Sequence[str]]
"""A prompt and its choices."""
PredictionItem: TypeAlias = Text | Question
"""An item of `predict_stream`: a text of a kind that the task takes, a pair, or for "choose" a prompt with choices."""

Prepare: TypeAlias = Callable[[object, int, str], PreparedText]
"""Takes an item, its index, and the root of its field's path, and returns it prepared for sending."""

ANY: tuple[Kind, ...] = ("texts", "pairs", "word_lists", "token_ids")
WINDOWS = 4  # an estimate of the windows of a long text that is not cut


class Given(NamedTuple):
    """A caller's argument."""

    items: list[Any]
    alone: bool  # whether it was a single item, not a list


def given_texts(texts: Text | Iterable[Text], *, with_pairs: bool = False) -> Given:
    """Return the items for a text or a list of texts; `with_pairs`, a tuple of two str is a single item."""
    if with_pairs and is_pair(texts):
        return Given([texts], True)
    return Given(*listed(texts))


def given_pairs(first: object, second: object, what: str) -> Given:
    """Return the items for a pair, given as two arguments or as a tuple, or for a list of pairs.

    Raises TypeError, which tells `what` a pair is, for anything else.
    """
    if second is not None:
        if not is_pair((first, second)):
            raise TypeError(f"two arguments must be two str, {what}; for several give one list of tuples (zip)")
        return Given([(first, second)], True)
    if is_pair(first) or isinstance(first, Tokens):
        return Given([first], True)
    return Given(_items(first, f"give {what} as two arguments or as a tuple, or a list of such tuples"), False)


def given_choices(prompt: object, choices: object) -> Given:
    """Return the items for a prompt and its choices, as two arguments or a tuple, or for a list of such tuples.

    Raises TypeError for anything else.
    """
    if choices is not None:
        return Given([(prompt, choices)], True)
    if isinstance(prompt, tuple) and len(prompt) == 2 and isinstance(prompt[0], str):
        return Given([prompt], True)
    about = "give a prompt and its choices as two arguments or as a tuple, or a list of such tuples"
    return Given(_items(prompt, about), False)


def given_documents(documents: Iterable[str]) -> list[PreparedText]:
    """Return the documents of `rerank`. Raises TypeError if one is not a str, InvalidArgument for lone surrogates."""
    items = items_of(documents, "documents")
    return [_prepared(_document, document, index, NO_ROOT, "documents") for index, document in enumerate(items)]


def _items(given: object, about: str) -> list[Any]:
    """Return the items of a list. Raises TypeError, which begins with `about`, for what is not a list."""
    try:
        return items_of(given, "items")
    except TypeError:
        raise TypeError(f"{about}, not {type(given).__name__}") from None


def is_pair(value: object) -> bool:
    """Return whether a value is a tuple of two str."""
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)


def preparing(task: str, kinds: Sequence[Kind], rows: int = 1) -> Prepare:
    """Return a function that prepares items of these kinds for sending, and counts each as `rows` texts.

    It raises TypeError for items of other kinds.
    """

    def make(item: object, index: int, root: str) -> PreparedText:
        text = prepare(item, index, root)
        if text.kind not in kinds:
            path = field_path(root, text.kind, index)
            raise TypeError(f"{path}: {task} takes {_NAMES[kinds[0]]}, not {_NAMES[text.kind]}")
        return text._replace(rows=rows)

    return make


def prepare_choices(item: object, index: int, root: str) -> PreparedText:
    """Return a prompt with its choices, prepared for sending."""
    return _prepared(_question, item, index, root, "prompts")


def choice_lists(group: Group) -> tasks.ChoiceLists:
    """Return the message with the prompts of a group and their choices."""
    lists = tasks.ChoiceLists(prompts=[prompt for prompt, _ in group.values])
    for _, choices in group.values:
        lists.choices.extend(choices)
        lists.choice_counts.append(len(choices))
    return lists


def _prepared(make: Callable[[Any], PreparedText], item: object, index: int, root: str, kind: Kind) -> PreparedText:
    try:
        return make(item)
    except (TypeError, ValueError) as error:
        raise refusal(error, field_path(root, kind, index)) from None


def _question(item: object) -> PreparedText:
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)):
        raise TypeError("a question to choose from is a tuple of a str and its choices")
    if isinstance(item[1], str):
        raise TypeError("choices must be a list of str, not a str")
    prompt, choices = item[0], list(map(plain_of, items_of(item[1], "choices")))
    for choice in choices:
        if not isinstance(choice, str):
            raise TypeError(f"choices must be a list of str, and one of these is {described(choice)}")
    size = utf8_size(prompt) + sum(map(utf8_size, choices))
    return PreparedText("prompts", (prompt, choices), size, rows=max(1, len(choices)))


def _document(item: object) -> PreparedText:
    document = plain_of(item)
    if not isinstance(document, str):
        raise TypeError(f"a document is a str, not {described(document)}")
    return PreparedText("documents", document, utf8_size(document))


_NAMES: dict[Kind, str] = {
    "texts": "whole texts (str)",
    "pairs": "pairs (tuples of two str)",
    "word_lists": "words (lists of str)",
    "token_ids": "token ids",
}
