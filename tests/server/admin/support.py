"""What a supervisor gathers, made up."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

from bertstream.server.admin.app import application
from bertstream.server.admin.gathering import Gatherings
from bertstream.server.messages import Gathered, GatheredModel, GatheredProcess
from bertstream.server.settings import AdminSettings, FollowedKeysSettings
from bertstream.workers.measuring.snapshots import Snapshot

MODEL = GatheredModel("tiny", "ab12", "float32", "cpu", 2, 4, ("fill_mask",), "serving", 2, 1, 1024)


def process(name: str, **fields: Any) -> GatheredProcess:
    kind: Any = name.partition("-")[0]
    return GatheredProcess(name, **{"kind": kind, "pid": 7, "state": "ready", "uptime_seconds": 9.0, **fields})


def gathered(**fields: Any) -> Gathered:
    values: dict[str, Any] = {
        "time": 1000.0,
        "uptime_seconds": 12.0,
        "version": "0.1.0",
        "address": "127.0.0.1:50051",
        "cores": 2,
        "ready": True,
        "draining": False,
        "snapshot": Snapshot(),
        "processes": (process("supervisor"), process("frontend-0"), process("worker-0-0", model="tiny")),
        "models": (MODEL,),
    }
    return Gathered(**{**values, **fields})


def gatherings(*answers: Gathered | Exception) -> Gatherings:
    """Return what asks a supervisor that gives these answers, the last one for ever."""
    left = list(answers) or [gathered()]

    async def ask() -> Gathered:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Gatherings(ask)


def app(*answers: Gathered | Exception, keys: FollowedKeysSettings | None = None) -> Starlette:
    settings = AdminSettings("admin", "127.0.0.1", 0, "info", keys=keys)
    return application(settings, gatherings(*answers))
