"""Make up live numbers of a server, as `/api/live` of the admin port gives them, for tests and pictures of the page."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NOON = 1_764_400_000.0
SHARES = {
    "EncodingService/EncodeTexts": 0.62,
    "TaskService/RerankTexts": 0.14,
    "EncodingService/StreamEncodings": 0.11,
    "TaskService/ClassifyTokens": 0.08,
    "TokenizationService/TokenizeTexts": 0.05,
}
MODELS: tuple[tuple[str, int, int, list[str], float], ...] = (
    ("all-MiniLM-L6-v2", 6, 12, [], 0.7),
    ("reranker", 12, 12, ["sequence_classification"], 0.2),
    ("ner", 12, 12, ["token_classification"], 0.1),
)


def numbers(second: int) -> dict[str, Any]:
    """Return the numbers of a second: a load that comes and goes, with a burst in between."""
    chance = random.Random(second)
    burst = math.exp(-(((second % 600) - 420) ** 2) / 1800)
    calls = 240 * (1 + 0.25 * math.sin(second / 70) + 0.9 * burst + chance.uniform(-0.06, 0.06))
    texts, latency = calls * 4.2, 0.009 * (1 + 1.6 * burst + chance.uniform(-0.08, 0.08))
    refused = max(0.0, 14 * (burst - 0.6))
    models = [_model(name, layers, heads, tasks, texts * share, burst) for name, layers, heads, tasks, share in MODELS]
    return {
        "time": NOON + second,
        "seconds": 1.0,
        "server": {
            "version": "0.1.0",
            "uptime_seconds": 93_000.0 + second,
            "cores": 8,
            "address": "127.0.0.1:50051",
            "ready": True,
            "draining": False,
        },
        "calls": {
            "per_second": calls,
            "under_way": round(calls * latency * 1.8) + 2,
            "failed_per_second": refused,
            "by_status": {"OK": calls - refused, **({"RESOURCE_EXHAUSTED": refused} if refused else {})},
            "by_method": {method: calls * share for method, share in SHARES.items()},
            "latency_seconds": {"p50": latency, "p90": latency * 2.1, "p99": latency * 4.6},
        },
        "texts_per_second": texts,
        "tokens_per_second": texts * 23.4,
        "refused_per_second": {"OVERLOADED": refused},
        "streams": 2,
        "processes": _processes(calls, second),
        "models": models,
    }


def _model(name: str, layers: int, heads: int, tasks: list[str], texts: float, burst: float) -> dict[str, Any]:
    compute = 0.003 * layers / 6
    return {
        "name": name,
        "revision": "a41f",
        "dtype": "float32",
        "device": "cpu",
        "layers": layers,
        "heads": heads,
        "tasks": tasks,
        "state": "serving",
        "workers": 2,
        "workers_alive": 2,
        "queue_tokens": {"interactive": round(900 * burst * texts / 1000), "bulk": round(6000 * (0.2 + burst))},
        "queue_seconds": 0.02 * burst,
        "batch_fill": min(0.98, 0.42 + 0.5 * burst),
        "batches_per_second": texts / 9,
        "texts_per_second": texts,
        "tokens_per_second": texts * 23.4,
        "compute_seconds": {"p50": compute, "p90": compute * 1.7, "p99": compute * 3.1},
        "generating": 0,
        "cache_fill": None,
    }


def _processes(calls: float, second: int) -> list[dict[str, Any]]:
    rows = [("supervisor", "supervisor", "", 0.01, 58), ("admin", "admin", "", 0.02, 74)]
    rows += [(f"frontend-{i}", "frontend", "", calls / 900, 171) for i in range(2)]
    rows += [(f"{name}-{i}", "worker", name, calls / 420, 540 + 40 * i) for name, *_ in MODELS for i in range(2)]
    return [
        {
            "name": name,
            "kind": kind,
            "model": model,
            "pid": 4100 + place,
            "state": "ready",
            "uptime_seconds": 93_000.0 + second - 3 * place,
            "restarts": 1 if name == "ner-1" else 0,
            "resident_bytes": mebibytes << 20,
            "cpu_cores": cores,
            "gpu_bytes": None,
        }
        for place, (name, kind, model, cores, mebibytes) in enumerate(rows)
    ]


class MadeUpLive:
    """Serve these numbers. A connection gets those of so many seconds at once, and then new ones once a second."""

    def __init__(self, history: int = 1, key: str = "") -> None:
        self.second = history
        self.history = history
        self.key = key  # to be shown by whoever asks, if there is one
        self.up = True  # others are hung up on, and get no answer
        self.changes: dict[str, Any] = {}  # in place of what would be said
        self.asked = 0

    def route(self) -> Route:
        return Route("/api/live", self._answer)

    async def _answer(self, request: Request) -> Response:
        self.asked += 1
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"code": 16, "message": "this server wants a key"}, 401)
        if not self.up:
            return Response(status_code=503)
        if "once" in request.query_params:
            return JSONResponse(self._now())
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _events(self) -> AsyncIterator[str]:
        for second in range(self.second - self.history + 1, self.second):
            yield _event({**numbers(second), **self.changes})
            await asyncio.sleep(0)  # so that whoever leaves is noticed
        while self.up:
            yield _event(self._now())
            await asyncio.sleep(1)
            self.second += 1

    def _now(self) -> dict[str, Any]:
        return {**numbers(self.second), **self.changes}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"
