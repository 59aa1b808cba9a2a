"""Names of enum values as Python users write them: `mean_sqrt_len` for POOLING_MODE_MEAN_SQRT_LEN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)


def value_of(kind: _EnumTypeWrapper[V], name: str, what: str, usable: Sequence[str] | None = None) -> V:
    """Return the value with that name, which must be one of the `usable` ones where not all of them are.

    Raises ValueError, which lists the names, for any other name.
    """
    prefix = _prefix(kind.DESCRIPTOR)
    names = [key.removeprefix(prefix).lower() for key in kind.keys()[1:]]
    check_name(name, names if usable is None else usable, what)
    return kind.Value(prefix + name.upper())


def check_name(name: object, names: Sequence[str], what: str) -> None:
    """Raise ValueError, which lists the names, for one that is not among them."""
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, names))}, not {name!r}")


def name_of(kind: _EnumTypeWrapper[V], value: V) -> str:
    """Return the value's name, or its number as a string for a value of a newer server that this client lacks."""
    return name_in(kind.DESCRIPTOR, value)


def name_in(enum: EnumDescriptor, value: int) -> str:
    """Return the name of a value of the enum with this descriptor, as `name_of` does."""
    if value not in enum.values_by_number:
        return str(int(value))
    return enum.values_by_number[value].name.removeprefix(_prefix(enum)).lower()


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values[0].name.removesuffix("UNSPECIFIED")
