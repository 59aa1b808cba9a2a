"""The server's configuration: one table of options, for flags, BERTSTREAM_* variables and a TOML file alike."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertstream.workers.contract import ADAPTER_TASKS, TASKS


class ConfigError(Exception):
    """An option has a value that is not allowed; the message names the option and where the value came from."""


_MOST = (1 << 31) - 1  # the largest number that gRPC and an int32 of the protocol take; 68 years if it is seconds

# Far more than any machine has use for; each is a process or a thread.
MOST_FRONTENDS, MOST_WORKERS, MOST_THREADS = 256, 1024, 1024


def _option(
    default: Any, text: str, *, least: float | None = None, most: float = _MOST, choices: Sequence[str] = ()
) -> Any:
    return field(default=default, metadata={"help": text, "least": least, "most": most, "choices": tuple(choices)})


@dataclass(frozen=True, slots=True)
class ModelTable:
    """`[model.NAME]` of the file. None stands for the value of all models, or the checkpoint's own."""

    source: str | None = None
    device: str | None = None
    dtype: str | None = None
    optimize: str | None = None
    workers: int | None = None
    threads: int | None = None
    batch_tokens: int | None = None
    queue_tokens: int | None = None
    max_length: int | None = None  # tokens that texts are cut to unless a request says otherwise
    task: str | None = None  # what the checkpoint's head is for, whatever the checkpoint says or leaves open
    allow_unsupported_modules: bool | None = None


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The options of `bertstream serve`. A 0 among the sizes means that the server chooses."""

    models: tuple[str, ...] = _option((), "hub name, checkpoint directory, or NAME=either; none: the embedded model")
    host: str = _option(
        "127.0.0.1", "address to listen on; one that other machines can reach needs TLS, keys, or insecure"
    )
    port: int = _option(50051, "port to listen on; 0 takes a free one", least=0, most=65535)
    http_port: int = _option(
        -1,
        "port of JSON over HTTP, for clients of OpenAI's and other APIs, on the same address; 0 takes a free one, "
        "-1: none",
        least=-1,
        most=65535,
    )
    frontends: int = _option(
        0,
        "processes that serve gRPC, all on one port; 0: one for every 4 cores, or 2 where models run on GPUs, "
        "at least 1 and at most 8",
        least=0,
        most=MOST_FRONTENDS,
    )
    tls_certificate: str = _option(
        "", "PEM file of the certificate to serve TLS with, followed by those between it and its authority"
    )
    tls_key: str = _option("", "PEM file of the certificate's key, not encrypted")
    tls_client_ca: str = _option("", "PEM file of authorities; clients must then show a certificate of one of them")
    keys_file: str = _option(
        "", "TOML file of the keys that callers must show, as `bertstream keys` writes it; none: anyone may call"
    )
    open_health: bool = _option(True, "whether health checks need no key")
    open_reflection: bool = _option(False, "whether server reflection needs no key")
    channelz: bool = _option(
        False,
        "whether gRPC's channelz, which tells who is connected, is served to anyone; where there are keys, those "
        "with the role admin have it in any case",
    )
    load_reports: bool = _option(
        True, "whether calls end with a report of the server's load (ORCA), for balancers that choose by it"
    )
    insecure: bool = _option(False, "whether others on the network may be served in plain text, without TLS or keys")
    admin_port: int = _option(
        -1,
        "port of metrics, health over HTTP and the pages for people; 0 takes a free one, -1: none",
        least=-1,
        most=65535,
    )
    admin_host: str = _option(
        "127.0.0.1", "address of the admin port; one that other machines can reach needs TLS, keys, or insecure"
    )
    device: str = _option("auto", "where models run", choices=("auto", "cpu", "cuda"))
    dtype: str = _option(
        "auto",
        "precision; auto is float16 on CUDA and float32 on the CPU; int8 is for the CPU alone, "
        "fp8 for GPUs such as an H100",
        choices=("auto", "float32", "float16", "bfloat16", "int8", "fp8"),
    )
    task: tuple[str, ...] = _option(
        (),
        "what the heads of checkpoints are for, whatever they say: TASK for all models, or NAME=TASK for one of them, "
        f"several with commas between; tasks are {', '.join(TASKS)}; or which of its adapters a checkpoint is served "
        f"with: {', '.join(ADAPTER_TASKS)}",
    )
    allow_unsupported_modules: bool = _option(
        False,
        "whether checkpoints are served without what cannot be run of them, such as unknown sentence-transformers "
        "modules, although vectors are then not those that their authors meant",
    )
    optimize: str = _option(
        "auto",
        "workers on the CPU: throughput is one of a single thread for each core, latency one with all threads; "
        "auto is throughput whose workers take idle cores, too",
        choices=("auto", "throughput", "latency"),
    )
    workers: int = _option(
        0,
        "worker processes for each model; 0: one a GPU, or on the CPU as optimize says",
        least=0,
        most=MOST_WORKERS,
    )
    threads: int = _option(
        0, "threads of each worker on the CPU; 0: an even share of the cores", least=0, most=MOST_THREADS
    )
    pin: bool = _option(False, "whether each worker on the CPU stays on cores of its own, where there are enough")
    batch_tokens: int = _option(0, "tokens in one batch; 0: 1024 on the CPU, 16384 on CUDA", least=0)
    queue_tokens: int = _option(
        1_048_576, "tokens under way for one model, in each frontend, before unary calls are refused", least=1
    )
    queue_seconds: float = _option(
        30.0, "how long interactive work may have to wait in a worker before it is refused, by the estimate", least=0
    )
    max_texts: int = _option(4096, "texts in one message", least=1)
    max_request_bytes: int = _option(8 << 20, "bytes of one request message", least=1024)
    max_message_bytes: int = _option(
        128 << 20, "bytes of a message that is read at all, to be refused with details", least=1024
    )
    max_response_bytes: int = _option(
        4_000_000, "bytes of a unary answer; gRPC clients take 4 MiB by default", least=1024
    )
    stream_items: int = _option(4096, "texts under way in one stream", least=1)
    stream_tokens: int = _option(262_144, "tokens under way in one stream", least=1)
    stream_bytes: int = _option(32 << 20, "bytes of token states under way in one stream", least=1024)
    session_bytes: int = _option(256 << 20, "bytes a worker keeps for streams of layers between layers", least=1024)
    cache_tokens: int = _option(16_384, "tokens of all sequences that a worker generates for at once", least=1)
    concurrent_calls: int = _option(1024, "calls under way in each frontend; more are refused", least=1)
    max_connections: int = _option(4096, "connections to each frontend; more are closed at once", least=1)
    connection_streams: int = _option(2048, "calls under way on one connection; clients let more wait", least=1)
    connection_idle_seconds: float = _option(
        3600.0, "a connection without calls for so long is closed; 0: never", least=0
    )
    connection_age_seconds: float = _option(
        0.0, "a connection takes no new calls from this age on, so that clients connect anew; 0: never", least=0
    )
    connection_grace_seconds: float = _option(
        300.0, "how long calls under way may go on when their connection is too old, before they are cut off", least=0
    )
    max_header_bytes: int = _option(16_384, "bytes of the headers of one call", least=1024)
    stalled_seconds: float = _option(
        300.0, "a streaming call whose reader takes nothing for so long, while an answer waits, is ended", least=1
    )
    tokenizer_threads: int = _option(
        0, "threads that tokenize, in all frontends together; 0: one a core", least=0, most=MOST_THREADS
    )
    drain_seconds: float = _option(30.0, "how long calls under way may take when the server stops", least=0)
    drain_notice_seconds: float = _option(
        0.0, "how long new calls are still taken before that, while health already tells of the stop", least=0
    )
    worker_wait_seconds: float = _option(30.0, "how long a call waits for a worker to come back", least=0)
    batch_seconds: float = _option(120.0, "a batch that computes longer than this gets its worker replaced", least=1)
    model_roots: tuple[str, ...] = _option((), "directories below which LoadModel may find checkpoints")
    load_from_hub: bool = _option(False, "whether LoadModel may take checkpoints from the Hugging Face hub")
    cache: str = _option("", "directory for compiled models; default $XDG_CACHE_HOME/bertstream")
    trace_endpoint: str = _option(
        "",
        "URL of a collector that takes traces over OTLP/HTTP, such as http://localhost:4318; none: no traces, "
        "unless OTEL_EXPORTER_OTLP_ENDPOINT is set",
    )
    trace_ratio: float = _option(
        1.0,
        "part of the calls that are traced, from 0 to 1, where a caller does not decide it by its own trace",
        least=0,
        most=1,
    )
    metric_endpoint: str = _option(
        "",
        "URL of a collector that takes metrics over OTLP/HTTP, such as http://localhost:4318; none: metrics are not "
        "pushed, unless OTEL_EXPORTER_OTLP_ENDPOINT is set",
    )
    metric_seconds: float = _option(15.0, "how long it takes from one push of metrics to the next", least=1)
    log_level: str = _option("info", "least severe message to log", choices=("debug", "info", "warning", "error"))
    tables: Mapping[str, ModelTable] = field(default_factory=dict)  # by the model's name; only in the file

    @property
    def tasks(self) -> tuple[tuple[str, str], ...]:
        """The pairs in `task`: a model's name, or "" for all models, and its task."""
        return tuple((name, task) for name, _, task in (each.rpartition("=") for each in self.task))

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin port."""
        return self.admin_port >= 0

    @property
    def may_load(self) -> bool:
        """Whether LoadModel and UnloadModel are allowed."""
        return bool(self.model_roots) or self.load_from_hub


FIELDS = {each.name: each for each in dataclasses.fields(ServeConfig) if each.metadata}


def add_arguments(parser: argparse.ArgumentParser, names: Sequence[str] = tuple(FIELDS)) -> None:
    """Add a flag for each option; `models` are the positional arguments."""
    for name in names:
        option = FIELDS[name]
        if name == "models":
            parser.add_argument("models", nargs="*", metavar="MODEL", help=option.metadata["help"])
            continue
        shown = "" if option.default in ("", ()) else f" (default {option.default})"
        if isinstance(option.default, bool):
            action = argparse.BooleanOptionalAction
            parser.add_argument("--" + name.replace("_", "-"), action=action, help=option.metadata["help"])
            continue
        parser.add_argument(
            "--" + name.replace("_", "-"),
            choices=option.metadata["choices"] or None,
            metavar=None if option.metadata["choices"] else name.split("_")[-1].upper(),
            help=option.metadata["help"] + shown,
        )
    parser.add_argument("--config", metavar="FILE", help="TOML file with the same names (default $BERTSTREAM_CONFIG)")


def load(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> ServeConfig:
    """Return the options: a flag wins over a variable, that over the file, and that over the default.

    A variable that is empty counts as one that is not set. Raises ConfigError.
    """
    path = arguments.config or environment.get("BERTSTREAM_CONFIG")
    values = _from_file(Path(path)) if path else {}
    for name in FIELDS:
        variable = "BERTSTREAM_" + name.upper()
        if text := environment.get(variable):
            values[name] = _parse(name, text, variable)
        given = getattr(arguments, name, None)
        if given not in (None, []):
            values[name] = _parse(name, given, "--" + name.replace("_", "-"))
    return ServeConfig(**values)


def of_table(table: Mapping[str, Any], origin: str = "") -> ServeConfig:
    """Return the options in a table as the file has it, with the defaults of all others. Raises ConfigError.

    origin: what errors say before an option's name.
    """
    return ServeConfig(**_from_table(table, origin))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    return _from_table(table, f"{path}: ")


def _from_table(table: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the values of a table as the file has it; `origin` stands before the options' names in errors."""
    options = {name: value for name, value in table.items() if name != "model"}
    tables = _parse_tables(table.get("model", {}), f"{origin}model")
    if unknown := [name for name in options if name not in FIELDS]:
        raise ConfigError(f"{origin}there is no option {unknown[0]!r}")
    return {"tables": tables} | {name: _parse(name, value, f"{origin}{name}") for name, value in options.items()}


def _parse_tables(value: Any, origin: str) -> dict[str, ModelTable]:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise ConfigError(f"{origin} must be tables, as [model.NAME]")
    if bad := [name for name in value if not name or "=" in name]:
        raise ConfigError(f"{origin}: {bad[0]!r} is not a name for a model")
    return {name: _parse_table(table, f"{origin}.{name}") for name, table in value.items()}


def _parse_table(table: Mapping[str, Any], origin: str) -> ModelTable:
    names = [each.name for each in dataclasses.fields(ModelTable)]
    if unknown := [name for name in table if name not in names]:
        raise ConfigError(f"{origin}: there is no option {unknown[0]!r}; those of a model are {', '.join(names)}")
    return ModelTable(**{name: _parse_own(name, value, f"{origin}.{name}") for name, value in table.items()})


def _parse_own(name: str, value: Any, origin: str) -> Any:
    """Return the value of an option in a model's table. Raises ConfigError."""
    if name == "device" and isinstance(value, str) and re.fullmatch(r"cuda:\d{1,3}", value):
        return value
    if name == "task":
        return _parse_task(value, origin)
    if name == "source" and value == "":
        raise ConfigError(f"{origin} must be a hub name or a checkpoint's directory")
    # `source` and `max_length` are no options of all models; they are parsed like two that are.
    return _parse({"source": "cache", "max_length": "max_texts"}.get(name, name), value, origin)


def _parse_named_task(text: str, origin: str) -> str:
    """Return TASK or NAME=TASK without white space. Raises ConfigError."""
    _parse_task(text.rpartition("=")[2].strip(), origin)
    return "".join(text.split())


def _parse_task(value: Any, origin: str) -> str:
    task = next((each for each in (*TASKS, *ADAPTER_TASKS) if each == value), None)
    if task is None:
        raise ConfigError(f"{origin} must be one of {', '.join((*TASKS, *ADAPTER_TASKS))}, not {value!r}")
    return task


# Separators of the items where a list is given as one text; None is white space.
_SEPARATORS: Mapping[str, str | None] = {"models": None, "model_roots": os.pathsep, "task": ","}
_ACCEPTED: Mapping[type, tuple[type, ...]] = {int: (int, str), float: (int, float, str), str: (str,)}


def _parse(name: str, value: Any, origin: str) -> Any:
    """Return a value of the option's type, whether it came as text or from TOML. Raises ConfigError."""
    option = FIELDS[name]
    if name in _SEPARATORS:
        parsed = _parse_list(value, origin, _SEPARATORS[name])
        return parsed if name != "task" else tuple(_parse_named_task(each, origin) for each in parsed)
    if isinstance(option.default, bool):
        return _parse_bool(value, origin)
    wanted: type = type(option.default)
    try:
        if isinstance(value, bool) or not isinstance(value, _ACCEPTED[wanted]):
            raise ValueError(value)
        parsed = wanted(value)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(wanted, "text")
        raise ConfigError(f"{origin} must be {kind}, not {value!r}") from None
    least, most, choices = option.metadata["least"], option.metadata["most"], option.metadata["choices"]
    if least is not None and not least <= parsed <= most:
        raise ConfigError(f"{origin} must be at least {least} and at most {most}, not {value}")
    if choices and parsed not in choices:
        raise ConfigError(f"{origin} must be one of {', '.join(choices)}, not {value!r}")
    return parsed


def _parse_list(value: Any, origin: str, separator: str | None) -> tuple[str, ...]:
    """Return a list of texts, or the parts of one text between separators; None is white space."""
    texts = [part for part in value.split(separator) if part] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"{origin} must be a list of texts, not {value!r}")
    return tuple(texts)


def _parse_bool(value: Any, origin: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in words or not isinstance(value, bool | str):
        raise ConfigError(f"{origin} must be true or false, not {value!r}")
    return words[str(value).lower()]
