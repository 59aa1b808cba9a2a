"""A server that answers what it is told to, whatever it is asked; and what a good one answers, to begin from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass
class Script:
    """The answers to one call: the messages, and the status with its message and details."""

    messages: list[bytes]
    code: grpc.StatusCode = grpc.StatusCode.OK
    text: str = ""
    details: bytes | None = None


@dataclass
class HostileServer(grpc.GenericRpcHandler):
    """Plays the scripts of each rpc in turn, and the last one again and again.

    Without any it passes all calls on to `good`, and notes what that answers.
    """

    good: grpc.Channel
    scripts: dict[str, deque[Script]] = field(default_factory=dict)
    noted: list[tuple[str, list[bytes]]] = field(default_factory=list)  # rpc, answers; a call each

    def __post_init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        rpc = details.method.rpartition("/")[2]
        answer: Callable[..., Iterator[bytes]] = self._play if self.scripts else self._pass_on
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: answer(rpc, details, requests, context))

    def _pass_on(
        self, rpc: str, details: grpc.HandlerCallDetails, requests: Iterator[bytes], context: Any
    ) -> Iterator[bytes]:
        answers: list[bytes] = []
        self.noted.append((rpc, answers))
        ask: Any = self.good.stream_stream(details.method)
        for each in ask(requests, timeout=20):
            answers.append(each)
            yield each

    def _play(
        self, rpc: str, details: grpc.HandlerCallDetails, requests: Iterator[bytes], context: Any
    ) -> Iterator[bytes]:
        scripts = self.scripts.get(rpc)
        if not scripts:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
            return
        script = scripts[0] if len(scripts) == 1 else scripts.popleft()
        for each in script.messages:
            next(requests, None)  # a bulk stream's answers are to what has been asked
            yield each
        if script.details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", script.details),))
        if script.code is not grpc.StatusCode.OK:
            context.abort(script.code, script.text)
