"""How a stream of events ends: with the text, an error, its deadline, or as its caller leaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bertstream.server.core.gate import Gate
from bertstream.server.core.models import Models
from bertstream.server.frontend.links import links_of
from bertstream.server.protocols.http.app import HttpApp, links_of_http
from bertstream.server.protocols.http.generation import endpoints
from bertstream.server.protocols.interceptors.counting import CallMeasures
from bertstream.server.settings import ConnectionLimits
from bertstream.workers.contract import Failure
from bertstream.workers.measuring import frontend_metrics as metrics
from bertstream.workers.measuring.instruments import Registry
from tests.server.protocols.bertstream_v1.services.generation.conftest import ID, LIMITS, Serve, Served
from tests.support.http_caller import Caller
from tests.support.paying import OneCaller
from tests.support.scripts import SCORE, completed, generated, script
from tests.support.waiting import until, with_more_time

THE, CAT, SAT, DOT, SEP = (ID[word] for word in ("the", "cat", "sat", ".", "[SEP]"))


class Asking:
    """One call for text, and what it is served by."""

    def __init__(self, served: Served, body: dict[str, Any], **headers: str) -> None:
        made, self.registry = endpoints(Models([served.model])), Registry()
        links = links_of(
            Gate(10),
            OneCaller(served.purse),
            measures=CallMeasures(self.registry, [each.name for each in made]),
            identified=links_of_http(LIMITS, ConnectionLimits()),
        )
        self.caller = Caller([json.dumps({"inputs": "the cat", **body}).encode()])
        self.task = asyncio.create_task(self.caller.ask(HttpApp(made, links), "POST", "/v1/generate", **headers))

    @property
    def ended(self) -> list[str]:
        """The statuses with which calls have ended, as they are counted."""
        found = self.registry.snapshot().distributions
        return [each.labels[1] for each in found if each.name == metrics.CALL_DURATION.name]

    async def came(self, events: int) -> None:
        await until(lambda: len(self.caller.events) >= events)


async def test_the_whole_text_at_once(serve: Serve) -> None:
    served = await serve()
    served.worker.generate = script([SAT, DOT, SEP])
    asking = Asking(served, {"token_scores": True})
    await asking.task
    assert json.loads(asking.caller.body) == {
        "model": "mine",
        "generations": [
            {
                "generated_text": "sat.",
                "finish_reason": "end_of_sequence",
                "token_ids": [SAT, DOT, SEP],
                "score": 3 * SCORE,
                "token_scores": [SCORE] * 3,
            }
        ],
        "usage": {"inputs": 1, "input_tokens": 3, "generated_tokens": 3, "truncated_inputs": 0},
    }
    assert (asking.caller.status, asking.ended, served.purse.paid) == (200, ["OK"], 6)


async def test_each_piece_is_sent_when_it_comes(serve: Serve) -> None:
    served = await serve()
    asking = Asking(served, {"stream": True})
    await until(lambda: served.sent)
    assert asking.caller.events == [("started", {"model": "mine", "input_tokens": 3})]
    (work,) = served.worker.generations
    for count, (token, text) in enumerate(((SAT, "sat"), (DOT, ".")), 2):
        await served.worker.send(generated(work.id, [token]))
        await asking.came(count)
        assert asking.caller.events[-1] == ("piece", {"sequence_index": 0, "text": text, "token_ids": [token]})
    await served.worker.send(completed(work, [[SAT, DOT]]))
    await asking.task
    kind, last = asking.caller.events[-1]
    assert (kind, last["generations"][0]["generated_text"]) == ("completed", "sat.")
    assert (last["generations"][0]["finish_reason"], last["usage"]["generated_tokens"]) == ("length", 2)
    assert (asking.caller.status, asking.ended, served.purse.paid) == (200, ["OK"], 5)


async def test_a_reader_that_stalls_gets_what_came_meanwhile_as_one_piece(serve: Serve) -> None:
    served = await serve()
    asking = Asking(served, {"stream": True})
    await until(lambda: served.sent)
    asking.caller.reads.clear()
    (work,) = served.worker.generations
    tokens = [THE, CAT, SAT, THE, CAT, SAT]
    for token in tokens:
        await served.worker.send(generated(work.id, [token]))
    await served.worker.send(completed(work, [tokens]))
    await asyncio.sleep(0.1)
    assert len(asking.caller.events) == 1
    asking.caller.reads.set()
    await asking.task
    pieces = [data["token_ids"] for kind, data in asking.caller.events if kind == "piece"]
    assert [token for piece in pieces for token in piece] == tokens
    assert len(pieces) <= 2  # the one that was being sent, and all that came after it


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_has_the_work_cancelled(serve: Serve, stream: bool) -> None:
    served = await serve()
    asking = Asking(served, {"stream": stream})
    await until(lambda: served.sent)
    asking.caller.left.set()
    await asking.task
    (work,) = served.worker.generations
    await until(lambda: served.worker.cancelled == [work.id])
    assert asking.ended == ["CANCELLED"]


async def test_an_error_after_the_beginning_is_the_last_event(serve: Serve) -> None:
    served = await serve()
    asking = Asking(served, {"stream": True})
    await until(lambda: served.sent)
    (work,) = served.worker.generations
    await served.worker.send(Failure(work.id, "internal", "a bug"))
    await asking.task
    kind, told = asking.caller.events[-1]
    assert (kind, len(asking.caller.events), asking.caller.status) == ("error", 2, 200)
    assert (told["error"]["code"], told["error"]["reason"]) == ("INTERNAL", "INTERNAL")
    assert asking.ended == ["INTERNAL"]


async def test_the_deadline_of_a_stream(serve: Serve) -> None:
    served, asked = await serve(), list[Asking]()

    async def late(seconds: float) -> None:
        asked.append(Asking(served, {"stream": True}, x_request_timeout=f"{seconds}"))
        await asked[-1].task
        assert asked[-1].ended == ["DEADLINE_EXCEEDED"]

    await with_more_time(late, lambda: served.worker.generations, 0.3)
    kind, told = asked[-1].caller.events[-1]
    assert (kind, told["error"]["reason"]) == ("error", "DEADLINE_EXCEEDED")
    await until(lambda: served.worker.cancelled)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_beginning_has_its_status(serve: Serve, stream: bool) -> None:
    served = await serve()
    asking = Asking(served, {"stream": stream, "temperature": 2})
    await asking.task
    assert (asking.caller.status, asking.ended) == (400, ["INVALID_ARGUMENT"])
    assert asking.caller.error["field"] == "temperature"


async def test_an_answer_that_would_be_too_large(serve: Serve) -> None:
    served = await serve(max_tokens=1 << 22, cache_tokens=1 << 23)
    asking = Asking(served, {"max_new_tokens": 1 << 21 | 1})
    await asking.task
    assert (asking.caller.status, asking.caller.error["reason"]) == (413, "REQUEST_TOO_LARGE")
    assert served.sent == []
