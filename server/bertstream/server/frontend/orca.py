"""ORCA's reports apart from calls, for balancers whose calls are few, or last long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from bertstream.server.core.load import Load
from bertstream.server.protocols.call import Stream
from bertstream.server.protocols.decoding import Decoded, decoder
from bertstream.server.protocols.orca import SERVICE_NAME, OrcaLoadReport, OrcaLoadReportRequest, report_of
from bertstream.server.protocols.rpc import add_handlers

_MAX_BYTES = 1 << 12  # of one request
LEAST_SECONDS = 1.0  # between reports, whatever a caller asks for


def add_orca(server: grpc.aio.Server, measure: Callable[[], Load]) -> None:
    """Add `xds.service.orca.v3.OpenRcaService`; `measure` returns the load now."""

    async def stream_core_metrics(request: Decoded[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        asked = request.value().report_interval
        seconds, stream = max(LEAST_SECONDS, asked.seconds + asked.nanos / 1e9), Stream[Any](context)
        while True:
            await stream.write(report_of(measure()))
            await asyncio.sleep(seconds)

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        stream_core_metrics, decoder(OrcaLoadReportRequest, _MAX_BYTES), OrcaLoadReport.SerializeToString
    )
    add_handlers(server, SERVICE_NAME, {"StreamCoreMetrics": handler})
