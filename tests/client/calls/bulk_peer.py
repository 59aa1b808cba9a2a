"""A bulk stream's peer: does what the stream asks for, as a client and servers whose timing is random."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from bertstream.client import EffectiveOptions, RpcError, Timings, Unavailable, Usage
from bertstream.client._calls.codec import Answers, Started
from bertstream.client._calls.steps import Emit, HalfClose, Open, Pull, Receive, Send, Sleep
from bertstream.client._calls.stream import BulkStream, StreamConfig
from bertstream.client._texts import ITEMS, Group, PreparedText, prepare
from bertstream.client._usage import Cost
from bertstream.v1 import types_pb2 as types


class EchoCodec:
    """A codec whose requests are groups, and whose responses are the results of `parse`."""

    typical_bytes = size = 0

    def __init__(self) -> None:
        self.costs: list[Cost] = []

    def prepare(self, text: object, index: int) -> PreparedText:
        return prepare(text, index, ITEMS)

    def options(self) -> str:
        return "options"

    def request(self, group: Group) -> Group:
        return group

    def parse(self, response: Any) -> Any:
        return response

    def joined(self, pieces: list[str]) -> str:
        return "".join(pieces)

    def bytes_of(self, answer: str) -> int:
        return self.size

    def batch(self, ids: list[int], outcomes: list[Any], cost: Cost) -> list[tuple[int, Any]]:
        self.costs.append(cost)
        return list(zip(ids, outcomes, strict=True))


def bulk(codec: Any = None, **config: Any) -> BulkStream[Any, Any]:
    """Return a stream without chance, for which time stands still."""
    named = {"choose": config.pop("choose")} if "choose" in config else {}
    return BulkStream(codec or EchoCodec(), StreamConfig(**config), jitter=lambda: 1.0, clock=lambda: 0.0, **named)


OPTIONS = EffectiveOptions("tiny", None, "longest_first", "right", 9, "code_points")


def send(stream: BulkStream[Any, Any], texts: list[Any]) -> None:
    """Have the stream send texts, over one call."""
    stream.add(texts)
    while isinstance(step := stream.step(), Open | Send):
        if isinstance(step, Open):
            stream.opened()


def refusal(item: int, code: int = 14, seconds: float = 2.0) -> types.ItemError:
    """Return a server's word that an item, which is for now refused, may come again."""
    status = status_pb2.Status(code=code, message="not now")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(int(seconds * 1e3))
    status.details.add().Pack(retry)
    return types.ItemError(id=item, status=status)


@dataclass
class Peer:
    """Does what the stream says. Any server that is in `down` refuses calls."""

    stream: BulkStream[Any, Any]
    texts: list[Any]
    chance: random.Random
    window: int = 32
    break_share: float = 0.0
    refuse_share: float = 0.0
    parts: bool = False
    emitted: list[tuple[int, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    half_closed: set[int] = field(default_factory=set)
    calls: dict[int, dict[int, Any]] = field(default_factory=dict)  # what is under way, by open lane
    opened: list[int] = field(default_factory=list)
    answered: Counter[int] = field(default_factory=Counter)
    most_under_way: int = 0
    most_held: int = 0
    slept: list[float] = field(default_factory=list)
    started: set[int] = field(default_factory=set)
    position: int = 0

    def run(self) -> list[tuple[int, Any]]:
        while not self.stream.finished:
            self.do(self.stream.step())
            held = self.position - len(self.emitted)
            self.most_held = max(self.most_held, held)
        return self.emitted

    def do(self, step: Any) -> None:
        match step:
            case Pull(count):
                texts = self.texts[self.position : self.position + count]
                self.position += len(texts)
                if len(texts) < count:
                    self.stream.end()
                self.stream.add(texts)
            case Open(lane):
                assert lane not in self.calls
                self.calls[lane] = {}
                self.opened.append(lane)
                self.stream.opened(lane)
            case Send(group, lane):
                assert not any(call.keys() & set(group.indexes) for call in self.calls.values())
                self.calls[lane] |= zip(group.indexes, group.values, strict=True)
                self.most_under_way = max(self.most_under_way, len(self.calls[lane]))
            case Sleep(seconds, _):
                self.slept.append(seconds)
            case Emit(batch):
                self.emitted += batch
                self.sizes.append(len(batch))
            case Receive():
                self.answer()
            case HalfClose(lane):
                self.half_closed.add(lane)
            case _:
                raise AssertionError(step)

    def answer(self) -> None:
        """Have one of the calls answer something, or break."""
        lane = self.chance.choice(self.answering())
        under_way = self.calls[lane]
        if lane in self.down:
            self.end(lane, Unavailable("down"))
        elif lane in self.half_closed and not under_way:
            self.end(lane, None)
        elif lane not in self.started:
            self.started.add(lane)
            self.stream.receive(Started(self.window, OPTIONS), lane)
        elif self.chance.random() < self.break_share:
            self.end(lane, Unavailable("gone"))
        elif self.chance.random() < self.refuse_share:
            some = self.chance.sample(sorted(under_way), self.chance.randint(1, len(under_way)))
            for item in some:
                del under_way[item]
            self.stream.receive(Answers([], [refusal(item) for item in some]), lane)
        else:
            some = self.chance.sample(sorted(under_way), self.chance.randint(1, len(under_way)))
            if self.parts and self.chance.random() < 0.5:
                self.stream.receive(Answers([(some[0], "part")], more=True), lane)
                if self.chance.random() < self.break_share:
                    self.end(lane, Unavailable("gone"))
                    return
                self.answered[some[0]] += 1
                last = [(some[0], f"ial {under_way.pop(some[0])}")]
                self.stream.receive(Answers(last, cost=self.cost(1)), lane)
                return
            self.answered.update(some)
            rows = [(item, f"partial {under_way.pop(item)}") for item in some]
            self.stream.receive(Answers(rows, cost=self.cost(len(rows))), lane)

    def answering(self) -> list[int]:
        """Return the calls of which something may come."""
        states = (
            (lane, self.calls[lane] or lane not in self.started or lane in self.half_closed) for lane in self.calls
        )
        return sorted(lane for lane, may in states if may or lane in self.down)

    def end(self, lane: int, error: RpcError | None) -> None:
        """End a call."""
        del self.calls[lane]
        self.started.discard(lane)
        self.half_closed.discard(lane)
        self.stream.broken(error, lane)

    def choose(self, lanes: Sequence[int], at_any_cost: bool) -> int | None:
        """Return any lane whose server is not known to be down."""
        up = [lane for lane in lanes if lane not in self.down]
        return self.chance.choice(up or lanes) if up or at_any_cost else None

    def cost(self, texts: int) -> Cost:
        return Cost(Usage(texts, 3 * texts, 0), Timings(None, None, self.chance.random(), None))
