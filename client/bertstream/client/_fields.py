"""A caller's arguments as fields of messages. What a field cannot hold is refused by the argument's name."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bertstream.client._lists import plain_of
from bertstream.client._texts import refusal, utf8_size
from bertstream.client._types import Numbers

M = TypeVar("M", bound=Message)

MOST = 2**31 - 1  # that fields of whole numbers hold
_KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: "True or False",
    FieldDescriptor.CPPTYPE_STRING: "a str",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
}


def set_fields(message: M, **given: object) -> M:
    """Set the fields for which something other than None is given, and return the message. Raises as `set_field`."""
    for name, value in given.items():
        if value is not None:
            set_field(message, name, value)
    return message


def set_field(message: Message, field: str, value: object, argument: str = "") -> None:
    """Set a field to the value of an argument, which has the field's name unless another is given.

    Raises TypeError, which names the argument, for a value of another type, and InvalidArgument for lone surrogates.
    """
    try:
        setattr(message, field, value)
    except UnicodeEncodeError as error:
        raise refusal(error, _path(message, field)) from None
    except (TypeError, ValueError, OverflowError):
        kind = _KINDS.get(message.DESCRIPTOR.fields_by_name[field].cpp_type, "a whole number")
        raise TypeError(f"{argument or field} must be {kind}, not {value!r}") from None


def strings_of(values: Any, name: str) -> list[str]:
    """Return a list of strings of the options, which is empty for None.

    Raises TypeError, which names the argument, for anything else, and InvalidArgument for lone surrogates.
    """
    some = values_of(values, name, "a list of str")
    for index, value in enumerate(some):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a list of str, not {values!r}")
        try:
            utf8_size(value)
        except UnicodeEncodeError as error:
            raise refusal(error, f"options.{name}[{index}]") from None
    return some


def flag(value: object, name: str) -> bool:
    """Return whether a switch is on. Raises TypeError, which names the argument, for what is neither True nor False."""
    if not isinstance(value, int | np.integer | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def whole(value: Any, name: str, least: int = -MOST - 1, most: int = MOST) -> int:
    """Return a whole number that fits its field; the server checks whether it fits the model.

    Raises TypeError or ValueError, which name the argument, for anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}")
    return number


def optional_whole(value: Any, name: str, least: int = -MOST - 1, most: int = MOST) -> int | None:
    """Return None for None, and else as `whole` does."""
    return None if value is None else whole(value, name, least, most)


def optional_real(value: Any, name: str) -> float | None:
    """Return a number, or None for None. Raises TypeError, which names the argument, for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is larger than any float") from None


def numbers_of(numbers: Numbers | None, name: str, least: int = -MOST - 1) -> list[int]:
    """Return one whole number or several as a list, which is empty for None. Raises as `whole` does."""
    if hasattr(numbers, "__index__") and not getattr(numbers, "ndim", 0):
        return [whole(numbers, name, least)]
    some = values_of(numbers, name, "a whole number or a list of them")
    return [whole(number, name, least) for number in some]


def values_of(values: Any, name: str, what: str) -> list[Any]:
    """Return the values of a list, a set, an array or a column as a list, which is empty for None.

    Raises TypeError, which says `what` the argument must be, for a str and for what is no list.
    """
    plain = [] if values is None else plain_of(values)
    if isinstance(plain, np.ndarray):
        plain = plain.tolist()  # a number, if it has no dimension
    if isinstance(plain, str | bytes) or not isinstance(plain, Iterable):
        raise TypeError(f"{name} must be {what}, not {values!r}")
    return list(plain)


def _path(message: Message, field: str) -> str:
    """Return the path of a field in a request, as the server calls it."""
    return f"options.{field}" if message.DESCRIPTOR.name.endswith("Options") else field
