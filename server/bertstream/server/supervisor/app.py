"""`bertstream serve`: compile what must be compiled, start workers, then frontends, and keep them until told to stop.

Runs in the supervisor's process, which loads neither torch nor grpc.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import convert

from bertstream.server.certificates import FollowedCertificates
from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.keys.following import FollowedKeys
from bertstream.server.messages import CallsLeft, ChangeOutcome, ForSupervisor, FromFrontend
from bertstream.server.settings import ConnectionLimits, FrontendSettings
from bertstream.server.supervisor.admin import admin_specs
from bertstream.server.supervisor.compilation import compile_models
from bertstream.server.supervisor.draining import DrainLog
from bertstream.server.supervisor.folders import private_folder
from bertstream.server.supervisor.frontends import Frontends
from bertstream.server.supervisor.gathering import Gathering, ServerFacts, gathering_forever
from bertstream.server.supervisor.hanging_up import HangUp
from bertstream.server.supervisor.hosting import compile_task, core_settings, launch_all
from bertstream.server.supervisor.keys import ServedKeys, followed_keys, following
from bertstream.server.supervisor.launching import FRONTEND_MALLOC, Launch, Launcher, Watch
from bertstream.server.supervisor.listening import (
    check_exposure,
    check_ports,
    followed_certificates,
    reserve_port,
    tls_settings,
)
from bertstream.server.supervisor.loading import Loader
from bertstream.server.supervisor.members import members_of, models_of
from bertstream.server.supervisor.progress import ProgressDisplay
from bertstream.server.supervisor.sources import ModelChoice, chosen_models
from bertstream.server.supervisor.telemetry import metric_settings, tracing_settings
from bertstream.workers.measuring.snapshots import LastSnapshot
from bertstream.workers.process import logs
from bertstream.workers.process.child import ChildFailed, ChildSpec
from bertstream.workers.process.group import Group
from bertstream.workers.process.supervisor import Supervisor

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Ports:
    """The numbers of the server's ports; -1: there is none."""

    grpc: int
    http: int = -1
    admin: int = -1


def serve(config: ServeConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError and ChildFailed, whose messages are for people."""
    choices = chosen_models(config)
    if missing := [root for root in config.model_roots if not Path(root).expanduser().is_dir()]:
        raise ConfigError(f"model_roots: there is no directory {missing[0]}")
    check_ports(config)
    certificates = followed_certificates(config)
    keys = followed_keys(config)
    check_exposure(config.host, config.insecure, tls=certificates is not None, keys=keys is not None)
    with (
        reserve_port(config.host, config.port) as reserved,
        reserved_http_port(config) as http,
        reserved_admin_port(config, certificates, keys) as admin,
        private_folder() as folder,
    ):
        ports = Ports(reserved.getsockname()[1], http, admin)
        asyncio.run(_serve(config, ports, choices, folder, certificates, keys))


@contextlib.contextmanager
def reserved_http_port(config: ServeConfig) -> Iterator[int]:
    """Hold the port of HTTP, and yield its number; -1 where there is none. Raises ConfigError."""
    if config.http_port < 0:
        yield -1
        return
    with reserve_port(config.host, config.http_port) as reserved:
        yield reserved.getsockname()[1]


@contextlib.contextmanager
def reserved_admin_port(
    config: ServeConfig, certificates: FollowedCertificates | None, keys: FollowedKeys | None
) -> Iterator[int]:
    """Hold the admin port, and yield its number; -1 where there is none. Raises ConfigError."""
    if not config.has_admin:
        yield -1
        return
    tls, keyed = certificates is not None, keys is not None
    check_exposure(config.admin_host, config.insecure, tls=tls, keys=keyed, option="admin_host")
    with reserve_port(config.admin_host, config.admin_port) as reserved:
        yield reserved.getsockname()[1]


async def _serve(
    config: ServeConfig,
    ports: Ports,
    choices: tuple[ModelChoice, ...],
    folder: Path,
    certificates: FollowedCertificates | None,
    keys: FollowedKeys | None,
) -> None:
    served_keys = None if keys is None else ServedKeys(keys, config, folder)
    hang_up = HangUp(certificates, served_keys)
    with ProgressDisplay() as display:
        compiled = await compile_models(compile_task(config, choices), display)
        if compiled is None:
            return
        launcher = Launcher(config, folder, compiled.devices)
        launches = launch_all(launcher, choices, compiled)
    workers = sum(each.workers for each in launches)
    log.info("starting %d worker%s", workers, "s" if workers > 1 else "")

    gathering = Gathering(ServerFacts(f"{config.host}:{ports.grpc}", launcher.cores))

    def on_ready() -> None:
        gathering.ready = True
        print(ready_line(config, ports, launches, compiled.operators, launcher.frontends), flush=True)

    def on_signal(name: str) -> None:
        gathering.draining = True
        drain.signalled(name)

    loader = Loader(config, launcher, launches, Watch(partial(gathering.died, "worker"), gathering.told))
    drain = DrainLog(launcher.frontends, config.drain_seconds, config.drain_notice_seconds)
    frontends = Group(frontend_specs(config, ports, launcher, loader, drain, certificates, served_keys, gathering))
    sockets, otlp = launcher.admin_sockets, metric_settings(config, os.environ)
    admin = Group(admin_specs(config, ports.admin, sockets, gathering, certificates, served_keys, otlp))
    gathering.attach(lambda: members_of(loader, frontends, admin), lambda: models_of(loader))
    hang_up.attach(frontends, admin)
    # The admin process ends with the workers: until then it says that the server drains.
    stages = [[*(each.workers for each in loader.served), admin], [frontends]]
    drain_seconds = config.drain_notice_seconds + config.drain_seconds
    supervisor = Supervisor(stages, drain_seconds, on_ready, loader.close, on_signal)
    loader.attach(supervisor, Frontends(frontends))
    async with following(served_keys, Frontends(frontends)), gathering_forever(gathering, wanted=bool(admin.specs)):
        await supervisor.run()
    drain.ended()


def frontend_specs(
    config: ServeConfig,
    ports: Ports,
    launcher: Launcher,
    loader: Loader,
    drain: DrainLog,
    certificates: FollowedCertificates | None = None,
    keys: ServedKeys | None = None,
    gathering: Gathering | None = None,
) -> list[ChildSpec]:
    """Return the specifications of the frontend processes, which share the port.

    A frontend that is started again begins with the models that are served at that moment.
    """
    settings = dataclasses.replace(
        core_settings(config, launcher),
        host=config.host,
        port=ports.grpc,
        http_port=ports.http,
        connections=ConnectionLimits(
            **{each.name: getattr(config, each.name) for each in dataclasses.fields(ConnectionLimits)}
        ),
        max_load_workers=launcher.max_load_workers,
        tracing=tracing_settings(config, os.environ),
        load_reports=config.load_reports,
        channelz=config.channelz,
    )
    watch = Watch() if gathering is None else Watch(partial(gathering.died, "frontend"), gathering.told)
    every = [
        dataclasses.replace(settings, name=f"frontend-{number}", number=number) for number in range(launcher.frontends)
    ]
    if launcher.admin_sockets:
        every = [dataclasses.replace(own, admin_socket=launcher.admin_sockets[own.number]) for own in every]
    return [_frontend_spec(own, loader, drain, certificates, keys, watch) for own in every]


def _frontend_spec(
    own: FrontendSettings,
    loader: Loader,
    drain: DrainLog,
    certificates: FollowedCertificates | None,
    keys: ServedKeys | None,
    watch: Watch,
) -> ChildSpec:

    def settings_of_life(life: int) -> FrontendSettings:
        return dataclasses.replace(
            own,
            models=loader.settings,
            tls=tls_settings(certificates),
            keys=None if keys is None else keys.settings,
        )

    def heard(report: Any) -> None:
        match convert(report, FromFrontend):
            case CallsLeft(calls=calls):
                drain.reported(own.name, calls)
            case LastSnapshot() as last:
                watch.told(own.name, last)

    async def answer(asked: Any) -> ChangeOutcome:
        return await loader.answer(convert(asked, ForSupervisor))

    return ChildSpec(
        own.name,
        "bertstream.server.frontend.process",
        settings_of_life,
        {"TOKENIZERS_PARALLELISM": "false", "GRPC_VERBOSITY": "ERROR", **FRONTEND_MALLOC},
        on_progress=heard,
        on_question=answer,
        on_death=partial(watch.died, ""),
    )


def ready_line(
    config: ServeConfig, ports: Ports, launches: Sequence[Launch], operators: str, frontends: int = 1
) -> str:
    """Return one line that says what is served, where, and how: for each model where they are not all alike."""
    alike = len({_placement(each) for each in launches}) == 1
    models = ", ".join(_model(each, "" if alike else f", {_placement(each)}".replace(" |", ",")) for each in launches)
    native = _operators(launches[0], operators)
    tls = [] if not config.tls_certificate else ["mutual TLS" if config.tls_client_ca else "TLS"]
    keys = ["keys"] if config.keys_file else []
    parts = [f"bertstream {version('bertstream')} ready on {config.host}:{ports.grpc}", *tls, *keys, models]
    several = [f"{frontends} frontends"] if frontends > 1 else []
    http = [f"HTTP at {_url(config, config.host, ports.http)}"] if ports.http >= 0 else []
    admin = [f"admin at {_url(config, config.admin_host, ports.admin)}"] if ports.admin >= 0 else []
    return " | ".join([*parts, *([_placement(launches[0])] if alike else []), *several, native, *http, *admin])


def _url(config: ServeConfig, host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if config.tls_certificate else 'http'}://{host}:{port}"


def _operators(launch: Launch, operators: str) -> str:
    """Return which native operators a model uses, or why none; `operators` is "native", or why no model can."""
    if launch.description.native_operators:
        used = launch.compiled.cpu_instructions
        return f"native operators: {used}" if used else "native operators"
    if operators != "native":
        return f"no native operators: {operators}"
    device, dtype = launch.compiled.device, launch.compiled.dtype
    none = device == "cpu" and dtype == "float16"
    return f"no native operators: {'there are none for float16 on the CPU' if none else 'compiled without them'}"


def _model(launch: Launch, placement: str) -> str:
    model, precision = launch.description, _precision(launch)
    return f"{launch.name} ({model.family}, {model.layers} layers, {model.hidden_size} wide{placement}{precision})"


def _precision(launch: Launch) -> str:
    """Return the measured loss of a precision below float32, and if it is no faster either; empty for float32."""
    if launch.compiled.dtype == "float32":
        return ""
    cosine = launch.description.precision_test.min_cosine
    measured = f", least cosine of a token's state to float32 {cosine:.5f} on made-up texts"
    return f"{measured}, {launch.slowness}" if launch.slowness else measured


def _placement(launch: Launch) -> str:
    workers, threads = launch.workers, launch.threads
    each = f" of {threads} thread{'s' if threads > 1 else ''}" if launch.compiled.device == "cpu" else ""
    pinned = launch.choice.device if ":" in launch.choice.device else launch.compiled.device
    return f"{pinned} {launch.compiled.dtype} | {workers} worker{'s' if workers > 1 else ''}{each}"


def fail(message: object) -> int:
    """Write an error as one line on standard error, as a log record where that is no terminal; return the exit code."""
    if logs.structured():
        log.error("%s", message)
    else:
        print(f"bertstream: error: {message}", file=sys.stderr)
    return 1


__all__ = ["ChildFailed", "ConfigError", "fail", "serve"]
