from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bertstream.server.settings import ModelSettings
from bertstream.server.supervisor import frontends
from bertstream.server.supervisor.frontends import Frontends, FrontendsFailed
from bertstream.workers.process.child import ChildFailed
from bertstream.workers.process.group import Group

MODEL = ModelSettings("a", "/a", ("/s",), 7, serial=3)


class FakeGroup:
    """Two frontends; the answers of one of them are given, and None is a death."""

    def __init__(self, *answers: dict[str, Any] | None, other: dict[str, Any] | None = None) -> None:
        self.specs = [SimpleNamespace(name="one"), SimpleNamespace(name="other")]
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.answered: list[str] = []
        self._answers, self._other = list(answers), other or {}

    async def living(self, name: str) -> Any:
        async def ask(event: str, **fields: Any) -> dict[str, Any]:
            self.asked.append((name, event, fields))
            answer = self._answers.pop(0) if name == "one" else self._other
            if answer is None:
                raise ChildFailed("it died")
            if "sleep" in answer:
                await asyncio.sleep(answer["sleep"])
            self.answered.append(name)
            return answer

        return SimpleNamespace(ask=ask)


def over(group: FakeGroup) -> Frontends:
    return Frontends(cast(Group, group))


async def test_all_are_told_the_whole_list() -> None:
    group = FakeGroup({})
    await over(group).serve([MODEL])
    assert [(name, event) for name, event, _ in group.asked] == [("one", "models"), ("other", "models")]
    (told,) = group.asked[0][2]["models"]
    assert ModelSettings.from_values(told) == MODEL


async def test_one_that_dies_is_asked_again_in_its_next_life_but_not_for_ever() -> None:
    group = FakeGroup(None, None, {})
    await over(group).drained([3])
    assert [name for name, _, _ in group.asked].count("one") == 3
    with pytest.raises(FrontendsFailed, match="one died 3 times"):
        await over(FakeGroup(None, None, None, {})).drained([3])


async def test_one_that_cannot_says_why() -> None:
    with pytest.raises(FrontendsFailed, match="no such tokenizer"):
        await over(FakeGroup({"error": "no such tokenizer"})).serve([MODEL])


async def test_a_failure_is_told_when_all_have_done_what_they_could() -> None:
    group = FakeGroup({"error": "no such tokenizer"}, other={"sleep": 0.1})
    with pytest.raises(FrontendsFailed, match="no such tokenizer"):
        await over(group).serve([MODEL])
    assert group.answered == ["one", "other"]


async def test_one_that_does_not_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontends, "CONNECT_SECONDS", 0.05)
    with pytest.raises(FrontendsFailed, match="not connected"):
        await over(FakeGroup({"sleep": 20})).serve([MODEL])
