from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping

import pytest

from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.settings import OtlpSettings, TracingSettings
from bertstream.server.supervisor.telemetry import metric_settings, tracing_settings, wanted_by

URL = "http://localhost:4318"
VARIABLE = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}


@pytest.mark.parametrize(
    ("endpoint", "environment", "expected"),
    [
        ("", {}, None),
        (URL, {}, TracingSettings(URL, 0.25)),
        ("", VARIABLE, TracingSettings("", 0.25)),
        ("https://otel.example/v1/traces", VARIABLE, TracingSettings("https://otel.example/v1/traces", 0.25)),
    ],
)
def test_options_win_over_variables(
    endpoint: str, environment: Mapping[str, str], expected: TracingSettings | None
) -> None:
    assert tracing_settings(ServeConfig(trace_endpoint=endpoint, trace_ratio=0.25), environment) == expected


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        (VARIABLE, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{URL}/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{URL}/v1/metrics"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (VARIABLE | {"OTEL_SDK_DISABLED": "true"}, False),
        (VARIABLE | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (VARIABLE | {"OTEL_TRACES_EXPORTER": "console,otlp"}, True),
    ],
)
def test_opentelemetry_s_variables_mean_what_they_mean_elsewhere(environment: Mapping[str, str], wanted: bool) -> None:
    assert wanted_by(environment) is wanted


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        (VARIABLE, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{URL}/v1/traces"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{URL}/v1/metrics"}, True),
        (VARIABLE | {"OTEL_METRICS_EXPORTER": "none"}, False),
    ],
)
def test_metrics_have_variables_of_their_own(environment: Mapping[str, str], wanted: bool) -> None:
    assert wanted_by(environment, "metrics") is wanted
    assert metric_settings(ServeConfig(metric_seconds=3), environment) == (OtlpSettings("", 3) if wanted else None)


def test_metrics_go_where_the_option_says() -> None:
    assert metric_settings(ServeConfig(metric_endpoint=URL), VARIABLE) == OtlpSettings(URL, 15.0)
    with pytest.raises(ConfigError, match="metric_endpoint must be a URL such as http://localhost:4318, not 'x'"):
        metric_settings(ServeConfig(metric_endpoint="x"), {})


def test_another_protocol_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert wanted_by(VARIABLE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "not over grpc" in caplog.text


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://localhost:4317", "http://", "http://[", "http://a:0"])
def test_an_endpoint_must_be_a_url(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="trace_endpoint must be a URL such as http://localhost:4318, not"):
        tracing_settings(ServeConfig(trace_endpoint=endpoint), {})


def test_without_opentelemetry_the_option_fails_and_the_variable_only_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"pip install 'bertstream\[otel\]'"):
        tracing_settings(ServeConfig(trace_endpoint=URL), {})
    assert tracing_settings(ServeConfig(), VARIABLE) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
