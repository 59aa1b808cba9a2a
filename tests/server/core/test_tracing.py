from __future__ import annotations

import asyncio

import pytest

from bertstream.server.core import errors, tracing
from bertstream.server.core.tracing import MOST_SPANS, NOTHING, Parent, RecordedSpan, Trace, Tracer, is_sampled


class Exported(list[Trace]):
    """The traces that were passed on."""

    def begin(self, parent: Parent | None = None, ratio: float = 1.0) -> tracing.Span:
        return Tracer(ratio, self.append).begin("call", parent)

    @property
    def spans(self) -> dict[str, RecordedSpan]:
        (trace,) = self
        return {span.name: span for span in trace.spans}

    def parents(self) -> dict[str, str]:
        names = {span.ids[1]: span.name for span in self.spans.values()}
        return {name: names.get(span.parent_id, "") for name, span in self.spans.items()}


def test_outside_a_trace_nothing_is_recorded() -> None:
    with tracing.span("part") as part:
        part.set(tokens=1)
        part.event("now")
        part.fail("no")
        part.over("before", 0.0, 1.0)
        assert part is tracing.current() is NOTHING
        assert (part.recorded, part.ids) == (False, (0, 0))


def test_spans_lie_within_each_other() -> None:
    exported = Exported()
    with exported.begin():
        with tracing.span("first"), tracing.span("inner") as inner:
            inner.set(tokens=3)
            inner.event("half way")
        with tracing.span("second"):
            pass
        assert not exported
    assert exported.parents() == {"call": "", "first": "call", "inner": "first", "second": "call"}
    spans = exported.spans
    assert spans["call"].start <= spans["first"].start <= spans["inner"].end <= spans["first"].end <= spans["call"].end
    assert spans["inner"].attributes == {"tokens": 3}
    assert [name for name, _ in spans["inner"].events] == ["half way"]
    assert tracing.current() is NOTHING


async def test_tasks_belong_to_the_span_that_began_them() -> None:
    exported = Exported()

    async def work(name: str) -> None:
        with tracing.span(name):
            await asyncio.sleep(0)
            with tracing.span(f"{name} inner"):
                await asyncio.sleep(0)

    with exported.begin():
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b"):
                group.create_task(work(name))
    assert exported.parents() == {"call": "", "a": "call", "b": "call", "a inner": "a", "b inner": "b"}


def test_a_part_that_is_over_has_the_seconds_it_is_given() -> None:
    exported = Exported()
    with exported.begin() as call:
        call.over("queue", 5.0, 0.25)
    queue = exported.spans["queue"]
    assert (queue.start, queue.end, queue.seconds) == (5.0, 5.25, 0.25)
    assert exported.parents()["queue"] == "call"


def test_a_call_has_a_bounded_number_of_spans_and_counts_the_others() -> None:
    exported = Exported()
    with exported.begin():
        for _ in range(MOST_SPANS + 10):
            with tracing.span("items"), tracing.span("inner"):
                pass
    (trace,) = exported
    assert len(trace.spans) == MOST_SPANS
    assert trace.left_out == 2 * (MOST_SPANS + 10) - (MOST_SPANS - 1)


async def fail(error: BaseException) -> None:
    with tracing.span("part"):
        raise error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.overloaded("a text of the caller's", 1.0), "OVERLOADED"),
        (asyncio.CancelledError(), "CANCELLED"),
        (KeyError("a text of the caller's"), "KeyError"),
    ],
)
async def test_what_fails_says_why_but_never_with_a_text(error: BaseException, reason: str) -> None:
    exported = Exported()
    with exported.begin(), pytest.raises(type(error)):
        await fail(error)
    assert exported.spans["part"].error == reason
    assert exported.spans["call"].error == ""  # which is its status's to say


async def test_a_task_that_outlives_its_call_adds_nothing_to_the_trace() -> None:
    exported, goes_on = Exported(), asyncio.Event()

    async def late() -> None:
        with tracing.span("late"):
            await goes_on.wait()
            with tracing.span("later"):
                pass

    with exported.begin():
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    ended = exported.spans["late"].end
    goes_on.set()
    await task
    assert exported.spans.keys() == {"call", "late"}
    assert exported.spans["late"].end == ended == exported.spans["call"].end


def test_a_caller_s_trace_goes_on() -> None:
    exported = Exported()
    with exported.begin(Parent(7, 8, sampled=True, state="a=b"), ratio=0.0) as call:
        assert call.ids[0] == 7
    (trace,) = exported
    assert (trace.trace_id, trace.root.parent_id) == (7, 8)


def test_a_call_that_is_not_sampled_has_ids_but_no_spans() -> None:
    exported = Exported()
    with exported.begin(Parent(7, 8, sampled=False)) as call:
        assert tracing.current().ids == call.ids
        assert call.ids[0] == 7
        assert call.ids[1] not in (0, 8)
        with tracing.span("part") as part:
            assert not part.recorded
            assert tracing.current().ids == call.ids
    assert exported == []


@pytest.mark.parametrize(
    ("parent", "trace_id", "ratio", "sampled"),
    [
        (Parent(1, 1, sampled=True), 1, 0.0, True),
        (Parent(1, 1, sampled=False), 1, 1.0, False),
        (None, (1 << 64) - 1, 1.0, True),
        (None, 0, 0.0, False),
        (None, 1 << 63, 0.5, False),
        (None, (1 << 63) - 1, 0.5, True),
        (None, 1 << 64, 0.5, True),  # only the lower half counts
    ],
)
def test_the_caller_decides_or_else_the_trace_s_id(
    parent: Parent | None, trace_id: int, ratio: float, sampled: bool
) -> None:
    assert is_sampled(parent, trace_id, ratio) is sampled
