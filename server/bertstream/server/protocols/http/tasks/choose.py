"""`POST /v1/choose`: how probable each choice of a prompt is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertstream.server.core.errors import invalid, too_large
from bertstream.server.core.sent import ChoiceLists, Sent, SentItems
from bertstream.server.core.tasks.choices import Choices
from bertstream.server.protocols.bertstream_v1.tasks.choices import parse_choose
from bertstream.server.protocols.http.common_options import CutRequest
from bertstream.server.protocols.http.tasks.base import TaskRoute, by_counts, with_common
from bertstream.server.protocols.http.tasks.inputs import TextInputs
from bertstream.server.protocols.http.tasks.models import MULTIPLE_CHOICE
from bertstream.server.protocols.http.texts import check_count
from bertstream.v1 import tasks_pb2


class ChooseRequest(CutRequest, kw_only=True):
    """The body of `/v1/choose`: a prompt and its choices, or a list of prompts and a list of choices for each."""

    prompt: TextInputs
    choices: list[str | list[str]]


def _options(request: ChooseRequest) -> tasks_pb2.ChooseOptions:
    return with_common(tasks_pb2.ChooseOptions(), request)


def _items(request: ChooseRequest, max_texts: int) -> SentItems:
    single = isinstance(request.prompt, str)
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    check_count(len(prompts), "prompt", max_texts)
    lists = _lists(request.choices, single=single)
    if len(lists) != len(prompts):
        raise invalid("choices", f"{len(lists)} lists for {len(prompts)} prompts", "INVALID_LENGTHS")
    for index, each in enumerate(lists):
        if not each:
            raise invalid("choices" if single else f"choices[{index}]", "the list is empty", "INVALID_EMPTY_LIST")
    joined = [choice for each in lists for choice in each]
    if len(joined) > max_texts:
        raise too_large("choices", f"{len(joined)} choices; the limit of one request is {max_texts}")
    counts = np.array([len(each) for each in lists], np.int64)
    return Sent(ChoiceLists(prompts, joined, counts), "choices", "prompt", single=single)


def _lists(given: Sequence[str | Sequence[str]], *, single: bool) -> list[list[str]]:
    """Return the choices of each prompt. Raises INVALID_TYPE."""
    texts = [each for each in given if isinstance(each, str)]
    if single and len(texts) == len(given):
        return [texts]
    if single or texts:
        about = (
            "for one prompt it must be a list of texts" if single else "for a list of prompts it must be lists of texts"
        )
        raise invalid("choices", about, "INVALID_TYPE")
    return [list(each) for each in given]


def _entries(request: ChooseRequest, answer: Choices) -> Sequence[Any]:
    """Return the probabilities of each prompt's choices, in their order."""
    listed = by_counts(answer.probabilities.astype(np.float32), answer.choice_counts.tolist())
    return [{"probabilities": each} for each in listed]


ROUTE = TaskRoute(
    "/v1/choose",
    "Tell how probable each choice of a prompt is.",
    ChooseRequest,
    MULTIPLE_CHOICE,
    _options,
    parse_choose,
    _items,
    _entries,
    example={"prompt": "The cat is tired.", "choices": ["It sleeps.", "It rains."]},
    answer={"probabilities": [0.96, 0.04]},
)
