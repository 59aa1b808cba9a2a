"""The settings that the supervisor sends to a frontend process over its control line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["use", "admin"]  # "use" may call all that serves; "admin" may also load and unload models
# From the first byte of a gRPC connection until it can have calls, and of an HTTP request until its headers are there.
# gRPC itself would wait for 2 minutes.
HANDSHAKE_SECONDS = 20.0
KEY_SLOTS = 16_384  # far more than there may be keys, so that a slot is idle for long before it is another key's


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one call and of one stream."""

    max_texts: int  # in one message
    max_request_bytes: int  # of one message
    max_message_bytes: int  # of a message that the transport takes, so that one too large gets a proper error
    max_response_bytes: int  # of a unary answer
    stream_items: int  # under way in one stream
    stream_tokens: int  # under way in one stream
    stream_bytes: int  # of token states under way in one stream
    concurrent_calls: int  # of this frontend


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of connections and of their readers, with the server's defaults. 0 seconds mean no limit."""

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

    certificate: str  # followed by those between it and its authority
    key: str
    client_ca: str = ""  # the authorities of clients' certificates; if set, clients must show a certificate


@dataclass(frozen=True, slots=True)
class Certificates:
    """The contents of TlsFiles: PEM, as text in Latin-1."""

    certificate: str
    key: str = field(repr=False)
    client_ca: str = ""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The files to follow, and their last good contents, for a frontend that starts while the files are broken."""

    files: TlsFiles
    certificates: Certificates


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A named caller: how it is identified, and its limits."""

    name: str
    hash: str = field(default="", repr=False)  # of its key, as `hash_of` makes it
    subject: str = ""  # of its certificate, in place of a key: "CN=…" or "SAN=…"
    role: Role = "use"
    models: tuple[str, ...] = ()  # the models that it may use; empty: all
    tokens_per_second: float = 0.0  # 0: no bound
    concurrent: int = 0  # calls at once; 0: no bound
    weight: float = 1.0  # its share of the work, relative to other callers
    slot: int = 0  # its place in the file of counts that all frontends share

    @property
    def identity(self) -> tuple[str, str, str]:
        """The fields that make two entries the same key, however its limits change."""
        return self.name, self.hash, self.subject

    @staticmethod
    def hash_of(key: str) -> str:
        """Return the SHA-256 of a key, in hexadecimal digits."""
        return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """The keys that callers must show, and which services need none."""

    keys: tuple[KeyEntry, ...]
    counts: str  # path of the file of counts, which all frontends map
    open_health: bool = True
    open_reflection: bool = False


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where finished traces go, and which calls are traced."""

    endpoint: str  # URL of the collector; empty: as the OTEL_* variables say
    ratio: float  # of the calls whose callers do not decide it, from 0 to 1


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model to serve."""

    name: str
    directory: str  # the compiled model
    sockets: tuple[str, ...]  # of its workers
    queue_tokens: int  # under way in this frontend
    max_length: int = 0  # tokens that texts are cut to by default; 0: the checkpoint's own
    serial: int = 0  # tells versions of one model apart
    cpu_instructions: str = ""  # that the workers' operators use, such as "avx512+vnni"; "" for none, and on CUDA


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
    max_load_workers: int = 0  # the most workers that LoadModel may ask for; 0: LoadModel is not allowed
    number: int = 0  # of this frontend, counted from 0
    frontends: int = 1  # how many there are, all on one port
    connections: ConnectionLimits = ConnectionLimits()
    tls: TlsSettings | None = None  # None: plain text
    keys: KeysSettings | None = None  # None: anyone may call
    drain_notice_seconds: float = 0.0
    tracing: TracingSettings | None = None  # None: no call is traced
    load_reports: bool = True  # in the trailers of calls, and apart from them
    queue_seconds: float = 30.0  # that work may have to wait in a worker
    channelz: bool = False  # whether it is served where there are no keys
    http_port: int = -1  # of JSON over HTTP; -1: none
    admin_socket: str = ""  # Unix socket on which the admin process makes calls for its pages; empty: none


@dataclass(frozen=True, slots=True)
class FollowedKeysSettings:
    """The file of keys to follow, and its last good contents, for a process that starts while the file is broken."""

    path: str
    certificates: bool  # whether clients show certificates
    keys: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """Where metrics are pushed to, and how often; all else is as the OTEL_* variables say."""

    endpoint: str  # URL of the collector; empty: as the OTEL_* variables say
    seconds: float = 15.0  # between pushes


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The whole configuration of the process that serves the admin port."""

    name: str
    host: str
    port: int  # -1: none, so that metrics are only pushed
    log_level: str
    tls: TlsSettings | None = None  # None: plain text
    keys: FollowedKeysSettings | None = None  # None: anyone may look, and call
    frontend_sockets: tuple[str, ...] = ()  # on which frontends take the calls of the pages
    otlp: OtlpSettings | None = None  # None: metrics are pushed nowhere
    max_header_bytes: int = 16_384  # of one request
