"""What exports over OTLP/HTTP share, whatever they export.

It imports OpenTelemetry, so it is imported only where something is exported.
"""

from __future__ import annotations

import logging
import platform
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import OTELResourceDetector, Resource


def url_of(endpoint: str, signal: Literal["metrics", "traces"]) -> str | None:
    """Return the URL to export to: the endpoint itself if it has a path, or else OTLP's own path behind it.

    None, which leaves it to the variables OTEL_*, for an empty endpoint.
    """
    if not endpoint or urlsplit(endpoint).path.strip("/"):
        return endpoint or None
    return f"{endpoint.rstrip('/')}/v1/{signal}"


def own_resource(version: str, instance: str) -> Resource:
    """Return what it is that exports, with the attributes that OTEL_RESOURCE_ATTRIBUTES adds.

    instance: tells processes and servers of one machine apart.
    """
    own = {
        "service.name": "bertstream",
        "service.version": version,
        "service.instance.id": f"{platform.node()}/{instance}",
    }
    return Resource(own).merge(OTELResourceDetector().detect())


def silence_exporters() -> None:
    """Have the exporters write nothing to the log, as they would with every message that fails."""
    for name in ("opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
