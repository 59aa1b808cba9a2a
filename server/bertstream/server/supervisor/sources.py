"""Which models are to be served, and with which options: from the command line, the configuration, or LoadModel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.server.config import ConfigError, ModelTable, ServeConfig
from bertstream.workers.compile.compiling import EMBEDDED_NAME, CompileModel


@dataclass(frozen=True, slots=True)
class Source:
    """A model to serve: the name that requests use, and where it comes from ("" is the embedded model)."""

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model to serve, with all options in effect for it. A 0 means that the server chooses."""

    name: str
    source: str
    device: str
    dtype: str
    optimize: str
    workers: int
    threads: int
    batch_tokens: int
    queue_tokens: int
    max_length: int
    task: str = ""  # what the checkpoint's head is for, whatever the checkpoint says
    allow_unsupported_modules: bool = False
    hub: bool = False  # whether only the hub is searched, not the file system

    @property
    def to_compile(self) -> CompileModel:
        allow = self.allow_unsupported_modules
        return CompileModel(self.name, self.source, self.device, self.dtype, self.hub, self.task, allow)


def parse_sources(models: Sequence[str]) -> tuple[Source, ...]:
    """Parse MODEL arguments: NAME=SOURCE, a directory (named like its last part) or a hub name. Raises ConfigError."""
    sources = tuple(_parse_source(text) for text in models) or (Source(EMBEDDED_NAME, ""),)
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        name = min(twice)
        source = next(each.source for each in reversed(sources) if each.name == name)
        raise ConfigError(f"two models are called {name!r}; name them, as NAME={source or name}")
    return sources


def _parse_source(text: str) -> Source:
    name, equals, source = text.partition("=")
    if not equals:
        name, source = (Path(text).resolve().name if Path(text).is_dir() else text), text
    if not name or not source:
        raise ConfigError(f"{text!r} is not a model: give a hub name, a directory, or NAME=either")
    return Source(name, "" if source == EMBEDDED_NAME and not Path(source).exists() else source)


def chosen_models(config: ServeConfig) -> tuple[ModelChoice, ...]:
    """Return all models to serve from the start, the default one first. Raises ConfigError.

    They are those of `models`, each with its table if it has one, then those of tables that have a source. A name
    among `models` means its table's source where there is one, so that `models` can set the order.
    """
    own = {name: f"{name}={table.source}" for name, table in config.tables.items() if table.source is not None}
    texts = [own.get(text, text) for text in config.models]
    sources = parse_sources([*texts, *(text for text in own.values() if text not in texts)])
    if strange := {name for name, _ in config.tasks if name} - {each.name for each in sources}:
        raise ConfigError(f"task: there is no model {min(strange)!r} to serve")
    if idle := config.tables.keys() - {each.name for each in sources}:
        raise ConfigError(f"model.{min(idle)}.source is missing, and no model among `models` is called so")
    return tuple(choose(config, each.name, each.source) for each in sources)


def choose(
    config: ServeConfig,
    name: str,
    source: str,
    *,
    dtype: str = "",
    workers: int = 0,
    allow_unsupported_modules: bool = False,
    hub: bool = False,
) -> ModelChoice:
    """Return a model with the options given here, else those of its table, else those of all models."""
    table = config.tables.get(name, ModelTable())

    def option(key: str) -> Any:
        own = getattr(table, key)
        return getattr(config, key) if own is None else own

    return ModelChoice(
        name=name,
        source=source,
        device=option("device"),
        dtype=dtype or option("dtype"),
        optimize=option("optimize"),
        workers=workers or option("workers"),
        threads=option("threads"),
        batch_tokens=option("batch_tokens"),
        queue_tokens=option("queue_tokens"),
        max_length=table.max_length or 0,
        task=_task(config, name),
        allow_unsupported_modules=allow_unsupported_modules or option("allow_unsupported_modules"),
        hub=hub,
    )


def _task(config: ServeConfig, name: str) -> str:
    """Return the task set for this model, else the one set for all models, else an empty text."""
    tasks = dict(config.tasks)
    return tasks.get(name) or config.tables.get(name, ModelTable()).task or tasks.get("", "")
