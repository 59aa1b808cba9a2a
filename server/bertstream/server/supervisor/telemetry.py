"""Where traces are exported to, as the options or OpenTelemetry's own variables say."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import TracingSettings

log = logging.getLogger(__name__)

_PACKAGE = "opentelemetry-exporter-otlp-proto-http"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def tracing_settings(config: ServeConfig, environment: Mapping[str, str]) -> TracingSettings | None:
    """Return how calls are traced, None where they are not. Raises ConfigError."""
    if config.trace_endpoint:
        _check_url(config.trace_endpoint)
    elif not wanted_by(environment):
        return None
    if not _is_installed():
        why = "trace_endpoint" if config.trace_endpoint else "OTEL_EXPORTER_OTLP_ENDPOINT"
        about = f"{why} needs OpenTelemetry: pip install 'bertstream[otel]'"
        if config.trace_endpoint:
            raise ConfigError(about)
        log.warning("no traces are exported: %s", about)  # the variable may be meant for other programs
        return None
    return TracingSettings(config.trace_endpoint, config.trace_ratio)


def wanted_by(environment: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry's variables ask for traces over OTLP.

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in (environment.get("OTEL_TRACES_EXPORTER") or "otlp"):
        return False
    if not any(environment.get(name) for name in _ENDPOINTS):
        return False
    protocol = next((given for name in _PROTOCOLS if (given := environment.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        log.warning("traces are exported over http/protobuf, not over %s: give the collector's port for that", protocol)
    return True


def _check_url(endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"trace_endpoint must be a URL such as http://localhost:4318, not {endpoint!r}")


def _is_installed() -> bool:
    try:
        importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
