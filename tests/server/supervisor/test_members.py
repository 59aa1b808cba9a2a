from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bertstream.server.supervisor.members import members_of, models_of
from tests.server.protocols.bertstream_v1.validation.support import description


def child(name: str, *, ready: bool = True, alive: bool = True, life: int = 0) -> Any:
    made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if ready:
        made.set_result(None)
    return SimpleNamespace(spec=SimpleNamespace(name=name), ready=made, alive=alive, life=life)


def group(*children: Any) -> Any:
    return SimpleNamespace(children=list(children))


def served(name: str, *workers: Any) -> Any:
    launch = SimpleNamespace(
        name=name,
        description=description(heads=("fill_mask",)),
        compiled=SimpleNamespace(device="cpu", seconds=1.5),
        workers=2,
        batch_tokens=1024,
    )
    return SimpleNamespace(launch=launch, workers=group(*workers))


@pytest.mark.parametrize(
    ("workers", "state", "alive"),
    [
        ([{}, {}], "serving", 2),
        ([{}, {"alive": False}], "serving", 1),
        ([{"ready": False}, {"ready": False}], "loading", 0),
        ([{"alive": False}, {"ready": False, "life": 1}], "unavailable", 0),
    ],
)
async def test_a_model_serves_while_one_of_its_workers_is_ready(
    workers: list[dict[str, Any]], state: str, alive: int
) -> None:
    loader: Any = SimpleNamespace(served=[served("tiny", *(child("worker", **each) for each in workers))])
    (model,) = models_of(loader)
    assert (model.name, model.state, model.workers, model.workers_alive) == ("tiny", state, 2, alive)
    assert (model.tasks, model.compile_seconds) == (("fill_mask",), 1.5)


async def test_workers_of_versions_that_end_are_there_until_they_are_gone() -> None:
    old, new = served("tiny", child("worker-0-0")), served("tiny", child("worker-1-0"))
    loader: Any = SimpleNamespace(running=(new, old))
    found = list(members_of(loader, group(child("frontend-0")), group(child("admin"))))
    assert [(each.kind, each.child.spec.name, each.model) for each in found] == [
        ("worker", "worker-1-0", "tiny"),
        ("worker", "worker-0-0", "tiny"),
        ("frontend", "frontend-0", ""),
        ("admin", "admin", ""),
    ]
