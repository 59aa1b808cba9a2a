from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bertstream.server.messages import AwaitDrained, ForFrontend, ServeModels, UseKeys
from bertstream.server.settings import KeyEntry, ModelSettings
from bertstream.server.supervisor import frontends
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.control import NoAnswer
from bertstream.workers.process.group import Group

MODEL = ModelSettings("a", "/a", ("/s",), 7, serial=3)
DEATH = ChildFailed("it died")


class FakeGroup:
    """Two frontends; `outcomes` has for each question to one of them an error, or the seconds until its answer."""

    def __init__(self, *outcomes: Exception | float | None, other: float | None = None) -> None:
        self.specs = [SimpleNamespace(name="one"), SimpleNamespace(name="other")]
        self.asked: list[tuple[str, ForFrontend]] = []
        self.answered: list[str] = []
        self._outcomes, self._other = list(outcomes), other

    async def living(self, name: str) -> Any:
        async def ask(question: ForFrontend) -> None:
            self.asked.append((name, question))
            outcome = self._outcomes.pop(0) if name == "one" else self._other
            self.answered += [name] if isinstance(outcome, NoAnswer) else []
            if isinstance(outcome, Exception):
                raise outcome
            await asyncio.sleep(outcome or 0.0)
            self.answered.append(name)

        return SimpleNamespace(ask=ask)


def over(group: FakeGroup) -> Frontends:
    return Frontends(cast(Group, group))


async def test_all_are_told_the_whole_list() -> None:
    group = FakeGroup(None)
    await over(group).serve([MODEL])
    assert group.asked == [("one", ServeModels((MODEL,))), ("other", ServeModels((MODEL,)))]


async def test_all_are_told_the_keys() -> None:
    group, key = FakeGroup(None), KeyEntry("a", "0" * 64)
    await over(group).use_keys([key])
    assert group.asked == [("one", UseKeys((key,))), ("other", UseKeys((key,)))]


async def test_one_that_dies_is_asked_again_in_its_next_life_but_not_for_ever() -> None:
    group = FakeGroup(DEATH, DEATH, None)
    await over(group).drained([3])
    assert [question for name, question in group.asked if name == "one"] == [AwaitDrained((3,))] * 3
    with pytest.raises(FrontendsFailed, match="one died 3 times"):
        await over(FakeGroup(DEATH, DEATH, DEATH, None)).drained([3])


async def test_one_that_cannot_says_why() -> None:
    with pytest.raises(FrontendsFailed, match="no such tokenizer"):
        await over(FakeGroup(NoAnswer("no such tokenizer"))).serve([MODEL])


async def test_a_failure_is_told_when_all_have_done_what_they_could() -> None:
    group = FakeGroup(NoAnswer("no such tokenizer"), other=0.1)
    with pytest.raises(FrontendsFailed, match="no such tokenizer"):
        await over(group).serve([MODEL])
    assert group.answered == ["one", "other"]


async def test_one_that_does_not_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontends, "CONNECT_SECONDS", 0.05)
    with pytest.raises(FrontendsFailed, match="not connected"):
        await over(FakeGroup(20.0)).serve([MODEL])
