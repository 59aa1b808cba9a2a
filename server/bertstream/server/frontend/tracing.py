"""Tracing in a frontend: its tracer, the ids of spans in its log, and the export, loaded only where it is wanted."""

from __future__ import annotations

import logging

from bertstream.server.core import tracing
from bertstream.server.core.tracing import Tracer
from bertstream.server.settings import FrontendSettings, TracingSettings

CLOSE_SECONDS = 1.0  # that the last traces may delay the end of a drain


class Tracing:
    """The tracer of a frontend and the export behind it."""

    def __init__(self, settings: TracingSettings, version: str, frontend: str) -> None:
        # Here, since it loads OpenTelemetry and what that needs.
        from bertstream.server.frontend.trace_export import begin_export

        self._export = begin_export(settings, version, frontend)
        self.tracer = Tracer(settings.ratio, self._export.put)
        for handler in logging.getLogger().handlers:
            handler.addFilter(add_ids)

    def close(self) -> None:
        """Export what has been traced, unless the collector takes too long."""
        self._export.close(CLOSE_SECONDS)


def tracing_of(settings: FrontendSettings) -> Tracing | None:
    """Begin to trace as the settings say; return None where they want no traces."""
    return Tracing(settings.tracing, settings.version, settings.name) if settings.tracing else None


def add_ids(record: logging.LogRecord) -> bool:
    """Add the ids of the trace and span that a line belongs to, as other systems write them."""
    trace_id, span_id = tracing.current().ids
    if trace_id:
        record.trace_id, record.span_id = f"{trace_id:032x}", f"{span_id:016x}"
    return True
