"""Where traces and metrics are exported to, as the options or OpenTelemetry's own variables say."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import OtlpSettings, TracingSettings

log = logging.getLogger(__name__)

_PACKAGE = "opentelemetry-exporter-otlp-proto-http"
Signal = Literal["traces", "metrics"]


def tracing_settings(config: ServeConfig, environment: Mapping[str, str]) -> TracingSettings | None:
    """Return how calls are traced, None where they are not. Raises ConfigError."""
    if not _is_exported("traces", "trace_endpoint", config.trace_endpoint, environment):
        return None
    return TracingSettings(config.trace_endpoint, config.trace_ratio)


def metric_settings(config: ServeConfig, environment: Mapping[str, str]) -> OtlpSettings | None:
    """Return where metrics are pushed to, None where they are not. Raises ConfigError."""
    if not _is_exported("metrics", "metric_endpoint", config.metric_endpoint, environment):
        return None
    return OtlpSettings(config.metric_endpoint, config.metric_seconds)


def _is_exported(signal: Signal, option: str, endpoint: str, environment: Mapping[str, str]) -> bool:
    """Tell whether a signal is exported, by the option's endpoint or by OpenTelemetry's variables."""
    if endpoint:
        _check_url(option, endpoint)
    elif not wanted_by(environment, signal):
        return False
    if _is_installed():
        return True
    about = (
        f"{option if endpoint else 'OTEL_EXPORTER_OTLP_ENDPOINT'} needs OpenTelemetry: pip install 'bertstream[otel]'"
    )
    if endpoint:
        raise ConfigError(about)
    log.warning("no %s are exported: %s", signal, about)  # the variable may be meant for other programs
    return False


def wanted_by(environment: Mapping[str, str], signal: Signal = "traces") -> bool:
    """Tell whether OpenTelemetry's variables ask for a signal over OTLP.

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
    """
    own = signal.upper()
    endpoints = (f"OTEL_EXPORTER_OTLP_{own}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    protocols = (f"OTEL_EXPORTER_OTLP_{own}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in (environment.get(f"OTEL_{own}_EXPORTER") or "otlp"):
        return False
    if not any(environment.get(name) for name in endpoints):
        return False
    protocol = next((given for name in protocols if (given := environment.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        about = "%s are exported over http/protobuf, not over %s: give the collector's port for that"
        log.warning(about, signal, protocol)
    return True


def _check_url(option: str, endpoint: str) -> None:
    try:
        url = urlsplit(endpoint)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{option} must be a URL such as http://localhost:4318, not {endpoint!r}")


def _is_installed() -> bool:
    try:
        importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
