"""Names of enum values as Python users write them: `mean_sqrt_len` for POOLING_MODE_MEAN_SQRT_LEN."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)


def value_of(kind: _EnumTypeWrapper[V], name: str, what: str) -> V:
    """The value with that name. ValueError, naming those that exist, where there is none."""
    prefix = _prefix(kind)
    names = [key.removeprefix(prefix).lower() for key in kind.keys()[1:]]
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, names))}, not {name!r}")
    return kind.Value(prefix + name.upper())


def name_of(kind: _EnumTypeWrapper[V], value: V) -> str:
    """The value's name; its number, as a string, where a newer server sends one that this client does not know."""
    if value not in kind.values():
        return str(int(value))
    return kind.Name(value).removeprefix(_prefix(kind)).lower()


def _prefix(kind: _EnumTypeWrapper[V]) -> str:
    return kind.keys()[0].removesuffix("UNSPECIFIED")
