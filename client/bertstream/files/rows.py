"""Rows of a file, and the items of a stream that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from bertstream.files.errors import WrongUse
from bertstream.files.operations import Operation

ALL: Final = "all"
Keep: TypeAlias = tuple[str, ...] | Literal["all"]
"""The names of the columns that are carried from the input to the output, or "all"."""
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Say why a row failed."""

    reason: str
    """For programs, such as "INVALID_TEXT_LENGTH"."""
    message: str
    status: str = "INVALID_ARGUMENT"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say which columns to read."""

    columns: tuple[str, ...]
    keep: Keep = ()
    named: bool = True
    """Whether the columns are those that the caller has named, and not what the task calls its own."""

    def names(self, existing: Sequence[str]) -> list[str]:
        """Return all columns to read, of a file that has these. Raises WrongUse for one that it lacks, or has twice."""
        kept = existing if self.keep == ALL else self.keep
        names = list(dict.fromkeys([*self.columns, *kept]))
        for name in names:
            if name not in existing:
                what = "read" if name in self.columns else "keep"
                raise WrongUse(f"it has no column {name!r} to {what}, but {', '.join(existing) or 'none at all'}")
            if existing.count(name) > 1:
                raise WrongUse(f"it has {existing.count(name)} columns {name!r}")
        return names

    def kept(self, existing: Sequence[str]) -> list[str]:
        """Return the columns to carry, of a file that has these."""
        return list(existing) if self.keep == ALL else list(dict.fromkeys(self.keep))


@dataclass(frozen=True, slots=True)
class NoRows:
    """Name the columns to carry, all of them text, of a file without rows."""

    names: tuple[str, ...]

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return no rows."""
        return []


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold some rows of a file that follow each other; none where a file has none, so that its columns are known."""

    first: int
    """The number of the first of them, from 0 on."""
    values: list[tuple[Any, ...] | Failure]
    """[rows]: the values of the columns that the task reads, or why the row has none."""
    kept: Any = None
    """[rows]: the columns to carry, as a list of dicts, an Arrow record batch or NoRows; None for none."""
    row_bytes: float = 0.0
    """About how many bytes of a row are carried."""

    def kept_rows(self, start: int, stop: int) -> Any:
        """Return the columns to carry of the rows from `start` to `stop`, counted in the chunk."""
        if self.kept is None or isinstance(self.kept, list):
            return None if self.kept is None else self.kept[start:stop]
        return self.kept.slice(start, stop - start)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Say what a task's items are made of: columns of the rows, and texts that are the same for all rows."""

    columns: tuple[str, ...]
    first: str | None = None
    """The first text of each pair, such as a query, in place of a column."""
    second: str | None = None
    """The second text of each pair, in place of a column."""
    named: bool = True
    """Whether the columns are those that the caller has named, and not what the task calls its own."""

    def wanted(self, keep: Keep) -> Wanted:
        """Return which columns to read, with those to carry."""
        return Wanted(self.columns, keep, self.named)

    def texts(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the texts of a row, by its values in the columns."""
        first = () if self.first is None else (self.first,)
        second = () if self.second is None else (self.second,)
        return (*first, *values, *second)


def inputs_for(
    operation: Operation, columns: Sequence[str] = (), first: str | None = None, second: str | None = None
) -> Inputs:
    """Return what an operation's items are made of: these columns, or its own if there are none.

    Raises ValueError if it takes another number of them.
    """
    constant = (first is not None) + (second is not None)
    names = tuple(columns) or _own(operation, first is not None, constant)
    count, least = len(names) + constant, 2 if operation.pairs else 1
    if not names or not least <= count <= (1 if operation.pairs is False else 2):
        wanted = {True: "two columns", False: "one column", None: "one column, or two for pairs"}[operation.pairs]
        raise ValueError(
            f"{operation.name} reads {wanted}, such as {','.join(operation.inputs)}; not {','.join(names)}"
        )
    return Inputs(names, first, second, named=bool(columns))


def _own(operation: Operation, has_first: bool, constant: int) -> tuple[str, ...]:
    if not constant or len(operation.inputs) == 1:
        return operation.inputs
    return operation.inputs[1:] if has_first else operation.inputs[:1]


def items_of(operation: Operation, texts: Sequence[Any]) -> list[Any] | Failure:
    """Return the items of a row: one, or several where the row has a list for a task that takes one at a time.

    A row without a text, or with what is not one, is a Failure.
    """
    if any(value is None or value != value for value in texts):
        return Failure("MISSING_VALUE", "the row has no text: its value is missing")
    if others := [type(value).__name__ for value in texts if not isinstance(value, str | list)]:
        return Failure("INVALID_VALUE", f"the row's value is no text, but {others[0]}")
    return _single(operation, texts[0]) if len(texts) == 1 else _pairs(operation, *texts)


def _single(operation: Operation, text: Any) -> list[Any] | Failure:
    if not is_text(text):
        return Failure("INVALID_VALUE", "the row's value is no text, but a list, and not one of words or of token ids")
    if isinstance(text, list) and not operation.lists:
        return Failure("INVALID_VALUE", "the row's value must be a text, not a list")
    return [text]


def _pairs(operation: Operation, first: Any, second: Any) -> list[Any] | Failure:
    if not isinstance(first, str):
        return Failure("INVALID_VALUE", "the first of two texts must be a text, not a list")
    is_list, is_choices = isinstance(second, list), operation.name == "choose"
    if is_list != is_choices and not (is_list and operation.several):
        must = "a list of texts, not a text" if is_choices else "a text, not a list"
        return Failure("INVALID_VALUE", f"the second of two texts must be {must}")
    if others := [type(each).__name__ for each in second if not isinstance(each, str)]:
        return Failure("INVALID_VALUE", f"the second of two texts is a list of texts, and one of them is {others[0]}")
    return [(first, each) for each in second] if is_list and operation.several else [(first, second)]


def is_text(value: object) -> bool:
    """Return whether a value is a text, a list of words, or one of token ids."""
    if isinstance(value, str):
        return True
    if not isinstance(value, list):
        return False
    return all(isinstance(word, str) for word in value) or all(_is_token_id(number) for number in value)


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID


@dataclass(slots=True)
class Row:
    """Hold a row whose answers are under way."""

    chunk: Chunk
    index: int  # in the chunk
    share: float = 0.0  # how much of the file is answered once this row is, from 0 to 1
    left: int = 0  # items without an answer
    several: bool = False
    answers: list[Any] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def number(self) -> int:
        """Return the row's number in its file, from 0 on."""
        return self.chunk.first + self.index

    @property
    def answer(self) -> Any:
        """Return the row's answer, or a list of them if it has several; None if it failed."""
        if self.failure is not None:
            return None
        return self.answers if self.several else self.answers[0]

    def take(self, outcome: Any) -> None:
        """Take the answer of its next item, or why that failed."""
        self.left -= 1
        if not isinstance(outcome, Failure):
            self.answers.append(outcome)
        elif self.failure is None:
            self.failure = outcome
