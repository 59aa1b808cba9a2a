"""What the supervisor tells a frontend process, over its control line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["use", "admin"]  # all that serves; that, and changing what is served
KEY_SLOTS = 16_384  # far more than there may be keys, so that a slot is idle for long before it is another key's


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
class ConnectionLimits:
    """What connections, and those who read from them, may take. 0 seconds are no end. Defaults are the server's."""

    max_connections: int = 4096  # to this frontend
    connection_streams: int = 2048  # calls under way on one connection
    connection_idle_seconds: float = 3600.0  # without a call
    connection_age_seconds: float = 0.0
    connection_grace_seconds: float = 300.0  # for the calls of a connection that is too old
    max_header_bytes: int = 16_384  # of one call's headers
    stalled_seconds: float = 300.0  # that a message of a stream may wait for its reader


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the server's certificate is, by absolute paths."""

    certificate: str  # and those between it and its authority
    key: str
    client_ca: str = ""  # the authorities of clients' certificates, which clients must show then


@dataclass(frozen=True, slots=True)
class Certificates:
    """What such files hold: PEM, as text in Latin-1."""

    certificate: str
    key: str = field(repr=False)
    client_ca: str = ""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The files to follow, and what was good in them last, for a frontend that starts while they are not."""

    files: TlsFiles
    certificates: Certificates


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A named caller: how it is known, and what it may take."""

    name: str
    hash: str = field(default="", repr=False)  # of its key, as `hash_of` makes it
    subject: str = ""  # of its certificate, in place of a key: "CN=…" or "SAN=…"
    role: Role = "use"
    models: tuple[str, ...] = ()  # that it may use; none: all
    tokens_per_second: float = 0.0  # 0: no bound
    concurrent: int = 0  # calls at once; 0: no bound
    weight: float = 1.0  # its share beside others'
    slot: int = 0  # its place among the counts that all frontends share

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it the same key, however its bounds change."""
        return self.name, self.hash, self.subject

    @staticmethod
    def hash_of(key: str) -> str:
        """Return the SHA-256 of a key, in hexadecimal digits."""
        return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """The keys that callers must show, and what is open to those who have none."""

    keys: tuple[KeyEntry, ...]
    counts: str  # file that all frontends map
    open_health: bool = True
    open_reflection: bool = False


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model to serve."""

    name: str
    directory: str  # the compiled model
    sockets: tuple[str, ...]  # its workers'
    queue_tokens: int  # under way in this frontend
    max_length: int = 0  # that texts are cut to by default; 0: as the checkpoint has it
    serial: int = 0  # tells versions of one model apart


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
    connections: ConnectionLimits = ConnectionLimits()
    tls: TlsSettings | None = None  # None: plain text
    keys: KeysSettings | None = None  # None: anyone may call
