"""Map protocols' enums to the server's own names. An unknown value is the caller's error, never a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args

from bertstream.server.core.errors import invalid

Name = TypeVar("Name")


class Enum(Protocol):
    """An enum of the protocol."""

    def items(self) -> list[tuple[str, Any]]: ...


def names_in(enum: Enum, literal: Any, unspecified: str | None = None) -> Mapping[int, Any]:
    """Return the server's names of an enum's values, which are those of a Literal or of a union of several.

    They are the protocol's names, without the prefix and in lower case. `unspecified` is the name of the value
    UNSPECIFIED, if it has one; a value that is not in the Literal has no name.
    """
    (none, zero), *values = enum.items()
    known = {name for part in get_args(literal) for name in (get_args(part) or (part,))}
    named = {value: key.removeprefix(none.removesuffix("UNSPECIFIED")).lower() for key, value in values}
    default = {} if unspecified is None else {zero: unspecified}
    return {**default, **{value: name for value, name in named.items() if name in known}}


def name_of(names: Mapping[int, Name], value: int, path: str) -> Name:
    """Return the server's name of an enum's value. Raises INVALID_ARGUMENT for a value without one."""
    if value not in names:
        raise invalid(path, f"{value} is not a valid value here", "INVALID_ENUM")
    return names[value]


def names_of(names: Mapping[int, Name], values: Sequence[int], path: str) -> list[Name]:
    """Return the names of a repeated field's values, each once, in the order of their first mention."""
    distinct = list(dict.fromkeys(values))
    for value in distinct[: len(names) + 1]:  # more values than names must have an unknown one among them
        if value not in names:
            name_of(names, value, f"{path}[{list(values).index(value)}]")
    return [names[value] for value in distinct]


def value_of(names: Mapping[int, Name], name: Name) -> Any:
    """Return the enum's value for a name, typed for any enum's field.

    It is the last one of the name, as UNSPECIFIED may share the name of the default.
    """
    return next(value for value, each in reversed(list(names.items())) if each == name)
