"""What the supervisor tells a frontend process, over its control line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call, and one stream, may ask for."""

    max_texts: int  # in one message
    max_request_bytes: int  # of one message
    max_message_bytes: int  # that the transport takes at all, so that what is too large gets a proper answer
    max_response_bytes: int  # of a unary answer
    stream_items: int  # under way in one stream
    stream_tokens: int  # likewise
    stream_bytes: int  # of token states under way in one stream
    concurrent_calls: int  # of this frontend


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model to serve."""

    name: str
    directory: str  # the compiled model
    sockets: tuple[str, ...]  # its workers'
    queue_tokens: int  # under way in this frontend
    max_length: int = 0  # that texts are cut to by default; 0: as the checkpoint has it
    serial: int = 0  # tells versions of one model apart

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ModelSettings:
        """The inverse of dataclasses.asdict, also by way of JSON."""
        return cls(**{**values, "sockets": tuple(values["sockets"])})


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """A frontend's whole configuration."""

    name: str
    host: str
    port: int
    version: str
    models: tuple[ModelSettings, ...]
    limits: Limits
    tokenizer_threads: int
    drain_seconds: float
    worker_wait_seconds: float
    log_level: str
    max_load_workers: int = 0  # that LoadModel may ask for; 0: it is not allowed
    number: int = 0  # among the frontends
    frontends: int = 1  # how many there are, all on one port

    def to_values(self) -> dict[str, Any]:
        """For the control line."""
        return dataclasses.asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> FrontendSettings:
        """The inverse of to_values, also by way of JSON."""
        models = tuple(ModelSettings.from_values(each) for each in values["models"])
        return cls(**{**values, "models": models, "limits": Limits(**values["limits"])})
