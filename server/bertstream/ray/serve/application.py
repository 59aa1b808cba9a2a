"""The application of Ray Serve: `import_path: bertstream.ray.serve:application`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPLOYMENT = "bertstream"
# Our own batching wants many calls at once, and our own admission refuses too many, with details.
MAX_ONGOING_REQUESTS = 1024
SHUTDOWN_SECONDS = 60.0  # for calls under way, when a replica is replaced: longer than streams of the SDK need to move


def application(options: Mapping[str, Any]) -> Any:
    """Return the application that serves models with these options: `args` of the config file.

    They are those of an embedded server: `models`, `dtype`, `task` and others, as `bertstream serve` has them. Raises
    ConfigError for what cannot be.
    """
    from bertstream.server.embedded import embedded_config  # here, as Ray's proxies import this package, too

    embedded_config(options)  # at once, not in every replica
    return deployment().bind(dict(options))


def deployment() -> Any:
    """Return the deployment, whose options the config file or `.options(num_replicas=…)` change."""
    from ray import serve

    from bertstream.ray.serve.replica import Replica

    return serve.deployment(
        Replica,
        name=DEPLOYMENT,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=SHUTDOWN_SECONDS,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=5.0,
    )
