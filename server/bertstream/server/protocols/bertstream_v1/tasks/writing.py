"""Answers of tasks to messages, whose fields are named as the columns are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import Message

from bertstream.server.core.tasks.answers import Answers
from bertstream.server.core.tasks.choices import ChoiceProbabilities
from bertstream.server.core.tasks.entities import Entities
from bertstream.server.core.tasks.labels import Relevances, TextLabels
from bertstream.server.core.tasks.likelihoods import TextScores
from bertstream.server.core.tasks.masks import MaskCandidates
from bertstream.server.core.tasks.sentences import NextSentences
from bertstream.server.core.tasks.zero_shot import ZeroShotLabels
from bertstream.v1 import tasks_pb2

MESSAGES: Mapping[type, type[Message]] = {
    Answers: tasks_pb2.Answers,
    ChoiceProbabilities: tasks_pb2.Choices,
    Entities: tasks_pb2.Entities,
    MaskCandidates: tasks_pb2.MaskCandidates,
    NextSentences: tasks_pb2.NextSentences,
    Relevances: tasks_pb2.Relevances,
    TextLabels: tasks_pb2.TextLabels,
    TextScores: tasks_pb2.TextScores,
    ZeroShotLabels: tasks_pb2.ZeroShotLabels,
}


def write(answer: Any) -> Message:
    """The message that stands for these answers among PredictedItems' `predictions`."""
    columns = {field.name: getattr(answer, field.name) for field in dataclasses.fields(answer)}
    listed = {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in columns.items()}
    return MESSAGES[type(answer)](**listed)


def put(message: Message, answer: Message) -> None:
    """Sets the one field of a response that is for answers of this type."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.full_name == answer.DESCRIPTOR.full_name:
            getattr(message, field.name).CopyFrom(answer)
            return
    raise TypeError(f"{message.DESCRIPTOR.full_name} has no place for {answer.DESCRIPTOR.full_name}")
