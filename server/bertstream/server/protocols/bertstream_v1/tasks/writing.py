"""Writes answers of tasks into messages: each class of columns has a message with the same name and the same fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bertstream.v1 import tasks_pb2

MESSAGES: Mapping[str, type[Message]] = {
    kind.name: GetMessageClass(kind)
    for field in tasks_pb2.PredictedItems.DESCRIPTOR.oneofs_by_name["predictions"].fields
    if (kind := field.message_type) is not None
}


def write(answer: Any) -> Message:
    """Return the message for these answers, one of those in PredictedItems' `predictions`."""
    columns = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
    listed = {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in columns.items()}
    return MESSAGES[type(answer).__name__](**listed)


def put(message: Message, answer: Message) -> None:
    """Set the one field of a response that is for answers of this type."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.full_name == answer.DESCRIPTOR.full_name:
            getattr(message, field.name).CopyFrom(answer)
            return
    raise TypeError(f"{message.DESCRIPTOR.full_name} has no place for {answer.DESCRIPTOR.full_name}")
