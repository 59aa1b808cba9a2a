"""The configuration file of `serve deploy`: an application for each model, behind one gRPC proxy on each node. Pure.

An application for each model, and not one replica for all of them or Serve's multiplexing, since each has workers of
its own in any case: so each is scaled by its own load, and replaced without the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.ray.serve.application import DEPLOYMENT
from bertstream.ray.serve.autoscaling import TOKENS_PER_REPLICA
from bertstream.ray.serve.contract import application_of
from bertstream.server.config import ConfigError, ServeConfig
from bertstream.server.embedded import OPTIONS
from bertstream.server.supervisor.sources import ModelChoice, chosen_models
from bertstream.workers.compile.compiling import EMBEDDED_NAME

IMPORT_PATH = "bertstream.ray.serve:application"
SERVICER_FUNCTION = "bertstream.ray.serve.relay.add_bertstream"
HTTP_PORT = 8000  # Ray's default
POLICY = "bertstream.ray.serve.autoscaling:TokensWaiting"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a replica is, and how many there are: `replicas`, or from `least` to `replicas` by the load."""

    replicas: int = 1
    least: int = 0  # 0: always as many
    cpus: float = 1.0
    gpus: float = 0.0
    tokens_per_replica: int = TOKENS_PER_REPLICA

    def check(self) -> None:
        """Raise ConfigError where it makes no sense."""
        if self.replicas < 1:
            raise ConfigError(f"--replicas must be at least 1, not {self.replicas}")
        if not 0 <= self.least <= self.replicas:
            raise ConfigError(f"--min-replicas must be at most --replicas, {self.replicas}, not {self.least}")
        if self.cpus <= 0 or self.gpus < 0:
            raise ConfigError("--cpus must be above 0, and --gpus must not be below")


def document(config: ServeConfig, scale: Scale, port: int = 9000, http_port: int = HTTP_PORT) -> dict[str, Any]:
    """Return the configuration for these models, with the options of each that are not the defaults.

    http_port: of Ray's own proxies for HTTP, which it always starts; they have no model to ask. Raises ConfigError.
    """
    scale.check()
    choices = chosen_models(config)
    names = [application_of(choice.name) for choice in choices]
    if len(set(names)) < len(names):
        raise ConfigError(f"two applications would have one name: {', '.join(names)}")
    return {
        "proxy_location": "EveryNode",
        **({"http_options": {"port": http_port}} if http_port != HTTP_PORT else {}),
        "grpc_options": {"port": port, "grpc_servicer_functions": [SERVICER_FUNCTION]},
        "applications": [_application(choice, config, scale) for choice in choices],
    }


def _application(choice: ModelChoice, config: ServeConfig, scale: Scale) -> dict[str, Any]:
    name = application_of(choice.name)
    return {
        "name": name,
        "import_path": IMPORT_PATH,
        "route_prefix": f"/{name}",  # of HTTP, which answers nothing; without it Ray knows no endpoint at all
        "args": {"models": [_model(choice)], **_options(choice, config)},
        "deployments": [_deployment(scale)],
    }


def _model(choice: ModelChoice) -> str:
    """Return the model as an option; a directory by its whole path, as replicas run elsewhere."""
    where = choice.source or EMBEDDED_NAME
    if Path(where).is_dir():
        where = str(Path(where).absolute())
    return where if where == choice.name else f"{choice.name}={where}"


def _options(choice: ModelChoice, config: ServeConfig) -> Mapping[str, Any]:
    """Return the options that are not the defaults; those of single models, for this one."""
    default = ServeConfig()
    names = [name for name in OPTIONS if name not in ("models", "task")]
    changed = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(default, name)}
    table = config.tables.get(choice.name)
    own = {} if table is None else {k: v for k, v in dataclasses.asdict(table).items() if v is not None}
    own.pop("source", None)
    tasks = dict(config.tasks)
    task = tasks.get(choice.name) or tasks.get("")
    return {**changed, **({"task": [task]} if task else {}), **({"model": {choice.name: own}} if own else {})}


def _deployment(scale: Scale) -> dict[str, Any]:
    resources = {"num_cpus": scale.cpus, **({"num_gpus": scale.gpus} if scale.gpus else {})}
    deployment: dict[str, Any] = {"name": DEPLOYMENT, "ray_actor_options": resources}
    if not scale.least:
        return {**deployment, "num_replicas": scale.replicas}
    policy = {"policy_function": POLICY, "policy_kwargs": {"tokens_per_replica": scale.tokens_per_replica}}
    bounds = {"min_replicas": scale.least, "max_replicas": scale.replicas}
    return {**deployment, "autoscaling_config": {**bounds, "policy": policy}}


def names_of(deployed: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the applications in a configuration."""
    return [application["name"] for application in deployed["applications"]]
