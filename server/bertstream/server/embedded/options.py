"""The options of an embedded server: those of `bertstream serve` that say nothing of ports, callers and doors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bertstream.server.config import ConfigError, ServeConfig, of_table

OPTIONS = (
    *("models", "device", "dtype", "task", "allow_unsupported_modules", "optimize", "workers", "threads", "pin"),
    *("batch_tokens", "queue_tokens", "queue_seconds", "max_texts", "max_request_bytes", "max_message_bytes"),
    *("max_response_bytes", "stream_items", "stream_tokens", "stream_bytes", "session_bytes", "cache_tokens"),
    *("concurrent_calls", "tokenizer_threads", "drain_seconds", "worker_wait_seconds", "batch_seconds", "cache"),
    "log_level",
)


def embedded_config(options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> ServeConfig:
    """Return the configuration of these options, named and typed as in the server's TOML file. Raises ConfigError.

    `model` holds tables of single models, by name. Of the server's variables only BERTSTREAM_CACHE counts, since the
    others are meant for servers of their own.
    """
    refused = [name for name in options if name not in (*OPTIONS, "model")]
    if refused:
        raise ConfigError(f"an embedded server has no option {refused[0]!r}; it has {', '.join(OPTIONS)} and model")
    table = {name: _plain(value) for name, value in options.items() if value is not None}
    if "cache" not in table and environment.get("BERTSTREAM_CACHE"):
        table["cache"] = environment["BERTSTREAM_CACHE"]
    return of_table(table)


def _plain(value: Any) -> Any:
    """Return a value as TOML has it: paths as texts."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
